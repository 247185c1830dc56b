//! Tells two versions of a file apart by one `stat`, without reading it.
//!
//! The inode counts, because Kubernetes updates a mounted file by swapping a symlink.
//! Not here: reading, and who cares about which file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;

/// Equal stamps mean that the file has not changed since.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileStamp {
    device: u64,
    inode: u64,
    len_bytes: u64,
    modified_s_ns: (i64, i64),
    changed_s_ns: (i64, i64),
}

impl FileStamp {
    /// The stamp of the file that this metadata is about.
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            len_bytes: meta.len(),
            modified_s_ns: (meta.mtime(), meta.mtime_nsec()),
            changed_s_ns: (meta.ctime(), meta.ctime_nsec()),
        }
    }
}
