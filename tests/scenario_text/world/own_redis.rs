//! The lines of a scenario that say what the own Redis answers: `redis ..` and `table ..`.

use super::*;

impl World {
    pub(super) fn read_redis(&mut self, words: &[&str]) -> Result<(), String> {
        let why = || "Connection refused".to_owned();
        if let ["silent", which] = words {
            self.redis = Answering::Silent(match *which {
                "not-asked" => Silence::NotAsked,
                "refused" => Silence::Refused(why()),
                "unreachable" => Silence::Unreachable(why()),
                "timed-out" => Silence::TimedOut,
                "auth" => Silence::Auth("WRONGPASS".to_owned()),
                "denied" => Silence::Denied("NOPERM cluster|nodes".to_owned()),
                "no-cluster" => Silence::NoCluster,
                "garbled" => Silence::Garbled("a number column is no number".to_owned()),
                _ => return Err("no such silence".to_owned()),
            });
            return Ok(());
        }
        self.redis = Answering::Up;
        for word in words {
            self.read_redis_word(word)?;
        }
        Ok(())
    }

    fn read_redis_word(&mut self, word: &str) -> Result<(), String> {
        let dialled = match word.strip_prefix("dials=") {
            Some(ip) => Some(self.ip(ip)?.to_string()),
            None => None,
        };
        let facts = &mut self.facts;
        let replica = &mut facts.server.replica;
        match word.split_once('=').unwrap_or((word, "")) {
            ("up", "") => {}
            ("loading", "") => self.redis = Answering::Loading,
            ("role", "master") => *replica = None,
            ("link", up) => replica.get_or_insert_default().link_up = up == "up",
            ("syncing", left) => {
                let replica = replica.get_or_insert_default();
                replica.syncing = left != "no";
                replica.sync_left_bytes = left.parse().ok();
            }
            ("dials", _) => {
                let replica = replica.get_or_insert_default();
                replica.master_host = dialled.unwrap_or_default();
                replica.master_port = 6379;
            }
            ("read", bytes) => replica.get_or_insert_default().read_offset = number(bytes)?,
            ("applied", bytes) => replica.get_or_insert_default().applied_offset = number(bytes)?,
            ("offset", pair) => {
                let (id, bytes) = pair.split_once(':').ok_or("takes id:bytes")?;
                facts.offsets.insert(node_id(id), number(bytes)?);
            }
            (name, value) => return self.read_redis_setting(name, value),
        }
        Ok(())
    }

    fn read_redis_setting(&mut self, name: &str, value: &str) -> Result<(), String> {
        let facts = &mut self.facts;
        let config = facts.config.get_or_insert_default();
        let text = |value: &str| match value {
            "unknown" => None,
            "-" => Some(String::new()),
            value => Some(value.to_owned()),
        };
        match name {
            "keys" => facts.server.keys = number(value)?,
            "expired" => facts.server.expired_keys = number(value)?,
            "uptime" => facts.server.uptime_s = number(value)?,
            "run" => facts.server.run_id = value.to_owned(),
            "sent" => facts.server.offset = number(value)?,
            "unsaved" => facts.server.persistence.unsaved = number(value)?,
            "aof" => {
                let disk = &mut facts.server.persistence;
                disk.aof = value != "off";
                disk.aof_written = value != "failing";
                disk.aof_flushed = matches!(value, "flushed" | "history");
                disk.aof_history = value == "history";
            }
            "state" => facts.state_ok = value == "ok",
            "epoch" => facts.current_epoch = number(value)?,
            "version" => facts.server.version = version(value)?,
            "no-failover" => {
                config.replica_no_failover = (value != "unknown").then_some(value == "yes");
            }
            "timeout" => config.node_timeout_ms = Some(number(value)?),
            "announce-ip" => config.announce_ip = text(value),
            "announce-hostname" => config.announce_hostname = text(value),
            "announce-nodename" => config.announce_nodename = text(value),
            "config" => (facts.config, facts.copies) = (None, None),
            "copies-after" if value == "unknown" => facts.copies = None,
            "copies-after" => {
                let copies = facts.copies.get_or_insert_default();
                copies.diskless = !value.ends_with("disk");
                let delay = value.split(',').next().unwrap_or_default();
                copies.delay_s = delay.parse().unwrap_or(5);
            }
            _ => return Err(format!("no such word: {name}")),
        }
        Ok(())
    }

    /// `table` alone begins an empty one, `table formed` the plan's; `table +` changes the last.
    pub(super) fn read_table(&mut self, words: &[&str]) -> Result<(), String> {
        match words {
            [] => self.table.clear(),
            ["+"] => {}
            ["formed"] => {
                self.table.clear();
                for ordinal in 0..self.policy.expected() {
                    let me = if ordinal == self.policy.me.ordinal {
                        "me,"
                    } else {
                        ""
                    };
                    let (slots, master) = self.planned(ordinal);
                    let epoch = self.policy.expected() - ordinal;
                    let line = match master {
                        None => format!("p{ordinal} {me}master {slots} epoch={epoch}"),
                        Some(master) => format!("p{ordinal} {me}slave of=p{master}"),
                    };
                    self.read_table_line(&line.split(' ').collect::<Vec<_>>())?;
                }
            }
            _ => return Err("takes nothing, `formed` or `+`".to_owned()),
        }
        Ok(())
    }

    pub(super) fn read_table_line(&mut self, words: &[&str]) -> Result<(), String> {
        let (id, rest) = words.split_first().ok_or("no ID")?;
        if let Some(gone) = id.strip_prefix('-') {
            self.table.retain(|line| line[0] != gone);
            return Ok(());
        }
        if rest.is_empty() {
            return Err("a node needs flags".to_owned());
        }
        let line: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        match self.table.iter_mut().find(|known| known[0] == *id) {
            Some(known) => *known = line,
            None => self.table.push(line),
        }
        Ok(())
    }

    /// The line as `CLUSTER NODES` prints it.
    pub(super) fn cluster_nodes(&self, words: &[String]) -> String {
        let (id, words) = words.split_first().expect("an ID");
        let mut ip = id
            .strip_prefix('p')
            .and_then(|ordinal| Some(ip_of(ordinal.parse().ok()?, self.ipv6).to_string()))
            .unwrap_or_default();
        let (mut flags, mut extra, mut master) = (String::new(), String::new(), "-".to_owned());
        let (mut epoch, mut link, mut slots) = ("0", "connected", String::new());
        let mut pong = None;
        for word in words {
            match word.split_once('=').unwrap_or((word, "")) {
                ("of", id) => master = node_id(id).to_string(),
                ("epoch", number) => epoch = number,
                ("pong", time) => pong = Some(time),
                ("host", ordinal) => {
                    extra = format!(",{}", hostname(ordinal.parse().expect("an ordinal")));
                }
                ("disconnected", _) => link = "disconnected",
                ("noip", _) => ip.clear(),
                _ if word.starts_with('@') || word.contains(':') || word.contains('.') => {
                    ip = self.ip(word).expect("an address").to_string();
                }
                _ if word.starts_with(|first: char| first.is_ascii_digit()) => {
                    slots = format!("{slots} {word}");
                }
                _ => flags = word.replace("me,", "myself,"),
            }
        }
        let id = node_id(id);
        // Who is connected again has answered, unless the scenario says otherwise.
        let pong = pong.unwrap_or(if link == "connected" { "1" } else { "0" });
        format!("{id} {ip}:6379@16379{extra} {flags} {master} 0 {pong} {epoch} {link}{slots}\n")
    }
}

/// `7.0.15` or `valkey-8.0.1`.
pub(crate) fn version(text: &str) -> Result<Version, String> {
    let (valkey, text) = match text.strip_prefix("valkey-") {
        Some(text) => (true, text),
        None => (false, text),
    };
    let mut parts = text.split('.').map(number::<u16>);
    let mut next = || parts.next().ok_or("three numbers".to_owned())?;
    let numbers = (next()?, next()?, next()?);
    Ok(match valkey {
        true => Version {
            redis: (7, 2, 4),
            valkey: Some(numbers),
        },
        false => Version {
            redis: numbers,
            valkey: None,
        },
    })
}
