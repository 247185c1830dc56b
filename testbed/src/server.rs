//! Which server a `redis-server` program is: what it is called, which version, and what that
//! version lacks. And which servers there are to test against.
//!
//! Does not: run a server for use (see `pod`), or fetch one (`scripts/servers` does).

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

/// A server program that was asked for its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// The absolute path. A wrapper script must `exec` the server, as signals go to this process.
    pub program: PathBuf,
    /// `Redis` or `Valkey`, as it calls itself.
    pub name: String,
    /// Major, minor, patch.
    pub version: (u32, u32, u32),
}

impl Server {
    /// The server named by the environment variable `REDIS_SERVER`, else `redis-server`.
    ///
    /// # Errors
    /// When there is none; the message names the package to install.
    pub fn installed() -> Result<Self> {
        match std::env::var_os("REDIS_SERVER") {
            Some(program) => Self::at(Path::new(&program)),
            None => Self::at(Path::new("redis-server")).context(
                "redis-server was not found: install the package redis-server (or valkey), or set REDIS_SERVER to its path",
            ),
        }
    }

    /// Asks `program` (a path, or a name looked up in `PATH`) for its version.
    ///
    /// # Errors
    /// When it cannot be run or does not answer as a Redis or Valkey server.
    pub fn at(program: &Path) -> Result<Self> {
        let program = find_program(program)?;
        let output = Command::new(&program)
            .arg("--version")
            .output()
            .with_context(|| format!("run {} --version", program.display()))?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let (name, version) = parse_version(&text)
            .with_context(|| format!("{} --version said {:?}", program.display(), text.trim()))?;
        Ok(Self {
            program,
            name,
            version,
        })
    }

    /// The servers to test against: those that the environment variable `SERVERS` names, in its
    /// order, else [`Server::installed`] alone. `SERVERS` is `all`, or names (`redis-6.0`) and
    /// paths separated by spaces. A name is fetched by `scripts/servers` when it is not there yet.
    ///
    /// # Errors
    /// When one of them is not to be had or does not run.
    pub fn all() -> Result<Vec<Self>> {
        let wanted = std::env::var("SERVERS").unwrap_or_default();
        if wanted.trim().is_empty() {
            return Ok(vec![Self::installed()?]);
        }
        let mut servers = Vec::new();
        for word in wanted.split_whitespace() {
            let programs = match word.contains('/') {
                true => vec![PathBuf::from(word)],
                false => fetched(word)?,
            };
            for program in programs {
                servers.push(Self::at(&program)?);
            }
        }
        Ok(servers)
    }

    /// Its short name as in `SERVERS`: `redis-7.0`, `valkey-9.1`.
    #[must_use]
    pub fn label(&self) -> String {
        let (major, minor, _) = self.version;
        format!("{}-{major}.{minor}", self.name.to_lowercase())
    }

    /// Whether `CLUSTER ADDSLOTSRANGE` and announced hostnames exist.
    #[must_use]
    pub fn has_slot_ranges(&self) -> bool {
        self.version >= (7, 0, 0)
    }

    /// Whether there can be more than one database in cluster mode (`cluster-databases`).
    #[must_use]
    pub fn has_cluster_databases(&self) -> bool {
        self.name == "Valkey" && self.version >= (9, 0, 0)
    }

    /// Whether `CLIENT PAUSE` can let reads pass (6.2).
    #[must_use]
    pub fn pauses_writes(&self) -> bool {
        self.version >= (6, 2, 0)
    }

    /// Whether `INFO commandstats` tells `CLUSTER MEET` from other `CLUSTER` commands.
    #[must_use]
    pub fn counts_subcommands(&self) -> bool {
        self.version >= (7, 0, 0)
    }

    /// Whether the option `bind-source-addr` exists; before it, outgoing connections came from
    /// the first address of `bind`.
    #[must_use]
    pub fn has_bind_source(&self) -> bool {
        self.version >= (7, 0, 0)
    }
}

/// `Redis server v=7.0.15 sha=..` or `Valkey server v=8.0.1 sha=..`
fn parse_version(text: &str) -> Option<(String, (u32, u32, u32))> {
    let mut words = text.split_whitespace();
    let name = words.next()?.to_owned();
    let version = words.find_map(|word| word.strip_prefix("v="))?;
    let mut numbers = version.split('.').map(|n| n.parse::<u32>().unwrap_or(0));
    Some((
        name,
        (
            numbers.next()?,
            numbers.next()?,
            numbers.next().unwrap_or(0),
        ),
    ))
}

/// The programs that `scripts/servers` has for a name, or for `all`.
fn fetched(name: &str) -> Result<Vec<PathBuf>> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("scripts/servers");
    let output = Command::new(&script)
        .arg(name)
        .output()
        .with_context(|| format!("run {}", script.display()))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr);
        bail!("{} {name}: {}", script.display(), why.trim());
    }
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let paths = text.lines().filter_map(|line| line.splitn(3, ' ').nth(2));
    Ok(paths.map(PathBuf::from).collect())
}

/// The absolute path of a program given by path or by name.
///
/// # Errors
/// When it is not there.
pub fn find_program(program: &Path) -> Result<PathBuf> {
    if program.components().count() > 1 {
        let absolute = std::path::absolute(program)?;
        if !absolute.is_file() {
            bail!("no program at {}", absolute.display());
        }
        return Ok(absolute);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join(program));
    match found.into_iter().find(|candidate| candidate.is_file()) {
        Some(found) => Ok(found),
        None => bail!("no program {} in PATH", program.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Server, parse_version};

    #[test]
    fn the_label_is_the_name_in_servers() {
        let server = Server {
            program: "/x".into(),
            name: "Valkey".to_owned(),
            version: (9, 1, 2),
        };
        assert_eq!(server.label(), "valkey-9.1");
    }

    #[test]
    fn versions_are_read() {
        let redis = "Redis server v=7.0.15 sha=00000000:0 malloc=jemalloc-5.3.0 bits=64 build=ae";
        assert_eq!(parse_version(redis), Some(("Redis".to_owned(), (7, 0, 15))));
        let valkey = "Valkey server v=8.1.0-rc1 sha=0 malloc=jemalloc";
        assert_eq!(
            parse_version(valkey),
            Some(("Valkey".to_owned(), (8, 1, 0)))
        );
        assert_eq!(parse_version("nonsense"), None);
    }
}
