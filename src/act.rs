//! Carries actions out: each becomes the commands it stands for, in the order given. No choices,
//! no retries, no look at the topology: the next round sees what came of it.

use crate::model::decision::{Action, Nudge};
use crate::model::observation::{CopyConfig, Refusal};
use crate::redis_link::{HandOverLink, LinkError, ServerErrorText, Write, WriteLink};
use crate::volume::NoteFile;
use crate::volume::conf_copies::ConfCopies;
use crate::volume::history_file::HistoryFile;

/// What came of one action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Redis took every command, or the file was written.
    Done,
    /// Redis refused one of the commands.
    Refused(Refusal),
    /// No answer came: it may or may not have been carried out.
    NoAnswer(String),
    /// The file could not be written.
    NotWritten(String),
}

/// The agent's files on the volume.
pub struct Files {
    /// Its note.
    pub note: NoteFile,
    /// Its copies of nodes.conf.
    pub conf: ConfCopies,
    /// What this node went through.
    pub history: HistoryFile,
}

/// Carries one action out.
pub async fn carry_out(action: &Action, link: &mut WriteLink, files: &mut Files) -> Outcome {
    let written = match action {
        Action::Remember(note) => Some(files.note.write(note)),
        Action::KeepConf(conf) => Some(files.conf.keep(conf)),
        Action::RestoreConf { conf, over } => Some(files.conf.restore(conf, over)),
        Action::Record(events) => Some(files.history.record(events)),
        _ => None,
    };
    match written {
        Some(Ok(())) => return Outcome::Done,
        Some(Err(error)) => return Outcome::NotWritten(error.to_string()),
        None => {}
    }
    let commands = commands(action);
    let sent = match action {
        Action::Hasten { .. } => link.send_blindly(&commands).await.map(|reply| vec![reply]),
        _ => link.send(&commands).await,
    };
    outcome(action, sent)
}

/// The one action on another pod's Redis: tells the replica, if it is still this node that answers.
pub async fn hand_over(action: &Action, id: &str, link: HandOverLink) -> Outcome {
    let sent = link.take_over_if(id).await;
    outcome(action, sent.map(|reply| vec![reply]))
}

fn outcome(
    action: &Action,
    sent: Result<Vec<Result<String, ServerErrorText>>, LinkError>,
) -> Outcome {
    let replies = match sent {
        Ok(replies) => replies,
        Err(error) => return Outcome::NoAnswer(error.to_string()),
    };
    match replies.into_iter().find_map(Result::err) {
        // It is gone already, which is what was wanted.
        Some(error) if is_drop(action) && error.0.contains("Unknown node") => Outcome::Done,
        Some(error) => Outcome::Refused(Refusal {
            action: action.to_string(),
            error: error.0,
        }),
        None => Outcome::Done,
    }
}

/// Whether it is done when Redis says that there is no such node.
fn is_drop(action: &Action) -> bool {
    matches!(action, Action::DropHandshake { .. } | Action::Forget { .. })
}

/// Only what differs, and what holds copies back before what makes that matter.
fn copies(from: &CopyConfig, to: &CopyConfig) -> Vec<Write> {
    let set = |name: &str, value: String| Write::ConfigSet {
        name: name.to_owned(),
        value,
    };
    let mut all = Vec::new();
    if from.delay_s != to.delay_s {
        all.push(set("repl-diskless-sync-delay", to.delay_s.to_string()));
    }
    if let Some(max) = to.max_replicas
        && from.max_replicas != to.max_replicas
    {
        all.push(set("repl-diskless-sync-max-replicas", max.to_string()));
    }
    if from.diskless != to.diskless {
        let diskless = if to.diskless { "yes" } else { "no" };
        all.push(set("repl-diskless-sync", diskless.to_owned()));
    }
    all
}

/// The commands an action stands for, sent in one write.
pub(crate) fn commands(action: &Action) -> Vec<Write> {
    let node_timeout = |ms: u64| Write::ConfigSet {
        name: "cluster-node-timeout".to_owned(),
        value: ms.to_string(),
    };
    match action {
        Action::Announce { name, value } => {
            vec![Write::ConfigSet {
                name: (*name).to_owned(),
                value: value.clone(),
            }]
        }
        Action::SetConfigEpoch(epoch) => vec![Write::SetConfigEpoch(*epoch)],
        Action::AddSlots {
            slots,
            by_range: true,
        } => {
            vec![Write::AddSlotsRange(slots.ranges().to_vec())]
        }
        Action::AddSlots {
            slots,
            by_range: false,
        } => {
            vec![Write::AddSlots(slots.ranges().to_vec())]
        }
        Action::Meet {
            ip, port, bus_port, ..
        } => {
            vec![Write::Meet {
                ip: *ip,
                port: *port,
                bus_port: *bus_port,
            }]
        }
        Action::DropHandshake { id, .. } => vec![Write::ForgetHandshake(id.to_string())],
        Action::Replicate { master, .. } => vec![Write::Replicate(master.to_string())],
        Action::ForceFailover { .. } => vec![Write::FailoverForce],
        Action::Forget { id, .. } => vec![Write::Forget(id.to_string())],
        Action::Copies { from, to } => copies(from, to),
        Action::TakeOver { .. } => vec![Write::Failover],
        // Redis reads a connection piece by piece, and judges its state between two of them. What
        // is behind the filler is already with it: it comes even if this agent is killed now.
        Action::Hasten {
            short_ms,
            nudge,
            restore_ms,
        } => {
            let filler = [Write::Filler, Write::Filler, Write::Filler];
            let mut all = vec![node_timeout(*short_ms)];
            all.extend(nudging(*nudge));
            all.extend(filler);
            all.push(node_timeout(*restore_ms));
            all
        }
        Action::RestoreNodeTimeout(ms) => vec![node_timeout(*ms)],
        // To the own Redis, nothing: see `hand_over`.
        Action::HandOver { .. }
        | Action::Remember(_)
        | Action::KeepConf(_)
        | Action::RestoreConf { .. }
        | Action::Record(_) => Vec::new(),
    }
}

/// A setting that is turned over and back before Redis next looks leaves nothing but the wish to
/// judge the state.
fn nudging(nudge: Nudge) -> Vec<Write> {
    let no_failover = |value: bool| Write::ConfigSet {
        name: "cluster-replica-no-failover".to_owned(),
        value: if value { "yes" } else { "no" }.to_owned(),
    };
    match nudge {
        Nudge::StableSlot(slot) => vec![Write::SetSlotStable(slot)],
        Nudge::NoFailover(configured) => vec![no_failover(!configured), no_failover(configured)],
    }
}
