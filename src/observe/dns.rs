//! One DNS question at a time, to whichever nameserver answers, within a deadline.
//!
//! In: an absolute name and a record type. Out: an [`Answer`]. The servers are a given one or those
//! of `/etc/resolv.conf`, which is read again when it changes.
//! Not here: search lists, `ndots`, `/etc/hosts`, any cache, and what names mean.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, NameServerConfig, ResolveHosts, ResolverConfig, ResolverOpts,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::net::{DnsError, NetError};
use hickory_resolver::proto::op::ResponseCode;
use hickory_resolver::proto::rr::{Name, RecordType};
use tokio::time::{Instant, timeout};

use super::resolv_conf;
use crate::file_stamp::FileStamp;

/// What one question brought.
pub(super) enum Answer {
    /// Records, with the additional section.
    Records(Box<Lookup>),
    /// The name exists and has no record of this type.
    NoRecords,
    /// The name does not exist.
    NoSuchName,
    /// No server gave a usable answer in time; why, server by server.
    Failed(String),
}

/// Where the nameservers' addresses come from.
enum Source {
    Given,
    ResolvConf {
        path: PathBuf,
        seen: Option<FileStamp>,
    },
}

/// The nameservers to ask, kept up to date.
pub(super) struct NameServers {
    source: Source,
    timeout: Duration,
    asker: Asker,
}

impl NameServers {
    /// This server, or those of the file at `resolv_conf`. `timeout` bounds one question.
    pub(super) fn new(server: Option<SocketAddr>, resolv_conf: PathBuf, timeout: Duration) -> Self {
        let source = match server {
            Some(_) => Source::Given,
            None => Source::ResolvConf {
                path: resolv_conf,
                seen: None,
            },
        };
        let asker = Asker::new(server.as_slice(), timeout);
        Self {
            source,
            timeout,
            asker,
        }
    }

    /// Asks with the servers as they are now: one `stat`, and one read if the file changed.
    /// A file that cannot be read keeps the servers known before, or means this host.
    pub(super) fn asker(&mut self) -> Asker {
        if let Source::ResolvConf { path, seen } = &mut self.source {
            let stamp = fs::metadata(&*path).ok().map(|meta| FileStamp::of(&meta));
            if self.asker.routes.is_empty() || (stamp.is_some() && stamp != *seen) {
                let bytes = fs::read(&*path).unwrap_or_default();
                self.asker = Asker::new(&resolv_conf::nameservers(&bytes), self.timeout);
                *seen = stamp;
            }
        }
        self.asker.clone()
    }
}

/// One way to ask: a server over UDP (and TCP when truncated), or over TCP alone.
struct Route {
    label: String,
    resolver: TokioResolver,
}

/// Asks the servers of one moment. A clone shares everything.
#[derive(Clone)]
pub(super) struct Asker {
    routes: Arc<[Route]>,
    /// The route that answered last is asked first: in a steady state one question is one datagram.
    preferred: Arc<AtomicUsize>,
}

impl Asker {
    fn new(servers: &[SocketAddr], timeout: Duration) -> Self {
        let udp = servers.iter().map(|&server| (server, "udp", true));
        let tcp = servers.iter().map(|&server| (server, "tcp", false));
        let routes = udp.chain(tcp).filter_map(|(server, protocol, with_udp)| {
            let label = format!("{server} {protocol}");
            match resolver(server, with_udp, timeout) {
                Ok(resolver) => Some(Route { label, resolver }),
                Err(error) => {
                    tracing::warn!(server = %label, %error, "cannot ask this nameserver");
                    None
                }
            }
        });
        Self {
            routes: routes.collect(),
            preferred: Arc::default(),
        }
    }

    #[cfg(test)]
    pub(super) fn labels(&self) -> Vec<String> {
        self.routes
            .iter()
            .map(|route| route.label.clone())
            .collect()
    }

    /// Asks every route in turn until one answers, also if the answer is "no such name". Each gets
    /// an equal share of the time left until `deadline`.
    pub(super) async fn ask(&self, name: &Name, record: RecordType, deadline: Instant) -> Answer {
        let count = self.routes.len();
        let first = self.preferred.load(Ordering::Relaxed);
        let mut failures = Vec::new();
        for step in 0..count {
            let index = (first + step) % count;
            let Some(Route { label, resolver }) = self.routes.get(index) else {
                break;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            let share = left / u32::try_from(count - step).unwrap_or(1);
            let question = resolver.lookup(name.clone(), record);
            let answer = match timeout(share, question).await {
                Ok(Ok(lookup)) => Answer::Records(Box::new(lookup)),
                Ok(Err(error)) => negative(&error),
                Err(_) => Answer::Failed(NetError::Timeout.to_string()),
            };
            if let Answer::Failed(why) = answer {
                failures.push(format!("{label}: {why}"));
                continue;
            }
            self.preferred.store(index, Ordering::Relaxed);
            return answer;
        }
        Answer::Failed(failures.join("; "))
    }
}

fn negative(error: &NetError) -> Answer {
    let code = match error {
        NetError::Dns(DnsError::NoRecordsFound(none)) => Some(none.response_code),
        _ => None,
    };
    match code {
        Some(ResponseCode::NoError) => Answer::NoRecords,
        Some(ResponseCode::NXDomain) => Answer::NoSuchName,
        _ => Answer::Failed(error.to_string()),
    }
}

fn resolver(
    server: SocketAddr,
    with_udp: bool,
    timeout: Duration,
) -> Result<TokioResolver, NetError> {
    let mut connections = vec![ConnectionConfig::tcp()];
    if with_udp {
        connections.insert(0, ConnectionConfig::udp());
    }
    for connection in &mut connections {
        connection.port = server.port();
    }
    let server = NameServerConfig::new(server.ip(), true, connections);
    let config = ResolverConfig::from_parts(None, Vec::new(), vec![server]);
    let mut builder = TokioResolver::builder_with_config(config, TokioRuntimeProvider::default());
    let options: &mut ResolverOpts = builder.options_mut();
    options.timeout = timeout;
    options.attempts = 0;
    options.cache_size = 0;
    options.edns0 = true;
    options.use_hosts_file = ResolveHosts::Never;
    options.num_concurrent_reqs = 1;
    builder.build()
}
