//! Wakes the control loop when a file (`nodes.conf`) was written in place or renamed over.
//!
//! In: inotify on the file's folder. Out: a wake-up without facts; the woken one looks again.
//! Where inotify does not work the watch warns once and never wakes: the timer must do. The timer
//! also calls [`FolderWatch::rearm`], which finds a folder that was replaced or appeared late.
//! Not here: reading the file.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use inotify::{EventMask, EventOwned, EventStream, Inotify, StreamExt, WatchDescriptor, WatchMask};

/// Room for many events at once, in bytes; one takes 16 and its name.
const BUFFER_BYTES: usize = 2048;

/// A watch on one file through its folder.
pub struct FolderWatch {
    folder: PathBuf,
    file_name: OsString,
    events: Option<EventStream<[u8; BUFFER_BYTES]>>,
    armed: Option<Armed>,
    warned: bool,
    missed_something: bool,
}

/// The watch that the kernel holds, and the folder that it is on.
struct Armed {
    watch: WatchDescriptor,
    device_and_inode: (u64, u64),
}

impl FolderWatch {
    /// Watches the file at `path`, which need not exist, nor its folder. Never fails: see
    /// [`available`](Self::available). Must be called within a tokio runtime.
    pub fn new(path: &Path) -> Self {
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let mut watch = Self {
            folder: folder.unwrap_or(Path::new(".")).to_owned(),
            file_name: path.file_name().unwrap_or_default().to_owned(),
            events: None,
            armed: None,
            warned: false,
            missed_something: false,
        };
        watch.rearm();
        watch.missed_something = false;
        watch
    }

    /// Whether changes will wake anyone at present.
    pub fn available(&self) -> bool {
        self.armed.is_some()
    }

    /// Watches again if the folder is another one than before, or could not be watched; to be
    /// called on every timer tick. Costs one `stat` when there is nothing to do. A watch that had
    /// to be made anew wakes once, because something may have happened meanwhile.
    pub fn rearm(&mut self) {
        match self.try_arm() {
            Ok(made_anew) => {
                self.missed_something |= made_anew;
                self.warned = false;
            }
            Err(error) => {
                self.armed = None;
                if !self.warned {
                    let folder = self.folder.display();
                    tracing::warn!(%folder, %error, "cannot watch the folder, the timer alone must do");
                }
                self.warned = true;
            }
        }
    }

    /// Returns after the file was written or replaced, or its folder went away; a burst of events
    /// is one wake-up. Pends for ever while there is no watch. May be dropped at any await.
    pub async fn changed(&mut self) {
        if !std::mem::take(&mut self.missed_something) {
            std::future::poll_fn(|context| self.drain(context)).await;
        }
    }

    fn try_arm(&mut self) -> io::Result<bool> {
        let meta = fs::metadata(&self.folder)?;
        let device_and_inode = (meta.dev(), meta.ino());
        if let Some(armed) = &self.armed
            && armed.device_and_inode == device_and_inode
        {
            return Ok(false);
        }
        let events = match &mut self.events {
            Some(events) => events,
            none => none.insert(Inotify::init()?.into_event_stream([0; BUFFER_BYTES])?),
        };
        let mut watches = events.watches();
        if let Some(old) = self.armed.take() {
            // Fails when the old folder is gone, and its watch with it.
            let _ = watches.remove(old.watch);
        }
        let mask = WatchMask::CLOSE_WRITE
            | WatchMask::MOVED_TO
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        let watch = watches.add(&self.folder, mask)?;
        self.armed = Some(Armed {
            watch,
            device_and_inode,
        });
        Ok(true)
    }

    /// Reads every event there is; ready if one of them is a reason to look again.
    fn drain(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let mut wake = Poll::Pending;
        while let Some(events) = &mut self.events
            && let Poll::Ready(event) = events.poll_next_unpin(context)
        {
            match event {
                Some(Ok(event)) if !self.matters(&event) => {}
                Some(Ok(_)) => wake = Poll::Ready(()),
                Some(Err(_)) | None => {
                    // The next `rearm` starts from nothing.
                    self.events = None;
                    self.armed = None;
                    wake = Poll::Ready(());
                }
            }
        }
        wake
    }

    fn matters(&mut self, event: &EventOwned) -> bool {
        let gone =
            EventMask::IGNORED | EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::UNMOUNT;
        if event.mask.contains(EventMask::Q_OVERFLOW) {
            return true;
        }
        let Some(armed) = &self.armed else {
            return false;
        };
        if armed.watch != event.wd {
            return false;
        }
        if event.mask.intersects(gone) {
            self.armed = None;
            return true;
        }
        event.name.as_ref() == Some(&self.file_name)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn wakes(watch: &mut FolderWatch) -> bool {
        timeout(Duration::from_secs(5), watch.changed())
            .await
            .is_ok()
    }

    async fn stays_quiet(watch: &mut FolderWatch) -> bool {
        timeout(Duration::from_millis(50), watch.changed())
            .await
            .is_err()
    }

    fn watched(dir: &Path) -> (PathBuf, FolderWatch) {
        let file = dir.join("nodes.conf");
        let watch = FolderWatch::new(&file);
        (file, watch)
    }

    #[tokio::test]
    async fn writes_in_place_and_renames_wake() {
        let dir = tempfile::tempdir().unwrap();
        let (file, mut watch) = watched(dir.path());
        assert!(watch.available());
        assert!(stays_quiet(&mut watch).await);
        fs::write(&file, "one").unwrap();
        assert!(wakes(&mut watch).await);
        let temporary = dir.path().join("nodes.conf.tmp-1");
        fs::write(&temporary, "two").unwrap();
        assert!(stays_quiet(&mut watch).await);
        fs::rename(&temporary, &file).unwrap();
        assert!(wakes(&mut watch).await);
        assert!(stays_quiet(&mut watch).await);
    }

    #[tokio::test]
    async fn other_files_do_not_wake_and_bursts_wake_once() {
        let dir = tempfile::tempdir().unwrap();
        let (file, mut watch) = watched(dir.path());
        fs::write(dir.path().join("dump.rdb"), "x").unwrap();
        assert!(stays_quiet(&mut watch).await);
        for n in 0..500 {
            fs::write(&file, n.to_string()).unwrap();
            fs::write(dir.path().join("a-file-with-a-rather-long-name"), "x").unwrap();
        }
        assert!(wakes(&mut watch).await);
        assert!(stays_quiet(&mut watch).await);
    }

    #[tokio::test]
    async fn a_folder_that_appears_later_is_found_on_the_next_tick() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        let (file, mut watch) = watched(&folder);
        assert!(!watch.available());
        assert!(stays_quiet(&mut watch).await);
        watch.rearm();
        fs::create_dir(&folder).unwrap();
        watch.rearm();
        assert!(watch.available());
        assert!(wakes(&mut watch).await, "what was missed");
        watch.rearm();
        assert!(stays_quiet(&mut watch).await);
        fs::write(&file, "x").unwrap();
        assert!(wakes(&mut watch).await);
    }

    #[tokio::test]
    async fn a_replaced_folder_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("data");
        fs::create_dir(&folder).unwrap();
        let (file, mut watch) = watched(&folder);
        fs::rename(&folder, dir.path().join("old")).unwrap();
        assert!(wakes(&mut watch).await);
        fs::create_dir(&folder).unwrap();
        watch.rearm();
        assert!(wakes(&mut watch).await);
        fs::write(dir.path().join("old/nodes.conf"), "x").unwrap();
        assert!(stays_quiet(&mut watch).await);
        fs::write(&file, "x").unwrap();
        assert!(wakes(&mut watch).await);
        fs::remove_dir_all(&folder).unwrap();
        assert!(wakes(&mut watch).await);
        assert!(!watch.available());
    }
}
