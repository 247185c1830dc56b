//! The history on the volume: one JSON line an event, appended; written anew when it gets too long.
//! Read once, at the start; after that memory has it all, also while the volume takes nothing.

use super::replace;
use crate::model::history::{BYTES_MAX, Event, History, HistorySeen};
use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Read, Result, Write};
use std::path::{Path, PathBuf};

/// Its name, in `DATA_DIR`.
pub const FILE_NAME: &str = "redis-sidecar.history.jsonl";
/// What is longer is not the agent's.
const READ_MAX: u64 = 4 << 20;
const MODE: u32 = 0o644;

/// The file, and what is in memory of it.
pub struct HistoryFile {
    path: PathBuf,
    history: History,
    unwritten: Vec<Event>,
    /// Bytes in the file, while it is known to end with a whole line.
    bytes: Option<usize>,
    /// Why the file could not be read: then it is not written over either.
    unreadable: Option<String>,
}

impl HistoryFile {
    /// Reads what is there.
    pub fn read(data_dir: &Path) -> HistoryFile {
        let path = data_dir.join(FILE_NAME);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(READ_MAX).read_to_end(&mut text));
        let unreadable = match read {
            Err(error) if error.kind() != ErrorKind::NotFound => Some(error.to_string()),
            _ => None,
        };
        let whole = text.is_empty() || text.ends_with(b"\n");
        HistoryFile {
            path,
            history: History::of_text(&String::from_utf8_lossy(&text)),
            unwritten: Vec::new(),
            bytes: whole.then_some(text.len()),
            unreadable,
        }
    }

    /// Adds events; they are told from now on, and written when that is ordered.
    pub fn add(&mut self, events: &[Event]) {
        self.history.extend(events.to_vec());
        self.unwritten.extend_from_slice(events);
        let surplus = self
            .unwritten
            .len()
            .saturating_sub(self.history.events().len());
        self.unwritten.drain(..surplus);
    }

    /// What there is to tell.
    pub fn all(&self) -> History {
        self.history.clone()
    }

    /// What a round should know of it.
    pub fn seen(&self, error: Option<&String>) -> HistorySeen {
        HistorySeen {
            last: self.history.events().last().map(|e| e.after.clone()),
            unwritten: self.unwritten.clone(),
            error: error.cloned(),
        }
    }

    /// Writes these, which have been added before.
    pub fn record(&mut self, events: &[Event]) -> Result<()> {
        if let Some(why) = &self.unreadable {
            return Err(Error::other(format!("it cannot be read: {why}")));
        }
        let more = History::text_of(events);
        match self.bytes {
            Some(bytes) if bytes + more.len() <= BYTES_MAX => {
                // Until it has succeeded the file may end with half a line.
                self.bytes = None;
                let mut file = OpenOptions::new()
                    .create(true)
                    .append(true)
                    .open(&self.path)?;
                file.write_all(more.as_bytes())?;
                file.sync_data()?;
                self.bytes = Some(bytes + more.len());
            }
            _ => {
                // Room for more, so that not every event has all of it written.
                let all = self.history.events();
                let newer = &all[all.len() / 4..];
                let kept = if History::text_of(all).len() > BYTES_MAX / 2 {
                    newer
                } else {
                    all
                };
                let text = History::text_of(kept);
                replace(&self.path, text.as_bytes(), MODE)?;
                self.bytes = Some(text.len());
            }
        }
        self.unwritten.retain(|event| !events.contains(event));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::history::Standing;
    use crate::model::time::WallTime;

    fn event(n: i64) -> Event {
        let detail = format!("{n} {}", "x".repeat(200));
        Event::new(WallTime(n), "moved", &detail, Standing::default())
    }

    #[test]
    fn events_survive_a_restart_and_the_file_stays_small() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut file = HistoryFile::read(folder.path());
        for n in 0..700 {
            file.add(&[event(n)]);
            file.record(&[event(n)]).expect("written");
            let bytes = std::fs::metadata(&file.path).expect("there").len();
            assert!(bytes <= BYTES_MAX as u64, "{bytes}");
        }
        assert!(file.seen(None).unwritten.is_empty());
        let again = HistoryFile::read(folder.path());
        let last = again.history.events();
        assert_eq!(last.last(), Some(&event(699)));
        assert!(last.len() > 100, "{}", last.len());

        // A crash in the middle of a line costs that line alone.
        let mut torn = OpenOptions::new()
            .append(true)
            .open(&again.path)
            .expect("opened");
        torn.write_all(b"{\"at\":\"19").expect("written");
        let mut after = HistoryFile::read(folder.path());
        after.add(&[event(700)]);
        after.record(&[event(700)]).expect("written");
        let again = HistoryFile::read(folder.path());
        assert_eq!(again.history.events().last(), Some(&event(700)));
        assert_eq!(
            again.history.events()[again.history.events().len() - 2],
            event(699)
        );
    }

    #[test]
    fn what_the_volume_does_not_take_is_told_from_memory_and_written_later() {
        let folder = tempfile::tempdir().expect("a folder");
        let data = folder.path().join("data");
        let mut file = HistoryFile::read(&data);
        file.add(&[event(1)]);
        assert!(file.record(&[event(1)]).is_err());
        assert_eq!(file.all().events(), [event(1)]);
        assert_eq!(file.seen(None).unwritten, [event(1)]);
        std::fs::create_dir(&data).expect("made");
        file.add(&[event(2)]);
        file.record(&[event(1), event(2)]).expect("written");
        assert_eq!(HistoryFile::read(&data).all(), file.all());
        assert!(file.seen(None).unwritten.is_empty());
    }
}
