//! The commands: `redis-sidecar pre-stop` and the like. Each asks the agent in this pod over its
//! socket, says how it goes and tells by its exit code what came of it.
//!
//! Not here: the agent itself, which is this binary without a command.

use super::client::{self, Ended};
use super::install;
use super::words::Request;
use clap::error::ErrorKind;
use clap::{Args, Parser, Subcommand};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::time::Duration;

/// The commands' names; the first argument is one of these, or the agent is meant.
pub const COMMANDS: [&str; 5] = ["pre-stop", "failover", "pause", "resume", "install"];

/// Over, and not done.
const NOT_DONE: u8 = 1;
/// `EX_USAGE` in sysexits.h, as for a bad value of the agent.
const USAGE: u8 = 64;
/// `EX_UNAVAILABLE`: no agent answers.
const UNREACHABLE: u8 = 69;
/// `EX_IOERR`
const NOT_WRITTEN: u8 = 74;

/// What is left of the grace period for Redis to end by itself.
const KEPT_FOR_REDIS: Duration = Duration::from_secs(10);
const PRE_STOP_MIN: Duration = Duration::from_secs(1);
const FAILOVER_WITHIN: Duration = Duration::from_secs(20);
const PAUSE_MAX: Duration = crate::decide::pause::LONGEST;

#[derive(Parser)]
#[command(
    name = "redis-sidecar",
    after_help = "Exit codes: 0 done, or nothing to do; 1 not done, and the last line says why; \
                  64 bad arguments; 69 no agent answers on the socket; 74 install could not write."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Before Redis is stopped: a master hands its slots to a replica. For the preStop hook
    PreStop {
        #[command(flatten)]
        at: At,
        /// The pod's terminationGracePeriodSeconds; all but 10 s of it may be used
        #[arg(
            long,
            value_name = "SECONDS",
            env = "TERMINATION_GRACE_SECONDS",
            default_value_t = 30,
            hide_env_values = true
        )]
        grace: u64,
    },
    /// Have a replica of this pod's shard be its master: the best one, or this pod if it is a replica
    Failover {
        #[command(flatten)]
        at: At,
        /// The pod that is to be the master
        #[arg(long, value_name = "POD")]
        to: Option<String>,
    },
    /// Look and tell, but write nothing to Redis for a while
    Pause {
        #[command(flatten)]
        at: At,
        /// For how long: a number with s, m or h; at most 24h
        #[arg(long = "for", value_name = "TIME", default_value = "10m", value_parser = span)]
        lasts: Duration,
    },
    /// End a pause
    Resume {
        #[command(flatten)]
        at: At,
    },
    /// Copy this binary into a folder, for another container's preStop hook
    Install {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

#[derive(Args)]
struct At {
    /// The agent's socket [default: redis-sidecar.sock in DATA_DIR]
    #[arg(long, value_name = "FILE", env = "SOCKET", hide_env_values = true)]
    socket: Option<PathBuf>,
    /// As the agent has it
    #[arg(
        long,
        value_name = "DIR",
        env = "DATA_DIR",
        default_value = "/data",
        hide_env_values = true
    )]
    data_dir: PathBuf,
}

impl At {
    fn socket(self) -> PathBuf {
        let named = self.socket.filter(|path| !path.as_os_str().is_empty());
        named.unwrap_or_else(|| self.data_dir.join(super::SOCKET_NAME))
    }
}

/// Whether these arguments, the program's name first, are one of the commands.
pub fn is_command(args: &[OsString]) -> bool {
    let first = args.get(1).and_then(|arg| arg.to_str());
    first.is_some_and(|first| COMMANDS.contains(&first))
}

/// Runs the command; returns what to exit with.
pub fn run(args: &[OsString]) -> u8 {
    let command = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command,
        Err(error) => {
            let help = error.kind() == ErrorKind::DisplayHelp;
            // Nobody to tell, nothing to do about it.
            let _ = error.print();
            return if help { 0 } else { USAGE };
        }
    };
    match command {
        Command::PreStop { at, grace } => {
            let within = bound(grace);
            let request = Request::PreStop {
                within_ms: millis(within),
            };
            ask("pre-stop", at, &request, within)
        }
        Command::Failover { at, to } => {
            let request = Request::Failover {
                within_ms: millis(FAILOVER_WITHIN),
                to,
            };
            ask("failover", at, &request, FAILOVER_WITHIN)
        }
        Command::Pause { at, lasts } => {
            let for_ms = millis(lasts);
            ask("pause", at, &Request::Pause { for_ms }, FAILOVER_WITHIN)
        }
        Command::Resume { at } => ask("resume", at, &Request::Resume, FAILOVER_WITHIN),
        Command::Install { folder } => match install::install(&folder) {
            Ok(path) => {
                say(&format!("installed {}", path.display()));
                0
            }
            Err(error) => {
                complain(&format!(
                    "cannot install into {}: {error}",
                    folder.display()
                ));
                NOT_WRITTEN
            }
        },
    }
}

/// All but what Redis needs to end by itself.
fn bound(grace_s: u64) -> Duration {
    let grace = Duration::from_secs(grace_s.min(24 * 60 * 60));
    grace.saturating_sub(KEPT_FOR_REDIS).max(PRE_STOP_MIN)
}

fn ask(name: &str, at: At, request: &Request, within: Duration) -> u8 {
    let tell = |line: &str| say(&format!("{name}: {line}"));
    match client::ask(&at.socket(), request, within, tell) {
        Ended::Done(what) => {
            say(&format!("{name}: done: {what}"));
            0
        }
        Ended::NotDone(why) => {
            complain(&format!("{name}: not done: {why}"));
            NOT_DONE
        }
        Ended::Unreachable(why) => {
            complain(&format!("{name}: no answer: {why}"));
            UNREACHABLE
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// `90s`, `10m`, `2h`; a number alone is seconds.
fn span(text: &str) -> Result<Duration, String> {
    let takes = || "takes a number with s, m or h, from 1s to 24h, such as 10m".to_owned();
    let (number, unit) = match text.char_indices().last() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3600),
        _ => (text, 1),
    };
    let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits
        .then(|| number.parse().ok())
        .flatten()
        .ok_or_else(takes)?;
    let span = Duration::from_secs(number.saturating_mul(unit));
    (!span.is_zero() && span <= PAUSE_MAX)
        .then_some(span)
        .ok_or_else(takes)
}

/// A reader that went away is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

fn complain(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_a_unit_and_an_end() {
        for (text, seconds) in [("90", 90), ("1s", 1), ("10m", 600), ("24h", 86_400)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "0",
            "0m",
            "m",
            "25h",
            "-1s",
            "+1s",
            "1.5h",
            "1d",
            "99999999999999999999s",
        ] {
            assert!(span(text).is_err(), "{text}");
        }
    }

    #[test]
    fn redis_keeps_ten_seconds_of_the_grace_period() {
        for (grace, seconds) in [(30, 20), (60, 50), (10, 1), (0, 1), (11, 1), (12, 2)] {
            assert_eq!(bound(grace), Duration::from_secs(seconds), "{grace}");
        }
        assert!(bound(u64::MAX) < Duration::from_secs(100_000));
    }

    #[test]
    fn only_a_command_is_taken_for_one() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert!(is_command(&args(&["redis-sidecar", "pre-stop"])));
        for words in [
            &["redis-sidecar"][..],
            &["redis-sidecar", "--pod-ip=::1"],
            &["pre-stop"],
        ] {
            assert!(!is_command(&args(words)), "{words:?}");
        }
        assert_eq!(
            run(&args(&["redis-sidecar", "pause", "--for", "never"])),
            USAGE
        );
    }
}
