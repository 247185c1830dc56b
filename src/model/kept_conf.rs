//! What there is besides nodes.conf itself to tell which node this volume belongs to. Values only.

use super::observation::NodesFile;

/// The copies of nodes.conf on the volume, and what a repair of nodes.conf rests on besides.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptConf {
    /// The copies that are there, the newest first.
    pub copies: Vec<NodesFile>,
    /// Why the last attempt to write a copy, or nodes.conf from one, failed.
    pub error: Option<String>,
    /// Whether a Redis holds nodes.conf.
    pub lock: ConfLock,
    /// Whether there is anything on the volume that may be Redis's data.
    pub data: DataOnVolume,
}

/// Redis's lock on nodes.conf.
///
/// Redis before 7.2 holds it for as long as it runs. Later ones, and Valkey, lock the file that was
/// there at their start, and replace it with each write: then a free lock proves nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ConfLock {
    /// Not tried. A try takes the lock for a moment, and a Redis that starts then would exit, so only
    /// `init` tries, which Redis starts after.
    #[default]
    NotTried,
    /// Nobody holds it.
    Free,
    /// Another process holds it.
    Held,
    /// It cannot be told.
    Unknown(String),
}

/// Whether Redis's data is on the volume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DataOnVolume {
    /// Not known.
    #[default]
    Unknown,
    /// Nothing begins as Redis writes it.
    None,
    /// Something does, or cannot be looked at.
    Some,
}
