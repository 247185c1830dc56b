//! A Unix socket's address may have 107 bytes; a path of any length is reached through its folder's
//! file descriptor. Taking the place: under another name first, so that nobody finds a socket that
//! anybody may write to, or a moment without one.

use std::fs::{DirBuilder, File, Permissions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use tokio::net::UnixListener;

/// `sun_path` without its final zero.
const PATH_BYTES_MAX: usize = 107;

/// A path that is short enough for as long as `_folder` is open.
pub(super) struct Short {
    pub(super) path: PathBuf,
    _folder: Option<File>,
}

/// The same place by a short name.
pub(super) fn short(path: &Path) -> Result<Short> {
    if path.as_os_str().len() <= PATH_BYTES_MAX {
        let path = path.to_owned();
        return Ok(Short {
            path,
            _folder: None,
        });
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Error::from(ErrorKind::InvalidInput));
    };
    let folder = File::open(folder)?;
    let path = Path::new("/proc/self/fd")
        .join(folder.as_raw_fd().to_string())
        .join(name);
    Ok(Short {
        path,
        _folder: Some(folder),
    })
}

/// A listening socket, and which file it is.
pub(super) struct Bound {
    pub(super) listener: UnixListener,
    path: PathBuf,
    device_and_inode: (u64, u64),
}

impl Bound {
    /// Whether the socket is still what is found there.
    pub(super) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|found| found == self.device_and_inode)
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        if self.is_there() {
            // Who finds it sees that nobody listens; there is nobody left to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Listens at `path`, for this user alone. A socket that nobody listens on is replaced; anything else
/// that is there stays.
pub(super) fn bind(path: &Path) -> Result<Bound> {
    if let Ok(found) = std::fs::symlink_metadata(path) {
        if !found.file_type().is_socket() {
            let what = "there is something that is no socket";
            return Err(Error::new(ErrorKind::AlreadyExists, what));
        }
        if UnixStream::connect(short(path)?.path).is_ok() {
            let what = "another process listens there";
            return Err(Error::new(ErrorKind::AddrInUse, what));
        }
    }
    let folder = path.parent().unwrap_or(Path::new("."));
    let private = folder.join(format!(".redis-sidecar.{}", std::process::id()));
    // Left behind by a predecessor that had the same number.
    let _ = std::fs::remove_dir_all(&private);
    DirBuilder::new().mode(0o700).create(&private)?;
    let bound = bind_in(&private, path);
    let removed = std::fs::remove_dir_all(&private);
    let bound = bound?;
    removed?;
    Ok(bound)
}

fn bind_in(private: &Path, path: &Path) -> Result<Bound> {
    let inside = private.join("s");
    let listener = UnixListener::bind(short(&inside)?.path)?;
    std::fs::set_permissions(&inside, Permissions::from_mode(0o600))?;
    let device_and_inode = identity(&inside)?;
    std::fs::rename(&inside, path)?;
    Ok(Bound {
        listener,
        path: path.to_owned(),
        device_and_inode,
    })
}

fn identity(path: &Path) -> Result<(u64, u64)> {
    let found = std::fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}
