//! What exactly a pod runs: redis.conf, and the agent's environment.
//!
//! Does not: start anything.

use std::fmt::Write;

use anyhow::{Context, Result};

use super::Pod;
use crate::{lock, process::Program};

impl Pod {
    /// Writes redis.conf anew (as a ConfigMap would have it) and says how to run it.
    pub(super) fn redis_program(&self) -> Result<Program> {
        let conf = self.folder.join("redis.conf");
        std::fs::write(&conf, self.redis_conf()?)
            .with_context(|| format!("write {}", conf.display()))?;
        Ok(Program {
            path: lock(&self.settings).server.program.clone(),
            arguments: vec![conf.into_os_string()],
            env: inherited(),
            folder: self.folder.clone(),
            gid: self.gid,
        })
    }

    /// Addresses matter twice: Redis listens there, and its peers learn where it is from the
    /// source of its connections.
    fn redis_conf(&self) -> Result<String> {
        let settings = self.settings();
        let ip = self.address();
        let mut conf = format!(
            "bind {ip}\n\
             port {port}\n\
             protected-mode no\n\
             daemonize no\n\
             cluster-enabled yes\n\
             cluster-config-file nodes.conf\n\
             cluster-node-timeout {timeout}\n\
             dir \"{dir}\"\n\
             appendonly {appendonly}\n\
             save \"\"\n\
             repl-diskless-sync yes\n\
             repl-diskless-sync-delay 0\n\
             logfile \"\"\n",
            port = settings.redis_port,
            timeout = settings.node_timeout.as_millis(),
            dir = self.data_dir().display(),
            appendonly = if settings.appendonly { "yes" } else { "no" },
        );
        if settings.server.has_bind_source() {
            writeln!(conf, "bind-source-addr {ip}")?;
        }
        if !settings.server.counts_subcommands() {
            // Every command is slow enough, for `writes`.
            conf.push_str("slowlog-log-slower-than 0\nslowlog-max-len 500000\n");
        }
        if let Some(password) = &settings.password {
            writeln!(
                conf,
                "requirepass \"{password}\"\nmasterauth \"{password}\""
            )?;
        }
        for line in &settings.redis_lines {
            writeln!(conf, "{line}")?;
        }
        Ok(conf)
    }

    /// The agent, told by its environment alone what a pod's manifest would tell it.
    pub(super) fn agent_program(&self) -> Result<Program> {
        let settings = self.settings();
        let path = settings
            .agent
            .with_context(|| format!("{} has no agent", self.name))?;
        let ip = self.address();
        let mut env: std::collections::BTreeMap<String, String> = [
            ("POD_NAME", self.name.clone()),
            ("POD_NAMESPACE", self.set.namespace.clone()),
            ("POD_IP", ip.to_string()),
            ("HEADLESS_SERVICE", self.set.service.clone()),
            ("MASTERS", self.set.masters.to_string()),
            (
                "REPLICAS_PER_MASTER",
                self.set.replicas_per_master.to_string(),
            ),
            ("REDIS_HOST", ip.to_string()),
            ("REDIS_PORT", settings.redis_port.to_string()),
            ("DATA_DIR", self.data_dir().display().to_string()),
            ("HTTP_ADDR", self.http_address().to_string()),
            ("DNS_SERVER", self.dns.to_string()),
            ("LOG_FORMAT", "text".to_owned()),
            (
                "RUST_LOG",
                std::env::var("RUST_LOG").unwrap_or_else(|_| "info".to_owned()),
            ),
            ("RUST_BACKTRACE", "1".to_owned()),
            ("REDIS_PASSWORD", settings.password.unwrap_or_default()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .chain(inherited())
        .collect();
        env.extend(settings.agent_env);
        let env = env
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .collect();
        Ok(Program {
            path,
            arguments: Vec::new(),
            env,
            folder: self.folder.clone(),
            gid: self.gid,
        })
    }
}

/// The little that a child takes over from us: where to find programs, and where a coverage build
/// writes its profile.
fn inherited() -> Vec<(String, String)> {
    ["PATH", "LLVM_PROFILE_FILE"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}
