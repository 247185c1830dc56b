//! The links against a real redis-server on the loopback.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::*;
use crate::config::PasswordSource;
use crate::model::info::Info;

mod hastening;

const TIMEOUTS: LinkTimeouts = LinkTimeouts {
    connect: Duration::from_millis(400),
    answer: Duration::from_millis(400),
};
/// Where nothing is measured: machines are slow.
const PATIENT: LinkTimeouts = LinkTimeouts {
    connect: Duration::from_secs(10),
    answer: Duration::from_secs(10),
};

struct Server {
    port: u16,
    dir: TempDir,
    child: Child,
}

impl Server {
    async fn start(args: &[&str]) -> Self {
        let port = free_port();
        let dir = tempfile::tempdir().unwrap();
        let child = spawn(port, &dir, args);
        let server = Self { port, dir, child };
        server.wait_until_it_listens().await;
        server
    }

    async fn restart(&mut self, args: &[&str]) {
        self.stop();
        self.child = spawn(self.port, &self.dir, args);
        self.wait_until_it_listens().await;
    }

    async fn wait_until_it_listens(&self) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while tokio::net::TcpStream::connect(("127.0.0.1", self.port))
            .await
            .is_err()
        {
            assert!(Instant::now() < deadline, "redis-server did not start");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn signal(&self, name: &str) {
        let pid = self.child.id().to_string();
        assert!(
            Command::new("kill")
                .args([name, &pid])
                .status()
                .unwrap()
                .success()
        );
    }

    fn stop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn read_link(&self, password: Option<&str>) -> ReadLink {
        ReadLink::new("127.0.0.1", self.port, TIMEOUTS, credentials(password))
    }

    fn write_link(&self, password: Option<&str>) -> WriteLink {
        WriteLink::new("127.0.0.1", self.port, TIMEOUTS, credentials(password))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(port: u16, dir: &TempDir, args: &[&str]) -> Child {
    let server = installed();
    // Before 7.0 DEBUG is always there, and so is no option for it.
    let debug: &[&str] = match server.version >= (7, 0, 0) {
        true => &["--enable-debug-command", "yes"],
        false => &[],
    };
    Command::new(&server.program)
        .args([
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
            "--save",
            "",
        ])
        .args(debug)
        .arg("--dir")
        .arg(dir.path())
        .args(args)
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// `REDIS_SERVER`, or the installed one.
fn installed() -> testbed::server::Server {
    testbed::server::Server::installed().unwrap()
}

/// A port that is free together with its cluster bus port, 10000 higher; both are below the range
/// from which the kernel gives ports to connections.
fn free_port() -> u16 {
    // Two tests of one run must not take the same one.
    static NEXT: std::sync::Mutex<u16> = std::sync::Mutex::new(0);
    let mut next = NEXT.lock().unwrap();
    let start = std::process::id() % 2_000;
    loop {
        let port = 20_000 + ((start * 7 + u32::from(*next)) % 2_000) as u16;
        *next += 1;
        assert!(*next < 2_000, "no free port");
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if free(port) && free(port + 10_000) {
            return port;
        }
    }
}

fn credentials(password: Option<&str>) -> Credentials {
    Credentials {
        username: None,
        password: password.map(str::to_owned),
    }
}

#[tokio::test]
async fn an_error_in_the_middle_leaves_the_other_answers() {
    let server = Server::start(&[]).await;
    let mut link = server.read_link(None);
    let answers = link
        .ask(&[Read::Info, Read::ClusterNodes, Read::Role])
        .await
        .unwrap();
    assert!(text(&answers[0]).unwrap().contains("redis_version:"));
    assert_eq!(
        server_error(&answers[1]).unwrap().0,
        "ERR This instance has cluster support disabled"
    );
    assert!(matches!(answers[2], Value::Array(_)));
    assert!(link.ask(&[]).await.unwrap().is_empty());
}

#[tokio::test]
async fn every_command_is_one_that_a_cluster_node_takes() {
    let server = Server::start(&["--cluster-enabled", "yes"]).await;
    let answers = server.read_link(None).ask(&Read::ALL).await.unwrap();
    for (read, answer) in Read::ALL.iter().zip(&answers) {
        let has_it = *read != Read::ClusterShards || installed().has_slot_ranges();
        assert_eq!(
            server_error(answer).is_none(),
            has_it,
            "{read:?}: {answer:?}"
        );
    }
    let ten = vec![(0, 10)];
    let add_range = match installed().has_slot_ranges() {
        true => Write::AddSlotsRange(ten),
        false => Write::AddSlots(ten),
    };
    let replies = server
        .write_link(None)
        .send(&[
            Write::ConfigSet {
                name: "cluster-announce-ip".into(),
                value: "127.0.0.1".into(),
            },
            Write::SetConfigEpoch(1),
            add_range,
            Write::AddSlots(vec![(10, 11)]),
            Write::AddSlots(vec![(11, 16383)]),
            Write::Replicate("0".repeat(40)),
            Write::SetSlotStable(0),
        ])
        .await
        .unwrap();
    let ok = |index: usize| replies[index].as_ref().unwrap().as_str();
    assert_eq!(
        [ok(0), ok(1), ok(2), ok(4), ok(6)],
        ["OK", "OK", "OK", "OK", "OK"]
    );
    assert_eq!(
        replies[3].as_ref().unwrap_err().0,
        "ERR Slot 10 is already busy"
    );
    assert!(
        replies[5]
            .as_ref()
            .unwrap_err()
            .0
            .starts_with("ERR Unknown node 000")
    );
}

#[tokio::test]
async fn a_wrong_or_missing_password_is_said_in_redis_words() {
    let server = Server::start(&["--requirepass", "right"]).await;
    let wrong = server
        .read_link(Some("wrong-word"))
        .ask(&[Read::Info])
        .await
        .unwrap_err();
    assert!(
        matches!(&wrong, LinkError::Auth(why) if why.starts_with("WRONGPASS")),
        "{wrong}"
    );
    assert!(!wrong.to_string().contains("wrong-word"));
    let none = server
        .read_link(None)
        .ask(&[Read::Info, Read::Role])
        .await
        .unwrap_err();
    assert!(
        matches!(&none, LinkError::Auth(why) if why.starts_with("NOAUTH")),
        "{none}"
    );
    assert!(
        server
            .read_link(Some("right"))
            .ask(&[Read::Info])
            .await
            .is_ok()
    );
    let open = Server::start(&[]).await;
    let unasked = open
        .read_link(Some("secret-word"))
        .ask(&[Read::Info])
        .await
        .unwrap_err();
    assert!(matches!(&unasked, LinkError::Auth(why) if why.contains("without any password")));
}

#[tokio::test]
async fn s14_a_renamed_command_does_not_echo_the_secret() {
    let renamed = [
        "--rename-command",
        "AUTH",
        "",
        "--rename-command",
        "CONFIG",
        "",
    ];
    let server = Server::start(&renamed).await;
    let auth = server
        .read_link(Some("hunter2"))
        .ask(&[Read::Info])
        .await
        .unwrap_err();
    assert!(
        matches!(&auth, LinkError::Auth(why) if why.contains("unknown command")),
        "{auth}"
    );
    assert!(!auth.to_string().contains("hunter2"), "{auth}");
    let set = Write::ConfigSet {
        name: "masterauth".into(),
        value: "hunter2".into(),
    };
    let replies = server.write_link(None).send(&[set]).await.unwrap();
    let error = replies[0].as_ref().unwrap_err();
    assert!(
        error.0.contains("unknown command") && !error.0.contains("hunter2"),
        "{error}"
    );
}

#[tokio::test]
async fn a_frozen_server_times_out_and_works_again_after() {
    let server = Server::start(&["--requirepass", "right"]).await;
    let mut kept = server.read_link(Some("right"));
    kept.ask(&[Read::Info]).await.unwrap();
    server.signal("-STOP");
    for link in [&mut kept, &mut server.read_link(Some("right"))] {
        let start = Instant::now();
        let error = link.ask(&[Read::Info]).await.unwrap_err();
        assert!(matches!(error, LinkError::TimedOut { .. }), "{error}");
        assert!(
            start.elapsed() < TIMEOUTS.connect + TIMEOUTS.answer,
            "{:?}",
            start.elapsed()
        );
    }
    server.signal("-CONT");
    kept.ask(&[Read::Info]).await.unwrap();
}

#[tokio::test]
async fn a_closed_port_is_unreachable_at_once() {
    let start = Instant::now();
    let mut link = ReadLink::new("127.0.0.1", free_port(), TIMEOUTS, Credentials::default());
    let error = link.ask(&[Read::Info]).await.unwrap_err();
    assert!(
        matches!(&error, LinkError::Refused(why) if why.contains("refused")),
        "{error}"
    );
    assert!(start.elapsed() < Duration::from_millis(200));
}

#[tokio::test]
async fn names_and_ipv6_literals_are_hosts() {
    let server = Server::start(&["--bind", "127.0.0.1", "::1"]).await;
    for host in ["localhost", "::1", "[::1]", "127.0.0.1"] {
        let mut link = ReadLink::new(host, server.port, TIMEOUTS, Credentials::default());
        link.ask(&[Read::Role]).await.unwrap();
    }
}

#[tokio::test]
async fn a_restarted_server_is_found_again() {
    let mut server = Server::start(&[]).await;
    let (mut read, mut write) = (server.read_link(None), server.write_link(None));
    let set = [Write::ConfigSet {
        name: "maxmemory".into(),
        value: "0".into(),
    }];
    read.ask(&[Read::Info]).await.unwrap();
    write.send(&set).await.unwrap();
    server.restart(&[]).await;
    read.ask(&[Read::Info]).await.unwrap();
    let broken = write.send(&set).await.unwrap_err();
    assert!(matches!(broken, LinkError::Broken(_)), "{broken}");
    write.send(&set).await.unwrap();
    server.stop();
    let gone = read.ask(&[Read::Info]).await.unwrap_err();
    assert!(matches!(gone, LinkError::Refused(_)), "{gone}");
}

#[tokio::test]
async fn a_rotated_password_file_is_followed() {
    let server = Server::start(&["--requirepass", "old"]).await;
    let file = server.dir.path().join("password");
    std::fs::write(&file, "old\n").unwrap();
    let mut store = CredentialStore::new(None, PasswordSource::File(file.clone()));
    let mut link = server.read_link(None);
    link.set_credentials(store.current());
    link.ask(&[Read::Info]).await.unwrap();
    let set = [Write::ConfigSet {
        name: "requirepass".into(),
        value: "new".into(),
    }];
    server.write_link(Some("old")).send(&set).await.unwrap();
    std::fs::write(&file, "new\n").unwrap();
    link.set_credentials(store.current());
    assert!(link.0.connection.is_none());
    link.ask(&[Read::Info]).await.unwrap();
}

#[tokio::test]
async fn a_loading_server_takes_the_password_and_answers_info() {
    let mut server = Server::start(&["--requirepass", "right"]).await;
    let password = || credentials(Some("right"));
    let mut link = RedisLink::new("127.0.0.1", server.port, PATIENT, password());
    // Of 10 kB each, as servers before 7.0 look up from their loading every 2 MB only.
    let fill = [
        vec!["CONFIG", "SET", "rdbcompression", "no"],
        vec!["DEBUG", "POPULATE", "6000", "key", "10000"],
        vec!["SAVE"],
    ];
    let fill = fill.map(|command| command.into_iter().map(str::to_owned).collect());
    link.exchange(&fill).await.unwrap();
    let slow = ["--key-load-delay", "1000"];
    server
        .restart(&[&["--requirepass", "right"], &slow[..]].concat())
        .await;
    let mut link = ReadLink::new("127.0.0.1", server.port, PATIENT, password());
    let asked = link.ask(&[Read::Info, Read::ClusterMyId]).await;
    let answers = asked.unwrap();
    assert!(text(&answers[0]).unwrap().contains("loading:1"));
    // Valkey answers some CLUSTER commands then, and this server has no cluster.
    let refused = match installed().name.as_str() {
        "Valkey" => "ERR",
        _ => "LOADING",
    };
    assert_eq!(server_error(&answers[1]).unwrap().code(), refused);
}

#[tokio::test]
async fn nothing_is_sent_but_what_was_asked_for() {
    let server = Server::start(&[]).await;
    let mut link = server.read_link(None);
    let mut counts = Vec::new();
    for _ in 0..4 {
        let answers = link.ask(&[Read::Info]).await.unwrap();
        let Ok(info) = text(&answers[0]).unwrap().parse::<Info>();
        let number = |key| info.get(key).unwrap().parse::<u64>().unwrap();
        counts.push((
            number("total_commands_processed"),
            number("total_connections_received"),
        ));
    }
    // Versions differ in what they count of their own start and of the command that asks.
    let (commands, connections) = counts[0];
    let one_more_each: Vec<_> = (0..4).map(|n| (commands + n, connections)).collect();
    assert!(commands <= 2);
    assert_eq!(counts, one_more_each);
}

#[tokio::test]
async fn an_acl_user_with_any_characters_in_its_password() {
    let word = "a:b@c/d?e#f%20 \"'\\é";
    let server = Server::start(&[]).await;
    let mut admin = RedisLink::new("127.0.0.1", server.port, TIMEOUTS, credentials(None));
    let set = [
        "ACL",
        "SETUSER",
        "agent",
        "on",
        "+@all",
        &format!(">{word}"),
    ]
    .map(str::to_owned);
    admin.exchange(&[set.to_vec()]).await.unwrap();
    let agent = Credentials {
        username: Some("agent".into()),
        password: Some(word.into()),
    };
    let mut link = ReadLink::new("127.0.0.1", server.port, TIMEOUTS, agent);
    link.ask(&[Read::Info]).await.unwrap();
}

#[tokio::test]
async fn what_is_no_redis_is_broken_and_costs_no_more_than_the_deadline() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        use tokio::io::AsyncWriteExt;
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
    });
    let mut link = ReadLink::new("127.0.0.1", port, TIMEOUTS, Credentials::default());
    let error = link.ask(&[Read::Info]).await.unwrap_err();
    assert!(matches!(error, LinkError::Broken(_)), "{error}");
}
