//! Asks the addresses that the last decision doubted: the Redis there and the agent there, all at
//! once and each within a deadline. Connections are kept only while a doubt lasts.

use super::own_redis;
use super::peer_http;
use crate::model::observation::{PeerAgent, PeerAnswer, PeerClaim};
use crate::model::reason::ReasonCode;
use crate::model::time::Moment;
use crate::publish::peer_role::PeerRole;
use crate::redis_link::{Credentials, LinkTimeouts, ReadLink};
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::task::JoinSet;

/// For one peer's connection and for its answer, each; its agent has the same.
const DEADLINE: Duration = Duration::from_millis(400);

/// The connections to the peers in doubt.
pub struct DoubtedPeers {
    http_port: u16,
    links: BTreeMap<SocketAddr, ReadLink>,
}

impl DoubtedPeers {
    /// Peers' agents listen on the same port as the own one.
    pub fn new(http_port: u16) -> DoubtedPeers {
        DoubtedPeers {
            http_port,
            links: BTreeMap::new(),
        }
    }

    /// What each of these addresses answers now; `now` is when they were asked, so an answer
    /// never looks younger than it is.
    pub async fn ask(
        &mut self,
        sockets: &BTreeSet<SocketAddr>,
        credentials: &Credentials,
        now: Moment,
    ) -> BTreeMap<SocketAddr, PeerAnswer> {
        let mut kept = std::mem::take(&mut self.links);
        let mut questions = JoinSet::new();
        for socket in sockets.iter().copied() {
            let timeouts = LinkTimeouts {
                connect: DEADLINE,
                answer: DEADLINE,
            };
            let mut link = kept.remove(&socket).unwrap_or_else(|| {
                ReadLink::new(
                    &socket.ip().to_string(),
                    socket.port(),
                    timeouts,
                    credentials.clone(),
                )
            });
            link.set_credentials(credentials);
            let agent = SocketAddr::new(socket.ip(), self.http_port);
            questions.spawn(async move {
                let (redis, agent) =
                    tokio::join!(own_redis::read_peer(&mut link), ask_agent(agent));
                (
                    socket,
                    link,
                    PeerAnswer {
                        at: now,
                        redis,
                        agent,
                    },
                )
            });
        }
        let mut answers = BTreeMap::new();
        while let Some(done) = questions.join_next().await {
            // A task that was cancelled or panicked gave no answer: unknown.
            let Ok((socket, link, answer)) = done else {
                continue;
            };
            self.links.insert(socket, link);
            answers.insert(socket, answer);
        }
        answers
    }

    /// Drops the connections: there is no doubt left.
    pub fn rest(&mut self) {
        self.links.clear();
    }
}

fn says(codes: &[String], code: ReasonCode) -> bool {
    codes.iter().any(|said| said == code.as_str())
}

async fn ask_agent(agent: SocketAddr) -> PeerAgent {
    let body = match peer_http::fetch_role(agent, DEADLINE).await {
        Ok(body) => body,
        Err(error) => return PeerAgent::Silent(error.to_string()),
    };
    match PeerRole::parse(&body) {
        Ok(role) => PeerAgent::Says(PeerClaim {
            cluster: role.cluster.to_string(),
            pod: role.pod.to_string(),
            node_id: role.node_id,
            stage: role.stage,
            shape: role.shape.map(|shape| shape.to_string()),
            node_name: role.node_name,
            zone: role.zone,
            owners: role.owners,
            last_ordinal: role.last_ordinal,
            forgets: role.forgets,
            blank: role.blank,
            stopping: role.stopping,
            doubled: says(&role.codes, ReasonCode::DuplicateNodeId),
            holds_copies: says(&role.codes, ReasonCode::CopiesHeld)
                || says(&role.codes, ReasonCode::DataMissing),
            data_missing: says(&role.codes, ReasonCode::DataMissing),
        }),
        Err(error) => PeerAgent::Silent(format!("its /role cannot be read: {error}")),
    }
}
