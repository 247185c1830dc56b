//! The agent's own files beside the data: read every round, written whole and atomically.

pub mod conf_copies;
pub mod history_file;

use crate::model::observation::{Volume, VolumeNote};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// For what only the agent writes.
const MODE: u32 = 0o644;

/// Its name, in `DATA_DIR`.
pub const FILE_NAME: &str = "redis-sidecar.json";

/// The file on the volume.
pub struct NoteFile {
    path: PathBuf,
}

impl NoteFile {
    /// The file in `data_dir`, which need not exist yet.
    pub fn new(data_dir: &Path) -> NoteFile {
        NoteFile {
            path: data_dir.join(FILE_NAME),
        }
    }

    /// What is there. A folder that is missing or cannot be entered is not a blank volume.
    pub fn read(&self) -> Volume {
        match std::fs::read(&self.path) {
            Ok(text) => match serde_json::from_slice(&text) {
                Ok(note) => Volume::Says(note),
                Err(error) => Volume::Unreadable(format!("{}: {error}", self.path.display())),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => match self.path.parent() {
                Some(folder) if folder.is_dir() => Volume::Blank,
                _ => Volume::Unreadable(format!("{}: no such folder", self.path.display())),
            },
            Err(error) => Volume::Unreadable(format!("{}: {error}", self.path.display())),
        }
    }

    /// Replaces it: a temporary file, synced, renamed over the old one, and the folder synced.
    pub fn write(&self, note: &VolumeNote) -> std::io::Result<()> {
        replace(&self.path, &serde_json::to_vec(note)?, MODE)
    }
}

/// Replaces a file, or makes it: a temporary file, synced, renamed over the old one, and the folder
/// synced. A failed attempt leaves the old one as it was, and nothing beside it.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> std::io::Result<()> {
    let mut name = path.as_os_str().to_owned();
    name.push(".tmp");
    let temporary = PathBuf::from(name);
    let folder = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = std::fs::File::create(&temporary)?;
        conf_copies::like_its_folder(&file, folder, mode)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&temporary, path)
    };
    if let Err(error) = write() {
        // On a full volume it would take the room that is wanted.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::observation::CopyConfig;
    use std::collections::BTreeMap;

    #[test]
    fn what_is_written_is_read_back_and_garbage_is_unknown() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = NoteFile::new(folder.path());
        assert_eq!(file.read(), Volume::Blank);
        let note = VolumeNote {
            member: true,
            cluster: "default/redis-app".to_owned(),
            pods: [(
                "49f14a44a75da5fa4d7727621f873c3f64c84957"
                    .parse()
                    .expect("an ID"),
                3,
            )]
            .into(),
            foreign: BTreeMap::new(),
            gate_run_id: Some("x".to_owned()),
            node_timeout_ms: Some(5000),
            paused: None,
            may_have_data: BTreeMap::from([("5".repeat(40).parse().expect("an ID"), true)]),
            were_here: BTreeMap::from([(
                "6".repeat(40).parse().expect("an ID"),
                "10.0.0.6:6379".parse().expect("an address"),
            )]),
            copies: Some(CopyConfig {
                diskless: false,
                delay_s: 1,
                max_replicas: None,
            }),
        };
        file.write(&note).expect("written");
        assert_eq!(file.read(), Volume::Says(note));
        std::fs::write(folder.path().join(FILE_NAME), "{\"member\":tr").expect("written");
        assert!(matches!(file.read(), Volume::Unreadable(_)));
        let missing = NoteFile::new(&folder.path().join("missing"));
        assert!(matches!(missing.read(), Volume::Unreadable(_)));
    }
}
