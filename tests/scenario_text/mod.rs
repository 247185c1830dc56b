//! Replays one scenario: reads its steps, asks the core, and returns the same text with what the
//! core decided in the place of the expected output.

mod peers;
mod print;
mod world;

use redis_sidecar::decide::decide;
use redis_sidecar::decide::memory::Memory;
use redis_sidecar::model::decision::Action;
use redis_sidecar::model::observation::Volume;
use world::World;

/// What stands between a step and what is expected of it.
const EXPECTED: &str = "----";

/// One step: the text that describes it, and its lines.
struct Step<'a> {
    /// As written, comments included.
    given: Vec<&'a str>,
    line: usize,
}

/// The scenario with its expected output as it is today; an error names the line.
pub(crate) fn replay(text: &str) -> Result<String, String> {
    let (head, steps) = split(text);
    if steps.is_empty() {
        return Err("no step".to_owned());
    }
    let policy_line = head
        .iter()
        .find_map(|line| line.strip_prefix("policy "))
        .ok_or("no policy line")?;
    let mut world = World::new(policy_line).map_err(|error| format!("policy: {error}"))?;
    let mut memory = Memory::default();
    let mut written = None;

    let mut out = trimmed(&head);
    for step in steps {
        world.begin_step();
        for (i, line) in step.given.iter().enumerate().skip(1) {
            let line = line.split(" #").next().unwrap_or(line).trim_end();
            let at = |error: String| format!("line {}: {error}: {line:?}", step.line + i + 1);
            match line.trim() {
                "" => {}
                comment if comment.starts_with('#') => {}
                "agent restarts" => memory = Memory::default(),
                "note as written" => {
                    world.volume = written
                        .clone()
                        .ok_or_else(|| at("nothing was written".to_owned()))?;
                }
                _ => world.read(line).map_err(at)?,
            }
        }
        let seen = world.observation();
        let before = memory.clone();
        let (next, decision) = decide(&world.policy, &memory, &seen);
        let again = decide(&world.policy, &before, &seen);
        if again != (next.clone(), decision.clone()) {
            return Err("the same input gave two outputs".to_owned());
        }
        memory = next;
        for planned in &decision.actions {
            if let Action::Remember(note) = &planned.action {
                written = Some(Volume::Says(note.clone()));
            }
        }
        out.push_str(if out.ends_with('\n') { "\n" } else { "\n\n" });
        out.push_str(&trimmed(&step.given));
        out.push('\n');
        out.push_str(EXPECTED);
        out.push('\n');
        out.push_str(&print::decision(&world, &decision));
        if let (Some(history), Some(last)) = (&mut world.history, decision.events.last()) {
            history.last = Some(last.after.clone());
        }
    }
    Ok(out)
}

/// What stands before the first step, and the steps without what is expected of them.
fn split(text: &str) -> (Vec<&str>, Vec<Step<'_>>) {
    let (mut head, mut steps): (Vec<&str>, Vec<Step<'_>>) = (Vec::new(), Vec::new());
    let mut expected = false;
    for (line, content) in text.lines().enumerate() {
        if content.starts_with("step ") {
            expected = false;
            let given = vec![content];
            steps.push(Step { given, line });
        } else if content == EXPECTED {
            expected = true;
        } else if expected {
            // What is expected ends with a blank line; the next step may begin with a comment.
            if content.is_empty() {
                expected = false;
            }
        } else {
            match steps.last_mut() {
                Some(step) => step.given.push(content),
                None => head.push(content),
            }
        }
    }
    (head, steps)
}

fn trimmed(lines: &[&str]) -> String {
    lines.join("\n").trim_end().to_owned()
}
