//! The finder against a small DNS server on the loopback: UDP and TCP, one closure that answers.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use hickory_resolver::proto::op::{Message, Query, ResponseCode};
use hickory_resolver::proto::rr::Record;
use hickory_resolver::proto::rr::rdata::{A, AAAA, SRV};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, UdpSocket};

use super::*;

const TIMEOUT: Duration = Duration::from_millis(800);
const SERVICE: &str = "redis-headless.default.svc.cluster.local.";

type Respond = dyn Fn(&Query, &mut Message) -> Reply + Send + Sync;

#[derive(Clone, Copy, PartialEq)]
enum Reply {
    Send,
    Truncate,
    Silence,
}

struct Dns {
    address: SocketAddr,
    udp: Arc<AtomicUsize>,
    tcp: Arc<AtomicUsize>,
}

impl Dns {
    async fn start(
        respond: impl Fn(&Query, &mut Message) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let respond: Arc<Respond> = Arc::new(respond);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let socket = UdpSocket::bind(address).await.unwrap();
        let dns = Self {
            address,
            udp: Arc::default(),
            tcp: Arc::default(),
        };
        let (udp, respond_udp) = (Arc::clone(&dns.udp), Arc::clone(&respond));
        tokio::spawn(async move {
            let mut buffer = [0; 4096];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).await.unwrap();
                udp.fetch_add(1, Ordering::Relaxed);
                let (mut message, reply) = answer(&buffer[..length], &*respond_udp);
                if reply == Reply::Truncate || message.to_vec().unwrap().len() > 1232 {
                    message = message.truncate();
                }
                if reply != Reply::Silence {
                    socket
                        .send_to(&message.to_vec().unwrap(), from)
                        .await
                        .unwrap();
                }
            }
        });
        let tcp = Arc::clone(&dns.tcp);
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                let (tcp, respond) = (Arc::clone(&tcp), Arc::clone(&respond));
                tokio::spawn(async move {
                    while let Ok(length) = stream.read_u16().await {
                        let mut buffer = vec![0; usize::from(length)];
                        stream.read_exact(&mut buffer).await.unwrap();
                        tcp.fetch_add(1, Ordering::Relaxed);
                        let (message, reply) = answer(&buffer, &*respond);
                        if reply != Reply::Silence {
                            let bytes = message.to_vec().unwrap();
                            stream.write_u16(bytes.len() as u16).await.unwrap();
                            stream.write_all(&bytes).await.unwrap();
                        }
                    }
                });
            }
        });
        dns
    }

    fn finder(&self) -> PeerFinder {
        PeerFinder::new(Some(self.address), &names(), TIMEOUT).unwrap()
    }

    fn questions(&self) -> (usize, usize) {
        (
            self.udp.load(Ordering::Relaxed),
            self.tcp.load(Ordering::Relaxed),
        )
    }
}

fn answer(question: &[u8], respond: &Respond) -> (Message, Reply) {
    let question = Message::from_vec(question).unwrap();
    let mut message = Message::response(question.metadata.id, question.metadata.op_code);
    let query = question.queries[0].clone();
    message.add_query(query.clone());
    let reply = respond(&query, &mut message);
    (message, reply)
}

fn names() -> PeerNames {
    PeerNames {
        set: "redis-app".into(),
        service: "redis-headless".into(),
        namespace: "default".into(),
        cluster_domain: "cluster.local.".into(),
    }
}

fn name(text: &str) -> Name {
    Name::from_ascii(text).unwrap()
}

fn pod(ordinal: u32) -> String {
    format!("redis-app-{ordinal}.{SERVICE}")
}

fn ip(ordinal: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0001 + ordinal)
}

fn add_target(message: &mut Message, target: &str) {
    let srv = SRV::new(0, 10, 6379, name(target));
    message.add_answer(Record::from_rdata(name(SERVICE), 5, RData::SRV(srv)));
}

fn add_address(message: &mut Message, owner: &str, ip: Ipv4Addr) {
    message.add_additional(Record::from_rdata(name(owner), 5, RData::A(A(ip))));
}

fn is_srv(query: &Query) -> bool {
    query.query_type() == RecordType::SRV
}

fn expected_addresses(ordinals: impl Iterator<Item = u32>) -> BTreeMap<u32, Vec<IpAddr>> {
    ordinals
        .map(|ordinal| (ordinal, vec![ip(ordinal).into()]))
        .collect()
}

#[tokio::test]
async fn a_steady_round_is_one_datagram() {
    let dns = Dns::start(|query, message| {
        assert_eq!(
            (query.name(), query.query_type()),
            (&name(SERVICE), RecordType::SRV)
        );
        for ordinal in 0..6 {
            add_target(message, &pod(ordinal));
            add_address(message, &pod(ordinal), ip(ordinal));
        }
        Reply::Send
    })
    .await;
    let mut finder = dns.finder();
    for round in 1..=3 {
        let seen = finder.find(0..6, true).await;
        assert_eq!(seen.answer, DnsAnswer::Answered);
        assert_eq!(seen.addresses, expected_addresses(0..6));
        assert!(seen.unknown.is_empty() && seen.not_in_dns.is_empty());
        assert_eq!(dns.questions(), (round, 0));
    }
}

#[tokio::test]
async fn a_hundred_pods_come_over_tcp() {
    let dns = Dns::start(|_, message| {
        for ordinal in 0..100 {
            add_target(message, &pod(ordinal));
            add_address(message, &pod(ordinal), ip(ordinal));
        }
        Reply::Send
    })
    .await;
    let mut finder = dns.finder();
    for _ in 0..3 {
        assert_eq!(
            finder.find(0..100, true).await.addresses,
            expected_addresses(0..100)
        );
    }
    assert!(
        dns.questions().1 >= 1 && dns.questions().0 <= 3,
        "{:?}",
        dns.questions()
    );
}

#[tokio::test]
async fn foreign_names_are_ignored_and_case_does_not_count() {
    let foreign = [
        "redis-app-01.redis-headless.default.svc.cluster.local.",
        "redis-app-.redis-headless.default.svc.cluster.local.",
        "redis-app-4294967296.redis-headless.default.svc.cluster.local.",
        "other-1.redis-headless.default.svc.cluster.local.",
        "redis-app-1.redis-headless.other.svc.cluster.local.",
        "redis-app-1.redis-headless.default.svc.cluster.local.example.",
        "a.redis-app-1.redis-headless.default.svc.cluster.local.",
        "10-0-0-7.redis-headless.default.svc.cluster.local.",
    ];
    let dns = Dns::start(move |_, message| {
        for target in foreign {
            add_target(message, target);
            add_address(message, target, ip(99));
        }
        add_target(
            message,
            "Redis-App-2.REDIS-headless.default.svc.cluster.LOCAL.",
        );
        add_address(
            message,
            "redis-app-2.redis-headless.DEFAULT.svc.cluster.local.",
            ip(2),
        );
        add_address(message, &pod(3), ip(3));
        Reply::Send
    })
    .await;
    let mut upper = names();
    upper.cluster_domain = "Cluster.Local".into();
    let mut finder = PeerFinder::new(Some(dns.address), &upper, TIMEOUT).unwrap();
    assert_eq!(
        finder.find(0..3, false).await.addresses,
        expected_addresses(2..3)
    );
}

#[tokio::test]
async fn names_without_addresses_and_missing_ones_are_asked_for() {
    let dns = Dns::start(|query, message| {
        let is = |ordinal| *query.name() == name(&pod(ordinal));
        let wants = query.query_type();
        let v6 = |last| {
            RData::AAAA(AAAA(std::net::Ipv6Addr::new(
                0xfd00, 0, 0, 0, 0, 0, 0, last,
            )))
        };
        match wants {
            RecordType::SRV => add_target(message, &pod(0)),
            RecordType::A if is(0) || is(1) => {
                let ordinal = u32::from(is(1));
                let data = RData::A(A(ip(ordinal)));
                message.add_answer(Record::from_rdata(query.name().clone(), 5, data));
            }
            RecordType::AAAA if is(1) => {
                message.add_answer(Record::from_rdata(query.name().clone(), 5, v6(1)));
            }
            _ if is(0) => {}
            _ if is(3) => return Reply::Silence,
            _ if is(4) => message.metadata.response_code = ResponseCode::ServFail,
            _ => message.metadata.response_code = ResponseCode::NXDomain,
        }
        Reply::Send
    })
    .await;
    let mut finder = dns.finder();
    let seen = finder.find(0..5, false).await;
    assert_eq!(seen.addresses, expected_addresses(0..1));
    assert!(seen.not_in_dns.is_empty() && seen.unknown.is_empty());
    let start = Instant::now();
    let seen = finder.find(0..5, true).await;
    assert!(start.elapsed() < 2 * TIMEOUT, "{:?}", start.elapsed());
    assert_eq!(seen.addresses.keys().copied().collect::<Vec<_>>(), [0, 1]);
    assert_eq!(seen.addresses[&1].len(), 2);
    assert_eq!(seen.not_in_dns, BTreeSet::from([2]));
    assert_eq!(seen.unknown, BTreeSet::from([3, 4]));
}

#[tokio::test]
async fn a_hundred_missing_pods_are_asked_for_in_bounded_time() {
    let dns = Dns::start(|query, message| {
        message.metadata.response_code = ResponseCode::NXDomain;
        if *query.name() == name(&pod(64)) {
            Reply::Silence
        } else {
            Reply::Send
        }
    })
    .await;
    // On a busy machine the time may be over before all have been answered; not every time.
    let begin = Instant::now();
    let seen = loop {
        let seen = dns.finder().find(0..100, true).await;
        if seen.unknown.len() == 1 || begin.elapsed() > TIMEOUT * 50 {
            break seen;
        }
    };
    assert_eq!(seen.answer, DnsAnswer::NoSuchName);
    assert_eq!(seen.not_in_dns.len(), 99);
    assert_eq!(seen.unknown, BTreeSet::from([64]));
}

#[tokio::test]
async fn no_usable_answer_is_a_failure_that_says_why() {
    for (code, word) in [
        (ResponseCode::ServFail, "Server Failure"),
        (ResponseCode::Refused, "Query Refused"),
    ] {
        let dns = Dns::start(move |_, message| {
            message.metadata.response_code = code;
            Reply::Send
        })
        .await;
        let seen = dns.finder().find(0..3, false).await;
        assert!(
            matches!(&seen.answer, DnsAnswer::Failed(why) if why.contains(word)),
            "{seen:?}"
        );
    }
}

#[tokio::test]
async fn a_silent_server_costs_the_timeouts_and_no_more() {
    let dns = Dns::start(|_, _| Reply::Silence).await;
    let start = Instant::now();
    let seen = dns.finder().find(0..100, true).await;
    assert!(
        matches!(&seen.answer, DnsAnswer::Failed(why) if why.contains("timed out")),
        "{seen:?}"
    );
    assert_eq!(seen.unknown.len(), 100);
    assert!(
        start.elapsed() < TIMEOUT * 2 + Duration::from_millis(400),
        "{:?}",
        start.elapsed()
    );
}

#[tokio::test]
async fn a_truncated_answer_is_asked_for_over_tcp_and_so_is_a_lost_one() {
    for udp in [Reply::Truncate, Reply::Silence] {
        let calls = AtomicUsize::new(0);
        let dns = Dns::start(move |query, message| {
            assert!(is_srv(query));
            add_target(message, &pod(0));
            add_address(message, &pod(0), ip(0));
            // UDP is asked first; its retransmissions count as well.
            match (udp, calls.fetch_add(1, Ordering::Relaxed)) {
                (_, 0) => udp,
                (Reply::Silence, 1) => udp,
                _ => Reply::Send,
            }
        })
        .await;
        let seen = dns.finder().find(0..1, false).await;
        assert_eq!(seen.addresses, expected_addresses(0..1));
        assert_eq!(dns.questions().1, 1);
    }
}

#[tokio::test]
async fn the_resolv_conf_is_followed_when_it_changes() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    let mut servers = NameServers::new(None, file.clone(), TIMEOUT);
    let labels = |servers: &mut NameServers| servers.asker().labels();
    assert_eq!(
        labels(&mut servers),
        ["127.0.0.1:53 udp", "127.0.0.1:53 tcp"]
    );
    std::fs::write(&file, "nameserver 10.0.0.1\nnameserver 10.0.0.2\n").unwrap();
    assert_eq!(
        labels(&mut servers)[..2],
        ["10.0.0.1:53 udp", "10.0.0.2:53 udp"]
    );
    std::fs::remove_file(&file).unwrap();
    assert_eq!(labels(&mut servers).len(), 4);
}

#[test]
fn parts_that_make_no_name_are_refused() {
    for service in ["", "a..b", &"x".repeat(64)] {
        let names = PeerNames {
            service: service.into(),
            ..names()
        };
        assert!(PeerFinder::new(None, &names, TIMEOUT).is_err(), "{service}");
    }
}
