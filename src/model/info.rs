//! The text of `INFO`, and what of it matters here. Works while Redis is loading, when most other
//! commands do not. Parsing only.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// `INFO` as key and value, sections dropped.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Info(BTreeMap<String, String>);

/// What one server said of itself in `INFO`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFacts {
    /// Which server, and the version whose commands it understands.
    pub version: Version,
    /// Random, new at every start of the server.
    pub run_id: String,
    /// Seconds since its start.
    pub uptime_s: u64,
    /// Reading its data from disk; CLUSTER commands fail meanwhile.
    pub loading: bool,
    /// Runs in cluster mode.
    pub cluster_enabled: bool,
    /// Keys in all databases.
    pub keys: u64,
    /// Keys that have expired and were deleted since its start.
    pub expired_keys: u64,
    /// Set on a replica only.
    pub replica: Option<ReplicaFacts>,
    /// This server's own replication offset, in bytes.
    pub offset: u64,
    /// What would be left of the data after a stop.
    pub persistence: Persistence,
}

/// The persistence part of `INFO`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Persistence {
    /// There is an append-only file.
    pub aof: bool,
    /// The last write to it went well.
    pub aof_written: bool,
    /// Nothing waits to be written to it, and no fsync is pending.
    pub aof_flushed: bool,
    /// Commands are in it, of this process or of those before: its data were not lost. After a rewrite that is
    /// not known from 7.0 on (`aof_base_size` is then all). Held to real servers by `tests/faults/mistaken_copies.rs`.
    pub aof_history: bool,
    /// Changes since the last snapshot; no more than can be told.
    pub unsaved: u32,
}

/// The replication part of `INFO` on a replica.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ReplicaFacts {
    /// The address it dials, which may be out of date.
    pub master_host: String,
    /// The port it dials.
    pub master_port: u16,
    /// `master_link_status:up`.
    pub link_up: bool,
    /// A full copy is being received or loaded.
    pub syncing: bool,
    /// Bytes of that copy still to come, where known.
    pub sync_left_bytes: Option<u64>,
    /// Bytes read from the master, applied or not.
    pub read_offset: u64,
    /// Bytes applied.
    pub applied_offset: u64,
}

/// The version that decides which commands a server understands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Redis's numbering; Valkey keeps saying 7.2.4 here.
    pub redis: (u16, u16, u16),
    /// Valkey's own number, where it is Valkey.
    pub valkey: Option<(u16, u16, u16)>,
}

impl Info {
    /// The value of `key`.
    pub fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key).map(String::as_str)
    }

    fn number(&self, key: &str) -> Option<u64> {
        self.get(key)?.parse().ok()
    }

    fn yes(&self, key: &str) -> bool {
        self.get(key) == Some("1")
    }

    /// Keys in all databases: the sum over `db0:keys=..`, as Valkey 9 has several in cluster mode.
    /// A database whose count cannot be read counts as one key: it is not known to be empty.
    fn keys(&self) -> u64 {
        let databases = self.0.iter().filter(|(key, _)| {
            let number = key.strip_prefix("db").unwrap_or_default();
            !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
        });
        let counts = databases.map(|(_, value)| {
            let mut parts = value.split(',');
            let keys = parts.find_map(|part| part.strip_prefix("keys="));
            keys.and_then(|keys| keys.parse().ok()).unwrap_or(1)
        });
        counts.fold(0, u64::saturating_add)
    }
}

impl From<&Info> for ServerFacts {
    fn from(info: &Info) -> Self {
        let replica = (info.get("role") == Some("slave")).then(|| ReplicaFacts {
            master_host: info.get("master_host").unwrap_or_default().to_owned(),
            master_port: info
                .get("master_port")
                .and_then(|port| port.parse().ok())
                .unwrap_or_default(),
            link_up: info.get("master_link_status") == Some("up"),
            syncing: info.yes("master_sync_in_progress"),
            sync_left_bytes: info.number("master_sync_left_bytes"),
            read_offset: info.number("slave_read_repl_offset").unwrap_or_default(),
            applied_offset: info.number("slave_repl_offset").unwrap_or_default(),
        });
        let version = |key| info.get(key).map(parse_version);
        let version = Version {
            redis: version("redis_version").unwrap_or_default(),
            valkey: version("valkey_version"),
        };
        // Before 7.0 the base is what there was at the start.
        let base = match version.has_slot_ranges() {
            true => info.number("aof_base_size").unwrap_or_default(),
            false => 0,
        };
        ServerFacts {
            version,
            run_id: info.get("run_id").unwrap_or_default().to_owned(),
            uptime_s: info.number("uptime_in_seconds").unwrap_or_default(),
            // `async_loading` serves reads meanwhile, so it is not loading in this sense.
            loading: info.yes("loading"),
            cluster_enabled: info.yes("cluster_enabled"),
            keys: info.keys(),
            expired_keys: info.number("expired_keys").unwrap_or_default(),
            replica,
            offset: info.number("master_repl_offset").unwrap_or_default(),
            persistence: Persistence {
                aof: info.yes("aof_enabled"),
                aof_written: info.get("aof_last_write_status") == Some("ok"),
                aof_flushed: info.number("aof_pending_bio_fsync") == Some(0)
                    && info.number("aof_buffer_length") == Some(0),
                aof_history: info.number("aof_current_size") > Some(base),
                unsaved: info
                    .number("rdb_changes_since_last_save")
                    .map_or(0, |changes| u32::try_from(changes).unwrap_or(u32::MAX)),
            },
        }
    }
}

/// `7.0.15` to (7, 0, 15); what is no number counts as 0, so that `8.0-rc1` is (8, 0, 0).
fn parse_version(text: &str) -> (u16, u16, u16) {
    let mut parts = text.split(['.', '-']).map(|part| part.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next())
}

impl FromStr for Info {
    type Err = std::convert::Infallible;

    /// Lines without a colon and section headers are passed over.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let pairs = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(':'))
            .map(|(key, value)| (key.to_owned(), value.trim_end_matches('\r').to_owned()));
        Ok(Info(pairs.collect()))
    }
}

impl fmt::Display for Info {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut pairs = self.0.iter();
        pairs.try_for_each(|(key, value)| write!(f, "{key}:{value}\r\n"))
    }
}

impl Version {
    /// ADDSLOTSRANGE and announced hostnames came with Redis 7.0.
    pub fn has_slot_ranges(&self) -> bool {
        self.redis >= (7, 0, 0)
    }

    /// Before 7.0 CONFIG SET is refused while Redis is loading ("Only CONFIG GET is allowed during
    /// loading", `configCommand`).
    pub fn takes_config_while_loading(&self) -> bool {
        self.redis >= (7, 0, 0)
    }

    /// Redis 7.0 tells its hostname in longer packets of the cluster bus, and to everybody. Later ones
    /// tell who has shown that it understands them.
    pub fn hostname_reaches_all(&self) -> bool {
        self.has_slot_ranges() && self.redis < (7, 2, 0)
    }

    /// From Valkey 8.0 a master hands SETSLOT to its replicas first, and serves nothing more of that
    /// connection until they have confirmed it, for up to 2 s.
    pub fn setslot_waits(&self) -> bool {
        self.valkey.is_some_and(|valkey| valkey >= (8, 0, 0))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, (major, minor, patch)) = match self.valkey {
            Some(valkey) => ("valkey", valkey),
            None => ("redis", self.redis),
        };
        write!(f, "{name} {major}.{minor}.{patch}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn facts(text: &str) -> ServerFacts {
        let Ok(info) = text.parse::<Info>();
        ServerFacts::from(&info)
    }

    #[test]
    fn keys_of_every_database_count() {
        let text = "# Keyspace\r\ndb0:keys=2,expires=0\r\ndb9:keys=3,expires=1,avg_ttl=0\r\ndbx:keys=9\r\n";
        assert_eq!(facts(text).keys, 5);
    }

    #[test]
    fn a_database_that_cannot_be_read_is_not_empty() {
        for line in [
            "db0:keys=99999999999999999999",
            "db0:kexs=7",
            "db9:",
            "db0:keys=-1",
        ] {
            assert_eq!(facts(line).keys, 1, "{line}");
        }
        assert_eq!(facts("db0:keys=0,expires=0").keys, 0);
    }

    #[test]
    fn valkey_is_known_by_its_own_version() {
        let facts = facts("redis_version:7.2.4\r\nvalkey_version:9.1.2\r\n");
        assert_eq!(facts.version.to_string(), "valkey 9.1.2");
        assert!(facts.version.has_slot_ranges() && facts.version.setslot_waits());
        let redis = super::parse_version("9.1.2");
        let redis = Version {
            redis,
            valkey: None,
        };
        assert!(!redis.setslot_waits());
    }

    #[test]
    fn what_was_deleted_has_left_commands_in_the_file() {
        let history = |version: &str, size: u32, base: u32| {
            let text = format!(
                "redis_version:{version}\r\naof_enabled:1\r\naof_current_size:{size}\r\naof_base_size:{base}\r\n"
            );
            facts(&text).persistence.aof_history
        };
        // As 6.0.16 and 7.0.15 print them: no file was found; a key was set and deleted; the file was rewritten.
        assert!(!history("6.0.16", 0, 0) && history("6.0.16", 93, 93));
        assert!(!history("7.0.15", 0, 0) && history("7.0.15", 182, 89));
        assert!(!history("7.0.15", 89, 89));
        assert!(!facts("aof_enabled:0\r\n").persistence.aof_history);
    }

    #[test]
    fn only_a_replica_has_replica_facts() {
        assert_eq!(facts("role:master\r\n").replica, None);
        let replica =
            facts("role:slave\r\nmaster_host:::1\r\nmaster_port:6379\r\nmaster_link_status:up\r\n")
                .replica;
        let replica = replica.expect("a replica");
        assert_eq!(
            (
                replica.master_host.as_str(),
                replica.master_port,
                replica.link_up
            ),
            ("::1", 6379, true)
        );
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*|(db[0-9]{0,3}|run_id|role)[:=,\r\n]{0,3}\\PC*") {
            facts(&text);
        }

        #[test]
        fn printing_then_parsing_is_the_identity(
            pairs in prop::collection::btree_map("[a-z_0-9]{1,12}", "[ -~]{0,20}", 0..20)
        ) {
            let info = Info(pairs);
            prop_assert_eq!(info.to_string().parse::<Info>(), Ok(info));
        }
    }
}
