//! The lines of a scenario that say what nodes.conf and its copies are: `file ..` and `kept ..`.

use super::*;
use redis_sidecar::model::kept_conf::{ConfLock, DataOnVolume};

impl World {
    pub(super) fn read_file(&mut self, words: &[&str]) -> Result<(), String> {
        self.file = match words {
            ["as-table"] => NodesFile::Read(self.conf(self.table.clone())?),
            [one] => self.one_file(one)?,
            _ => return Err("takes one word".to_owned()),
        };
        Ok(())
    }

    /// `kept p1 torn data lock=free error=..`: the copies, the newest first, and what else there is.
    pub(super) fn read_kept(&mut self, words: &[&str]) -> Result<(), String> {
        self.kept = KeptConf::default();
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("data", "") => self.kept.data = DataOnVolume::Some,
                ("data", "none") => self.kept.data = DataOnVolume::None,
                ("lock", "free") => self.kept.lock = ConfLock::Free,
                ("lock", "held") => self.kept.lock = ConfLock::Held,
                ("error", why) => self.kept.error = Some(why.replace('_', " ")),
                ("as-table", "") => {
                    let conf = self.conf(self.table.clone())?;
                    self.kept.copies.push(NodesFile::Read(conf));
                }
                ("settled", id) => {
                    let conf = self.settled(id)?;
                    self.kept.copies.push(NodesFile::Read(conf));
                }
                _ => {
                    let copy = self.one_file(word)?;
                    self.kept.copies.push(copy);
                }
            }
        }
        Ok(())
    }

    fn one_file(&self, word: &str) -> Result<NodesFile, String> {
        Ok(match word {
            "missing" => NodesFile::Missing,
            "empty" => NodesFile::Empty,
            "unreadable" => NodesFile::Unreadable("Permission denied".to_owned()),
            "torn" => NodesFile::Torn("no final `vars` line".to_owned()),
            id => match id.strip_prefix("settled=") {
                Some(id) => NodesFile::Read(self.settled(id)?),
                None => NodesFile::Read(self.conf(vec![line(&format!("{id} me,master"))])?),
            },
        })
    }

    /// The planned part of this pod under this ID, and everybody else's.
    fn settled(&self, id: &str) -> Result<NodesConf, String> {
        let lines = (0..self.policy.expected()).map(|ordinal| {
            let (slots, master) = self.planned(ordinal);
            let (name, me) = if ordinal == self.policy.me.ordinal {
                (id.to_owned(), "me,")
            } else {
                (format!("p{ordinal}"), "")
            };
            let epoch = self.policy.expected() - ordinal;
            line(&match master {
                None => format!("{name} @{ordinal} {me}master {slots} epoch={epoch}"),
                Some(master) => format!("{name} @{ordinal} {me}slave of=p{master}"),
            })
        });
        self.conf(lines.collect())
    }

    fn conf(&self, lines: Vec<Vec<String>>) -> Result<NodesConf, String> {
        let text: String = lines.iter().map(|l| self.cluster_nodes(l)).collect();
        Ok(NodesConf {
            table: text.parse().map_err(|error| format!("{error}: {text}"))?,
            current_epoch: 6,
            last_vote_epoch: 0,
        })
    }
}

fn line(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}
