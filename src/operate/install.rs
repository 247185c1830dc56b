//! Copies this binary into a folder that another container shares, so that its preStop hook can run
//! it there: that container's image has none.

use std::fs::{File, Permissions};
use std::io::Result;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Its name there.
const NAME: &str = "redis-sidecar";

/// Whole or not at all: whoever runs it meanwhile runs the old or the new one.
pub(super) fn install(folder: &Path) -> Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let temporary = folder.join(format!(".{NAME}.{}", std::process::id()));
    let target = folder.join(NAME);
    let copied = copy(&temporary).and_then(|()| std::fs::rename(&temporary, &target));
    if copied.is_err() {
        // What is left of it is in nobody's way.
        let _ = std::fs::remove_file(&temporary);
    }
    copied?;
    File::open(folder)?.sync_all()?;
    Ok(target)
}

fn copy(temporary: &Path) -> Result<()> {
    let mut from = File::open(std::env::current_exe()?)?;
    let mut to = File::create(temporary)?;
    std::io::copy(&mut from, &mut to)?;
    to.set_permissions(Permissions::from_mode(0o755))?;
    to.sync_all()
}
