//! The wire of `dns`: hickory-server's sockets, message sizes, and the faults of delivery.
//!
//! EDNS is honoured: an answer larger than the client's UDP size (512 without EDNS) is cut with
//! TC set, and TCP gives the whole one.
//!
//! Does not: decide what is right to answer; see `dns/zone`.

use std::{iter, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use async_trait::async_trait;
use hickory_proto::{
    op::{Edns, Header, HeaderCounts, Metadata, ResponseCode},
    rr::{Name, Record},
};
use hickory_server::{
    net::{runtime::Time, xfer::Protocol},
    server::{Request, RequestHandler, ResponseHandler, ResponseInfo, Server},
    zone_handler::MessageResponseBuilder,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

use super::{Fault, Shared, zone::Answer};

/// An idle TCP connection is closed after this.
const TCP_IDLE: Duration = Duration::from_secs(5);

struct Handler {
    shared: Arc<Shared>,
    asker: String,
}

/// Binds `address` on UDP and TCP before it returns, so that the first question is answered.
pub(super) async fn listen(
    shared: Arc<Shared>,
    address: SocketAddr,
    asker: String,
) -> Result<JoinHandle<()>> {
    let udp = UdpSocket::bind(address)
        .await
        .with_context(|| format!("DNS on udp {address}"))?;
    let tcp = TcpListener::bind(address)
        .await
        .with_context(|| format!("DNS on tcp {address}"))?;
    let mut server = Server::new(Handler { shared, asker });
    server.register_socket(udp);
    server.register_listener(tcp, TCP_IDLE, 16);
    Ok(tokio::spawn(async move {
        if let Err(error) = server.block_until_done().await {
            eprintln!("testbed: DNS at {address} ended: {error}");
        }
    }))
}

#[async_trait]
impl RequestHandler for Handler {
    async fn handle_request<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        responder: R,
    ) -> ResponseInfo {
        let mut metadata = Metadata::response_from_request(&request.metadata);
        metadata.authoritative = true;
        metadata.recursion_available = true;
        let Some((fault, answer)) = self.judge(request).await else {
            return silence(metadata);
        };
        if request.protocol() == Protocol::Udp
            && matches!(fault, Some(Fault::Truncate | Fault::TruncateWithoutTcp))
        {
            metadata.truncation = true;
            return send(
                request,
                responder,
                metadata,
                &Answer::only(ResponseCode::NoError),
            )
            .await;
        }
        metadata.response_code = answer.code;
        send(request, responder, metadata, &answer).await
    }
}

impl Handler {
    /// The answer, when its time has come; `None` means that none is sent.
    async fn judge(&self, request: &Request) -> Option<(Option<Fault>, Answer)> {
        let Ok(info) = request.request_info() else {
            return Some((None, Answer::only(ResponseCode::FormErr)));
        };
        let name: &Name = info.query.original().name();
        let kind = info.query.query_type();
        let tcp = request.protocol() == Protocol::Tcp;
        let fault = self.shared.receive(&self.asker, name, kind, tcp);
        match fault {
            Some(Fault::Timeout) => return None,
            Some(Fault::TruncateWithoutTcp) if tcp => return None,
            Some(Fault::Slow(delay)) => tokio::time::sleep(delay).await,
            _ => {}
        }
        let answer = self
            .shared
            .answer(name, kind, fault)
            .unwrap_or_else(|error| {
                eprintln!("testbed: DNS answer for {name} {kind}: {error:#}");
                Answer::only(ResponseCode::ServFail)
            });
        Some((fault, answer))
    }
}

async fn send<R: ResponseHandler>(
    request: &Request,
    mut responder: R,
    metadata: Metadata,
    answer: &Answer,
) -> ResponseInfo {
    // The encoder cuts at the size in the response's EDNS record: the client's own.
    let mut edns = Edns::new();
    edns.set_max_payload(request.max_payload());
    let mut builder = MessageResponseBuilder::from_message_request(request);
    if request.edns.is_some() {
        builder.edns(&edns);
    }
    let response = builder.build(
        metadata,
        answer.answers.iter(),
        iter::empty::<&Record>(),
        answer.soa.iter(),
        answer.additionals.iter(),
    );
    match responder.send_response(response).await {
        Ok(info) => info,
        Err(error) => {
            eprintln!("testbed: DNS answer not sent: {error}");
            silence(metadata)
        }
    }
}

fn silence(metadata: Metadata) -> ResponseInfo {
    ResponseInfo::from(Header {
        metadata,
        counts: HeaderCounts::default(),
    })
}
