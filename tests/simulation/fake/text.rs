//! The texts of the real server: CLUSTER NODES, CLUSTER INFO, INFO and CONFIG GET, as values that the
//! agent's own reading takes.

use super::{LinkState, Node, PORT, Rec, Segs};
use redis::Value;
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::slots::SlotSet;
use std::cell::RefCell;
use std::collections::HashMap;
use std::fmt::Write;

thread_local! {
    /// How IDs are written: most of a table is that.
    static WRITTEN: RefCell<HashMap<NodeId, String>> = RefCell::default();
}

fn push_id(id: &NodeId, text: &mut String) {
    WRITTEN.with_borrow_mut(|written| {
        if written.len() > 1000 {
            written.clear();
        }
        text.push_str(written.entry(*id).or_insert_with(|| id.to_string()));
    });
}

fn bulk(text: String) -> Value {
    Value::BulkString(text.into_bytes())
}

fn loading_error() -> Value {
    let text = "-LOADING Redis is loading the dataset in memory\r\n";
    redis::parse_redis_value(text.as_bytes()).expect("an error reply")
}

/// What a key weighs in the stream of replication: three more than agents let a replica be behind.
const KEY_BYTES: u32 = 4_000_000;

impl Node {
    /// The answers to what an agent asks of its own Redis.
    pub(crate) fn own_answers(&self, now: i64) -> Vec<Value> {
        let config = self.config_text();
        if self.loading(now) {
            return vec![
                bulk(self.info_text(now)),
                config,
                loading_error(),
                loading_error(),
                self.copies_text(),
            ];
        }
        vec![
            bulk(self.info_text(now)),
            config,
            bulk(self.nodes_text()),
            bulk(self.cluster_info_text()),
            self.copies_text(),
        ]
    }

    /// The answers to what an agent asks of a peer's Redis.
    pub(crate) fn peer_answers(&self, now: i64) -> Vec<Value> {
        if self.loading(now) {
            return vec![bulk(self.info_text(now)), loading_error()];
        }
        vec![bulk(self.info_text(now)), bulk(self.nodes_text())]
    }

    pub(crate) fn nodes_text(&self) -> String {
        let mut text = String::new();
        for rec in self.recs.values() {
            self.line(rec, &mut text);
        }
        text
    }

    /// nodes.conf (`clusterSaveConfig`): without nodes in handshake.
    pub(crate) fn nodes_conf_text(&self) -> String {
        let mut text = String::new();
        for rec in self.recs.values().filter(|rec| !rec.handshake) {
            self.line(rec, &mut text);
        }
        let (current, vote) = (self.current_epoch, self.last_vote_epoch);
        let _ = writeln!(text, "vars currentEpoch {current} lastVoteEpoch {vote}");
        text
    }

    fn line(&self, rec: &Rec, text: &mut String) {
        let myself = rec.id == self.id;
        push_id(&rec.id, text);
        text.push(' ');
        match rec.ip {
            Some(ip) => {
                let _ = write!(text, "{ip}:{PORT}@{}", PORT + 10000);
            }
            None if rec.noaddr => text.push_str(":0@0"),
            None => {
                let _ = write!(text, ":{PORT}@{}", PORT + 10000);
            }
        }
        if !rec.hostname.is_empty() {
            let _ = write!(text, ",{}", rec.hostname);
        }
        text.push(' ');
        let flags = [
            (myself, "myself"),
            (!rec.replica && !rec.handshake, "master"),
            (rec.replica && !rec.handshake, "slave"),
            (rec.pfail, "fail?"),
            (rec.fail, "fail"),
            (rec.handshake, "handshake"),
            (rec.noaddr, "noaddr"),
        ];
        let mut shown = flags.iter().filter(|(on, _)| *on).map(|(_, flag)| *flag);
        text.push_str(shown.next().unwrap_or("noflags"));
        for flag in shown {
            text.push(',');
            text.push_str(flag);
        }
        match &rec.master {
            Some(id) => {
                text.push(' ');
                push_id(id, text);
                text.push(' ');
            }
            None => text.push_str(" - "),
        }
        let epoch = match rec.master.and_then(|id| self.recs.get(&id)) {
            Some(master) => master.epoch,
            None => rec.epoch,
        };
        let linked = myself || rec.link.is_some();
        let state = if linked { "connected" } else { "disconnected" };
        let (ping, pong) = (rec.ping_sent, rec.pong_received);
        let _ = write!(text, "{ping} {pong} {epoch} {state}");
        for (first, last) in ranges(rec.segs, self.masters).ranges() {
            let _ = write!(text, " {first}-{last}");
        }
        text.push('\n');
    }

    fn cluster_info_text(&self) -> String {
        let state = if self.state_ok { "ok" } else { "fail" };
        format!(
            "cluster_state:{state}\r\ncluster_known_nodes:{}\r\ncluster_size:{}\r\ncluster_current_epoch:{}\r\ncluster_my_epoch:{}\r\n",
            self.recs.len(),
            self.size(),
            self.current_epoch,
            self.me().epoch,
        )
    }

    fn info_text(&self, now: i64) -> String {
        let loading = self.loading(now);
        // No key is ever deleted by a user.
        let commands = KEY_BYTES * self.keys.count_ones();
        let mut text = format!(
            "# Server\r\nredis_version:7.0.15\r\nrun_id:{:040x}\r\nuptime_in_seconds:{}\r\n# Persistence\r\nloading:{}\r\naof_enabled:1\r\naof_last_write_status:ok\r\naof_current_size:{commands}\r\naof_base_size:0\r\naof_pending_bio_fsync:0\r\naof_buffer_length:0\r\n",
            self.run_id,
            (now - self.booted).max(0) / 1000,
            u8::from(loading),
        );
        match &self.replication {
            Some(link) => {
                let up = matches!(link.state, LinkState::Up { .. });
                let copying = matches!(link.state, LinkState::Copying { .. });
                let applied = KEY_BYTES * self.keys.count_ones();
                let read = applied + KEY_BYTES * self.behind.count_ones();
                let _ = write!(
                    text,
                    "# Replication\r\nrole:slave\r\nmaster_host:{}\r\nmaster_port:{PORT}\r\nmaster_link_status:{}\r\nmaster_sync_in_progress:{}\r\nslave_read_repl_offset:{read}\r\nslave_repl_offset:{applied}\r\n",
                    link.host,
                    if up { "up" } else { "down" },
                    u8::from(copying),
                );
            }
            None => text.push_str("# Replication\r\nrole:master\r\n"),
        }
        let _ = write!(
            text,
            "master_repl_offset:{}\r\n",
            KEY_BYTES * self.keys.count_ones()
        );
        text.push_str("# Cluster\r\ncluster_enabled:1\r\n# Keyspace\r\n");
        let keys = self.keys.count_ones();
        if keys > 0 && !loading {
            let _ = write!(text, "db0:keys={keys},expires=0,avg_ttl=0\r\n");
        }
        text
    }

    fn copies_text(&self) -> Value {
        let delay = self.copies_after_s.to_string();
        let pairs = [
            ("repl-diskless-sync", "yes"),
            ("repl-diskless-sync-delay", &delay),
            ("repl-diskless-sync-max-replicas", "0"),
        ];
        let words = pairs.into_iter().flat_map(|(name, value)| [name, value]);
        Value::Array(words.map(|word| bulk(word.to_owned())).collect())
    }

    fn config_text(&self) -> Value {
        let ip = self.announce_ip.map_or(String::new(), |ip| ip.to_string());
        let pairs = [
            ("cluster-announce-ip", ip),
            (
                "cluster-announce-hostname",
                self.announce_hostname.to_string(),
            ),
            ("cluster-node-timeout", self.node_timeout.to_string()),
        ];
        let flat = pairs
            .into_iter()
            .flat_map(|(name, value)| [bulk(name.to_owned()), bulk(value)]);
        Value::Array(flat.collect())
    }
}

/// The slots of these segments.
pub(crate) fn ranges(segs: Segs, masters: u16) -> SlotSet {
    let shares = (0..masters).filter(|index| segs & (1 << index) != 0);
    shares
        .flat_map(|index| SlotSet::planned(index, masters).ranges().to_vec())
        .collect()
}
