//! The testbed's DNS answers as CoreDNS does, by questions on the wire.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use hickory_proto::{
    op::{Edns, Message, Query, ResponseCode},
    rr::{Name, RecordType},
};
use testbed::{
    address::{Addresses, Family},
    dns::{Dns, Fault, Scope},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    time::timeout,
};

const SERVICE: &str = "redis-headless.default.svc.cluster.local.";
const PATIENCE: Duration = Duration::from_millis(300);

struct Asked {
    server: SocketAddr,
    _addresses: Addresses,
}

impl Asked {
    fn question(name: &str, kind: RecordType, size: Option<u16>) -> Result<Vec<u8>> {
        let mut message = Message::query();
        message.add_query(Query::query(Name::from_ascii(name)?, kind));
        if let Some(size) = size {
            let mut edns = Edns::new();
            edns.set_max_payload(size);
            message.edns = Some(edns);
        }
        Ok(message.to_vec()?)
    }

    async fn udp(&self, name: &str, kind: RecordType, size: Option<u16>) -> Result<Message> {
        let socket = UdpSocket::bind("127.0.0.1:0").await?;
        socket.connect(self.server).await?;
        socket.send(&Self::question(name, kind, size)?).await?;
        let mut answer = vec![0; 65535];
        let length = timeout(PATIENCE, socket.recv(&mut answer))
            .await
            .context("silence")??;
        ensure!(
            length <= usize::from(size.unwrap_or(512)),
            "{length} bytes are too many"
        );
        Ok(Message::from_vec(answer.get(..length).unwrap_or_default())?)
    }

    async fn tcp(&self, name: &str, kind: RecordType) -> Result<Message> {
        let mut stream = TcpStream::connect(self.server).await?;
        let question = Self::question(name, kind, None)?;
        stream
            .write_all(&u16::try_from(question.len())?.to_be_bytes())
            .await?;
        stream.write_all(&question).await?;
        let length = timeout(PATIENCE, stream.read_u16())
            .await
            .context("silence")??;
        let mut answer = vec![0; usize::from(length)];
        stream.read_exact(&mut answer).await?;
        Ok(Message::from_vec(&answer)?)
    }

    async fn code(&self, name: &str, kind: RecordType) -> Result<ResponseCode> {
        Ok(self.udp(name, kind, None).await?.metadata.response_code)
    }
}

async fn start(pods: usize) -> Result<(Dns, Asked)> {
    let addresses = Addresses::claim(Family::V4)?;
    let server = SocketAddr::new(addresses.fresh()?, 10053);
    let dns = Dns::new("redis-headless", "default", "cluster.local", vec![6379]);
    dns.listen(server, "redis-app-0").await?;
    for ordinal in 0..pods {
        dns.publish(&format!("redis-app-{ordinal}"), &[addresses.fresh()?]);
    }
    Ok((
        dns,
        Asked {
            server,
            _addresses: addresses,
        },
    ))
}

#[tokio::test]
async fn srv_names_every_pod_with_its_address() -> Result<()> {
    let (dns, asked) = start(3).await?;
    let answer = asked.udp(SERVICE, RecordType::SRV, Some(1232)).await?;
    ensure!(
        answer.answers.len() == 3 && answer.additionals.len() == 3,
        "{answer}"
    );
    ensure!(!answer.metadata.truncation);
    let text = answer.to_string();
    ensure!(
        text.contains("6379 redis-app-2.redis-headless.default.svc.cluster.local."),
        "{text}"
    );

    let a = asked.udp(SERVICE, RecordType::A, None).await?;
    ensure!(a.answers.len() == 3);
    let pod = asked
        .udp(&dns.pod_name("redis-app-1"), RecordType::A, None)
        .await?;
    ensure!(pod.answers.len() == 1);
    let none = asked
        .udp(&dns.pod_name("redis-app-1"), RecordType::AAAA, None)
        .await?;
    ensure!(
        none.answers.is_empty() && none.authorities.len() == 1,
        "{none}"
    );
    ensure!(none.metadata.response_code == ResponseCode::NoError);
    let unknown = asked
        .code(&dns.pod_name("redis-app-9"), RecordType::A)
        .await?;
    ensure!(unknown == ResponseCode::NXDomain);
    ensure!(dns.questions_by_pod().get("redis-app-0") == Some(&5));
    Ok(())
}

#[tokio::test]
async fn large_answers_are_cut_and_tcp_has_them_all() -> Result<()> {
    let (dns, asked) = start(60).await?;
    for size in [None, Some(1232)] {
        let cut = asked.udp(SERVICE, RecordType::SRV, size).await?;
        ensure!(cut.metadata.truncation, "not cut at {size:?}");
    }
    let whole = asked.tcp(SERVICE, RecordType::SRV).await?;
    ensure!(whole.answers.len() == 60 && whole.additionals.len() == 60);
    ensure!(!whole.metadata.truncation);

    dns.fault(Scope::All, Fault::TruncateWithoutTcp);
    let name = dns.pod_name("redis-app-1");
    ensure!(
        asked
            .udp(&name, RecordType::A, None)
            .await?
            .metadata
            .truncation
    );
    ensure!(asked.tcp(&name, RecordType::A).await.is_err());
    Ok(())
}

#[tokio::test]
async fn readiness_decides_where_it_is_told_to() -> Result<()> {
    let (dns, asked) = start(2).await?;
    dns.set_publish_not_ready(false);
    ensure!(asked.code(SERVICE, RecordType::SRV).await? == ResponseCode::NXDomain);
    dns.set_ready("redis-app-1", true);
    ensure!(
        asked
            .udp(SERVICE, RecordType::SRV, None)
            .await?
            .answers
            .len()
            == 1
    );
    dns.unpublish("redis-app-1");
    ensure!(asked.code(SERVICE, RecordType::SRV).await? == ResponseCode::NXDomain);
    Ok(())
}

#[tokio::test]
async fn faults_show_where_they_are_set() -> Result<()> {
    let (dns, asked) = start(2).await?;
    let (zero, one) = (dns.pod_name("redis-app-0"), dns.pod_name("redis-app-1"));
    dns.fault(Scope::Pod("redis-app-1".to_owned()), Fault::Nxdomain);
    dns.fault(Scope::Service, Fault::ServFail);
    ensure!(asked.code(&one, RecordType::A).await? == ResponseCode::NXDomain);
    ensure!(asked.code(SERVICE, RecordType::SRV).await? == ResponseCode::ServFail);
    ensure!(asked.code(&zero, RecordType::A).await? == ResponseCode::NoError);

    dns.fault(Scope::From("redis-app-0".to_owned()), Fault::Timeout);
    ensure!(asked.code(&zero, RecordType::A).await.is_err());
    dns.heal();
    dns.fault(Scope::All, Fault::Slow(Duration::from_millis(100)));
    let since = Instant::now();
    ensure!(asked.code(&one, RecordType::A).await? == ResponseCode::NoError);
    ensure!(since.elapsed() >= Duration::from_millis(100));
    Ok(())
}

#[tokio::test]
async fn old_answers_are_repeated_when_told_to() -> Result<()> {
    let (dns, asked) = start(2).await?;
    let new = dns.pod_name("redis-app-2");
    dns.remember(Some(Duration::from_secs(30)));
    ensure!(asked.code(&new, RecordType::A).await? == ResponseCode::NXDomain);
    dns.publish("redis-app-2", &["127.0.0.2".parse()?]);
    ensure!(asked.code(&new, RecordType::A).await? == ResponseCode::NXDomain);
    dns.remember(None);
    ensure!(asked.code(&new, RecordType::A).await? == ResponseCode::NoError);

    dns.freeze();
    dns.unpublish("redis-app-2");
    ensure!(asked.code(&new, RecordType::A).await? == ResponseCode::NoError);
    dns.release();
    ensure!(asked.code(&new, RecordType::A).await? == ResponseCode::NXDomain);
    Ok(())
}
