//! A decision as a person reads it: one line each for the outcome, every action with its evidence,
//! every reason with its weight, and whom to ask next. Node IDs are printed by their short names.

use super::world::{WALL_MS, World};
use redis_sidecar::model::asked::Outcome;
use redis_sidecar::model::decision::{Action, Decision, Role, Start};
use redis_sidecar::model::identity::NodeId;
use redis_sidecar::model::observation::{Stage, VolumeNote};
use redis_sidecar::model::reason::Weight;
use std::fmt::Write;

/// The decision, each line ended.
pub(crate) fn decision(world: &World, decision: &Decision) -> String {
    let mut out = String::new();
    let ready = if decision.ready { "ready" } else { "not ready" };
    let stage = stage(decision.stage);
    let next = decision.next_round_in.as_millis();
    let role = role(decision);
    writeln!(out, "{ready}, {stage}, {role}; next round in {next} ms").expect("written");
    let told = |action: &Action| world.history.is_some() || !matches!(action, Action::Record(_));
    for planned in decision.actions.iter().filter(|p| told(&p.action)) {
        let action = action(&planned.action);
        writeln!(out, "do: {action}  <- {}", planned.evidence).expect("written");
    }
    for reason in &decision.reasons {
        let weight = match reason.weight {
            Weight::Blocks => "blocks",
            Weight::Warns => "warns",
        };
        writeln!(out, "{weight}: {reason}").expect("written");
    }
    for (id, answer) in &decision.answers {
        let outcome = match answer.outcome {
            Outcome::UnderWay => "under way",
            Outcome::Done => "done",
            Outcome::NotDone => "not done",
        };
        writeln!(out, "request {id} {outcome}: {}", answer.says).expect("written");
    }
    for event in decision.events.iter().filter(|_| world.history.is_some()) {
        writeln!(out, "history: {}: {}", event.event, event.detail).expect("written");
    }
    match &decision.start {
        Start::May => {}
        Start::Wait(why) => writeln!(out, "start: not yet: {why}").expect("written"),
        Start::Hold(why) => writeln!(out, "start: never so: {why}").expect("written"),
    }
    if decision.view.blank {
        writeln!(out, "says: nothing is left on the volume").expect("written");
    }
    if !decision.ask.is_empty() {
        let asked: Vec<String> = decision
            .ask
            .iter()
            .map(|socket| world.short(socket))
            .collect();
        writeln!(out, "ask: {}", asked.join(" ")).expect("written");
    }
    if !decision.view.forgets.is_empty() {
        let ids = decision.view.forgets.keys().map(ToString::to_string);
        let ids: Vec<String> = ids.collect();
        writeln!(out, "about to forget: {}", ids.join(" ")).expect("written");
    }
    if decision.ask_missing {
        writeln!(out, "ask: DNS for missing ordinals").expect("written");
    }
    short_ids(&out)
}

fn stage(stage: Stage) -> &'static str {
    match stage {
        Stage::Unknown => "unknown",
        Stage::Virgin => "virgin",
        Stage::Forming => "forming",
        Stage::Member => "member",
    }
}

fn role(decision: &Decision) -> String {
    let view = &decision.view;
    match view.role {
        Role::None => "no role".to_owned(),
        Role::Master if view.slots.is_empty() => "master without slots".to_owned(),
        Role::Master => format!("master of {}", view.slots),
        Role::Replica => {
            let of = view.replica_of.as_deref().unwrap_or("an unknown master");
            match view.lag_bytes {
                Some(lag) if lag > 0 => format!("replica of {of}, {lag} bytes behind"),
                _ => format!("replica of {of}"),
            }
        }
    }
}

/// As it is logged, and what the log leaves out.
fn action(action: &Action) -> String {
    match action {
        Action::Remember(note) => format!("remember {}", note_words(note)),
        Action::Meet { bus_port, .. } => format!("{action} bus {bus_port}"),
        Action::AddSlots {
            by_range: false, ..
        } => format!("{action} one by one"),
        _ => action.to_string(),
    }
}

/// In the words of a scenario's `note` line.
fn note_words(note: &VolumeNote) -> String {
    let mut words = vec![if note.member { "member" } else { "no member" }.to_owned()];
    let by_default = |(id, ordinal): (&NodeId, &u32)| {
        let name = short_ids(&id.to_string());
        (name != format!("p{ordinal}")).then(|| format!("pod={name}:{ordinal}"))
    };
    let plain: Vec<String> = note
        .pods
        .iter()
        .filter(|pod| by_default(*pod).is_none())
        .map(|(_, ordinal)| ordinal.to_string())
        .collect();
    if !plain.is_empty() {
        words.push(format!("pods={}", plain.join(",")));
    }
    words.extend(note.pods.iter().filter_map(by_default));
    let foreign = note.foreign.keys();
    words.extend(foreign.map(|id| format!("foreign={}", short_ids(&id.to_string()))));
    words.extend(
        note.gate_run_id
            .iter()
            .map(|run_id| format!("gate={run_id}")),
    );
    words.extend(note.node_timeout_ms.map(|ms| format!("timeout={ms}")));
    words.extend(note.may_have_data.iter().map(|(id, said)| {
        let word = if *said { "data" } else { "data?" };
        format!("{word}={}", short_ids(&id.to_string()))
    }));
    words.extend(
        note.were_here
            .iter()
            .map(|(id, at)| format!("was-here={}@{at}", short_ids(&id.to_string()))),
    );
    words.extend(note.copies.map(|copies| {
        let disk = if copies.diskless { "" } else { ",disk" };
        format!("copies={}{disk}", copies.delay_s)
    }));
    words.extend(note.paused.map(|paused| {
        let since_start = |ms: u64| i128::from(ms) - i128::from(WALL_MS);
        let (from, until) = (since_start(paused.from_ms), since_start(paused.until_ms));
        format!("paused={from}:{until}")
    }));
    words.join(" ")
}

/// Undoes [`super::world::node_id`] wherever a word is a node ID.
fn short_ids(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(end) = rest.find(|c: char| !c.is_ascii_hexdigit()) {
        let first = rest.chars().next().map_or(1, char::len_utf8);
        let end = if end == 0 { first } else { end };
        let (word, more) = rest.split_at(end);
        out.push_str(&short_id(word));
        rest = more;
    }
    out.push_str(&short_id(rest));
    out
}

fn short_id(word: &str) -> String {
    if word.len() != 40 {
        return word.to_owned();
    }
    let bytes = (0..40)
        .step_by(2)
        .filter_map(|i| u8::from_str_radix(&word[i..i + 2], 16).ok());
    let name: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
    String::from_utf8(name).unwrap_or_else(|_| word.to_owned())
}
