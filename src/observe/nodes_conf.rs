//! Reads nodes.conf as text. Redis writes it; nobody here does.

use crate::model::observation::NodesFile;
use std::io::ErrorKind;
use std::path::Path;

/// More than a cluster of the greatest size writes (some 300 bytes a node).
const BYTES_MAX: u64 = 4 << 20;

/// The file as it is now. It may be caught in the middle of a write: then it is torn.
pub fn read(path: &Path) -> NodesFile {
    let size = match std::fs::metadata(path) {
        Ok(meta) => meta.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return NodesFile::Missing,
        Err(error) => return NodesFile::Unreadable(error.to_string()),
    };
    if size > BYTES_MAX {
        return NodesFile::Unreadable(format!("{size} bytes are too many for a nodes.conf"));
    }
    match std::fs::read(path) {
        Ok(bytes) if bytes.is_empty() => NodesFile::Empty,
        Ok(bytes) => match String::from_utf8_lossy(&bytes).parse() {
            Ok(conf) => NodesFile::Read(conf),
            Err(error) => NodesFile::Torn(error.to_string()),
        },
        Err(error) => NodesFile::Unreadable(error.to_string()),
    }
}
