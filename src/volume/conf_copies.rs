//! The copies of nodes.conf beside the data, and nodes.conf itself when it has to be put back.
//!
//! Not here: whether a copy is good, and when nodes.conf may be written (`decide/keep`,
//! `decide/repair`).

use super::replace;
use crate::file_stamp::FileStamp;
use crate::model::kept_conf::{ConfLock, DataOnVolume};
use crate::model::node_table::NodesConf;
use crate::model::observation::NodesFile;
use crate::observe::nodes_conf;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Their names in `DATA_DIR`, with a number at the end: 1 is the newest.
const COPY: &str = "redis-sidecar.nodes.conf";
/// How many are kept. The newest good one is what counts; the others are there in case it is damaged.
const COPIES: usize = 3;
/// What a nodes.conf that had to be replaced is kept as, for a person to look at.
const DAMAGED: &str = "redis-sidecar.nodes.conf.damaged";
/// Redis writes with its own user, which may share only the group with the agent.
const MODE: u32 = 0o664;

/// The copies in one folder, and the nodes.conf that they are of.
pub struct ConfCopies {
    conf: PathBuf,
    folder: PathBuf,
    seen: Vec<Option<(FileStamp, NodesFile)>>,
}

impl ConfCopies {
    /// Nothing is read yet.
    pub fn new(data_dir: &Path, nodes_conf: &Path) -> ConfCopies {
        ConfCopies {
            conf: nodes_conf.to_owned(),
            folder: data_dir.to_owned(),
            seen: vec![None; COPIES],
        }
    }

    fn copy(&self, number: usize) -> PathBuf {
        self.folder.join(format!("{COPY}.{number}"))
    }

    /// The copies that are there, the newest first. Read again only when they have changed.
    pub fn read(&mut self) -> Vec<NodesFile> {
        for number in 1..=COPIES {
            let path = self.copy(number);
            let stamp = std::fs::metadata(&path).map(|meta| FileStamp::of(&meta));
            let seen = &mut self.seen[number - 1];
            match (stamp, &*seen) {
                (Ok(stamp), Some((known, _))) if stamp == *known => {}
                (Ok(stamp), _) => *seen = Some((stamp, nodes_conf::read(&path))),
                (Err(_), _) => *seen = None,
            }
        }
        let there = self.seen.iter().flatten();
        there.map(|(_, file)| file.clone()).collect()
    }

    /// Makes this the newest copy. The older ones move up only when it is safely there.
    pub fn keep(&self, conf: &NodesConf) -> Result<()> {
        let fresh = self.folder.join(format!("{COPY}.new"));
        replace(&fresh, conf.to_string().as_bytes(), MODE)?;
        for number in (1..COPIES).rev() {
            match std::fs::rename(self.copy(number), self.copy(number + 1)) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        std::fs::rename(&fresh, self.copy(1))?;
        File::open(&self.folder)?.sync_all()
    }

    /// Puts `conf` in the place of nodes.conf, if that is still `over` and nobody holds it. What was
    /// there is kept beside the copies.
    pub fn restore(&self, conf: &NodesConf, over: &NodesFile) -> Result<()> {
        let changed = || Error::other("nodes.conf has changed meanwhile");
        if nodes_conf::read(&self.conf) != *over {
            return Err(changed());
        }
        let missing = *over == NodesFile::Missing;
        // Held until the new file is in place: a Redis that starts now exits, and is started again.
        let old = OpenOptions::new()
            .read(true)
            .write(true)
            .create(missing)
            .truncate(false)
            .mode(MODE)
            .open(&self.conf)?;
        lock(&old)?;
        let empty = old.metadata()?.len() == 0;
        let same = if missing {
            empty
        } else {
            nodes_conf::read(&self.conf) == *over
        };
        if !same {
            return Err(changed());
        }
        if !empty {
            // It is worth keeping, and not worth failing for on a full volume.
            let _ = std::fs::copy(&self.conf, self.folder.join(DAMAGED));
        }
        replace(&self.conf, conf.to_string().as_bytes(), MODE)
    }

    /// Tries Redis's lock for a moment; makes no file.
    pub fn lock(&self) -> ConfLock {
        let file = match OpenOptions::new().read(true).open(&self.conf) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return ConfLock::Free,
            Err(error) => return ConfLock::Unknown(error.to_string()),
        };
        match file.try_lock() {
            Ok(()) => ConfLock::Free,
            Err(TryLockError::WouldBlock) => ConfLock::Held,
            Err(TryLockError::Error(error)) => ConfLock::Unknown(error.to_string()),
        }
    }

    /// Whether there is anything in the folder that may be Redis's data: a folder with a file in it, or a file
    /// that begins as one of data does. A `users.acl` or a log that shares the volume is none.
    pub fn data(&self) -> DataOnVolume {
        let Ok(entries) = std::fs::read_dir(&self.folder) else {
            return DataOnVolume::Unknown;
        };
        let data = |entry: std::fs::DirEntry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let ours = name.starts_with("redis-sidecar") || name.starts_with("nodes.conf");
            let nodes_conf = self.conf.file_name() == Some(entry.file_name().as_os_str());
            let other = name == "lost+found" || name.starts_with('.');
            !ours && !nodes_conf && !other && holds_something(&entry.path())
        };
        if entries.flatten().any(data) {
            DataOnVolume::Some
        } else {
            DataOnVolume::None
        }
    }
}

/// A file of data, or a folder with a file in it that is not empty. What cannot be looked at may be data.
fn holds_something(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.any(|entry| {
            let meta = entry.and_then(|entry| entry.metadata());
            meta.map_or(true, |meta| meta.is_dir() || meta.len() > 0)
        }),
        Err(_) => begins_like_data(path).unwrap_or(true),
    }
}

/// As a snapshot does (`rdbSaveRio`), or an append-only file: with one, a command, or an annotation.
fn begins_like_data(path: &Path) -> Result<bool> {
    let mut first = Vec::new();
    File::open(path)?.take(6).read_to_end(&mut first)?;
    let begins = |with: &&[u8]| first.starts_with(with);
    Ok([&b"REDIS"[..], b"VALKEY", b"*", b"#TS:"].iter().any(begins))
}

fn lock(file: &File) -> Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            Err(Error::other("another process holds the lock on nodes.conf"))
        }
        // A volume without locks (some network volumes): then Redis has none either.
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(()),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Gives a new file the owner that the folder's files have, where this process may: an init container
/// may run as root.
pub(super) fn like_its_folder(file: &File, folder: &Path, mode: u32) -> Result<()> {
    // Some volumes know no permissions; where they matter, an error shows when the file is used.
    let _ = file.set_permissions(std::fs::Permissions::from_mode(mode));
    let (own, wanted) = (file.metadata()?, std::fs::metadata(folder)?);
    if own.uid() != wanted.uid() || own.gid() != wanted.gid() {
        // Not allowed is as it should be: then both containers share a user or a group.
        let _ = std::os::unix::fs::fchown(file, Some(wanted.uid()), Some(wanted.gid()));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
