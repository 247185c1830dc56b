//! Log lines to stderr, as text or JSON, filtered by `RUST_LOG`.
//!
//! In: the format and `RUST_LOG`. Out: the process-wide subscriber, set once.
//!
//! Not here: what is logged, and at which level.

use std::io::IsTerminal;

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::config::LogFormat;

/// What is logged when `RUST_LOG` does not say.
const FILTER_DEFAULT: &str = "info";

/// Why there is no log.
#[derive(Debug, Error)]
pub enum LoggingError {
    /// `RUST_LOG` cannot be used; an invalid value like any other (exit 64).
    #[error("RUST_LOG is {value:?}: takes a log filter, such as info or redis_sidecar=debug,info")]
    Filter {
        /// What it was set to.
        value: String,
    },
    /// A subscriber was set before.
    #[error("the log is set up already")]
    Twice,
}

/// Sets the log up, once in a process.
pub fn init(format: LogFormat) -> Result<(), LoggingError> {
    let value = std::env::var_os("RUST_LOG").unwrap_or_default();
    let filter = filter(&value.to_string_lossy())?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let set = match format {
        LogFormat::Text => builder
            .with_ansi(std::io::stderr().is_terminal())
            .try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    set.map_err(|_| LoggingError::Twice)
}

/// An empty value counts as not set, as for every other variable.
fn filter(value: &str) -> Result<EnvFilter, LoggingError> {
    let directives = if value.is_empty() {
        FILTER_DEFAULT
    } else {
        value
    };
    EnvFilter::try_new(directives).map_err(|_| LoggingError::Filter {
        value: value.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_defaults_to_info_and_refuses_nonsense_in_one_line() {
        assert_eq!(filter("").unwrap().to_string(), "info");
        assert_eq!(filter("debug").unwrap().to_string(), "debug");
        let refusal = filter("redis_sidecar=loud").unwrap_err().to_string();
        assert!(refusal.starts_with("RUST_LOG is \"redis_sidecar=loud\": takes"));
        assert!(!refusal.contains('\n'));
    }
}
