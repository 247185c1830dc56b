//! The socket from both ends: who may use it, whatever lies in its place, and that nobody hangs.

use super::client::{self, Ended};
use super::desk::Desk;
use super::words::Request;
use super::{place, server};
use crate::model::asked::{Answer, Answers, Outcome};
use crate::model::time::Moment;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

const SOON: Duration = Duration::from_secs(10);

fn pre_stop(within_ms: u64) -> Request {
    Request::PreStop { within_ms }
}

/// A served socket in a fresh folder, and its desk.
async fn served(name: &str) -> (tempfile::TempDir, PathBuf, Desk) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    let desk = Desk::new();
    let (at, lies) = (path.clone(), desk.clone());
    tokio::spawn(async move { server::serve(&at, lies, std::future::pending()).await });
    until(|| path.exists()).await;
    (folder, path, desk)
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !condition() {
        assert!(Instant::now() < deadline, "not in time");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Asks in a thread, as the command does.
async fn ask(path: &Path, request: Request, within: Duration) -> (Ended, Vec<String>) {
    let path = path.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let mut told = Vec::new();
        let ended = client::ask(&path, &request, within, |line| told.push(line.to_owned()));
        (ended, told)
    });
    asked.await.unwrap()
}

/// Answers the next stop that is asked, as the loop would.
async fn answer_stop(desk: Desk, outcome: Outcome, says: &'static str) {
    desk.woken().await;
    let stop = desk.asked(Moment(1000)).stop.expect("a stop is asked");
    let answer = |outcome, says| Answers::from([(stop.id, Answer::new(outcome, says))]);
    desk.answer(&answer(Outcome::UnderWay, "looking"));
    tokio::time::sleep(Duration::from_millis(20)).await;
    desk.answer(&answer(outcome, says));
}

/// The agent is killed while it is asked; the one after it has what is left, and no more.
#[tokio::test]
async fn an_agent_after_the_first_has_the_time_that_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let within = Duration::from_secs(8);
    let asking = tokio::spawn({
        let path = path.clone();
        async move { ask(&path, pre_stop(8000), within).await }
    });
    let mut had = Vec::new();
    for _ in 0..2 {
        let listener = tokio::net::UnixListener::bind(&path).unwrap();
        let accepted = tokio::time::timeout(SOON, listener.accept()).await;
        let (mut stream, _) = accepted.expect("in time").unwrap();
        let mut text = vec![0; 1000];
        let read = stream.read(&mut text).await.unwrap();
        let asked: Request = serde_json::from_slice(&text[..read]).unwrap();
        let Request::PreStop { within_ms } = asked else {
            panic!("{asked:?}")
        };
        had.push(within_ms);
        std::fs::remove_file(&path).unwrap();
    }
    // The client has waited for a while in between.
    let (first, second) = (had[0], had[1]);
    let waited = u64::try_from(client::AGAIN.as_millis()).unwrap();
    assert!(first <= 8000 && second + waited <= first, "{had:?}");
    asking.abort();
}

#[tokio::test]
async fn a_request_is_followed_to_its_end() {
    let (_folder, path, desk) = served("s").await;
    for (outcome, expected) in [
        (Outcome::Done, Ended::Done("over".to_owned())),
        (Outcome::NotDone, Ended::NotDone("over".to_owned())),
    ] {
        let answering = tokio::spawn(answer_stop(desk.clone(), outcome, "over"));
        let (ended, told) = ask(&path, pre_stop(5000), SOON).await;
        answering.await.unwrap();
        assert_eq!(ended, expected);
        assert_eq!(told, ["the sidecar has heard it", "looking"]);
    }
    // Handed over or not, the pod is still about to be stopped; and nothing is under way any more.
    assert!(desk.asked(Moment(1500)).stop.is_some());
    desk.idle().await;
    assert!(desk.asked(Moment(1_000_000)).stop.is_none());
}

#[tokio::test]
async fn two_hooks_of_one_pod_hear_the_same() {
    let (_folder, path, desk) = served("s").await;
    let first = tokio::spawn({
        let path = path.clone();
        async move { ask(&path, pre_stop(3000), SOON).await }
    });
    until(|| desk.asked(Moment(5)).stop.is_some()).await;
    let second = tokio::spawn(async move { ask(&path, pre_stop(9000), SOON).await });
    until(|| {
        desk.asked(Moment(6))
            .stop
            .is_some_and(|stop| stop.until == Moment(9005))
    })
    .await;
    let id = desk.asked(Moment(6)).stop.unwrap().id;
    desk.answer(&Answers::from([(id, Answer::new(Outcome::Done, "over"))]));
    for asked in [first, second] {
        assert_eq!(asked.await.unwrap().0, Ended::Done("over".to_owned()));
    }
}

#[tokio::test]
async fn only_this_user_may_ask_and_any_path_will_do() {
    let deep = format!("{}/s", "folder-of-a-long-name/".repeat(9));
    for name in ["s", deep.as_str()] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let bound = place::bind(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        std::os::unix::net::UnixStream::connect(place::short(&path).unwrap().path).unwrap();
        // Nothing else is left there, and nothing at all at the end.
        let left = || std::fs::read_dir(path.parent().unwrap()).unwrap().count();
        assert_eq!(left(), 1);
        drop(bound);
        assert_eq!(left(), 0);
    }
}

#[tokio::test]
async fn a_dead_socket_is_replaced_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    drop(UnixListener::bind(&path).unwrap());
    assert!(path.exists(), "left behind, as by a killed agent");
    let bound = place::bind(&path).unwrap();
    let second = place::bind(&path).err().expect("somebody listens there");
    assert_eq!(second.kind(), std::io::ErrorKind::AddrInUse);
    assert!(bound.is_there());

    let file = folder.path().join("data");
    std::fs::write(&file, "precious").unwrap();
    assert!(place::bind(&file).is_err());
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
}

#[tokio::test]
async fn a_place_that_cannot_be_had_is_told_and_nothing_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/s");
    let desk = Desk::new();
    let (at, lies) = (path.clone(), desk.clone());
    let serving =
        tokio::spawn(async move { server::serve(&at, lies, std::future::pending()).await });
    until(|| desk.asked(Moment(0)).socket_error.is_some()).await;
    assert!(!serving.is_finished());
    std::fs::create_dir(folder.path().join("missing")).unwrap();
    until(|| desk.asked(Moment(0)).socket_error.is_none()).await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_who_says_nothing_is_let_go() {
    let (_folder, path, desk) = served("s").await;
    let endless = "x".repeat(100_000);
    for text in [
        "\n",
        "{}\n",
        "{\"do\":\"shutdown\"}\n",
        "{\"do\":\"pre-stop\"}\n",
        &endless,
        "",
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        // The agent may hang up before it has read an endless line.
        let _ = stream.write_all(text.as_bytes()).await;
        let mut answer = String::new();
        let read = tokio::time::timeout(SOON, stream.read_to_string(&mut answer));
        if read.await.expect("let go").is_ok() {
            assert!(answer.contains("not-done"), "{text:.20}: {answer}");
        }
    }
    assert_eq!(desk.asked(Moment(0)), Default::default());
}

#[tokio::test]
async fn nobody_waits_for_an_agent_that_is_not_there_or_hangs() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let began = Instant::now();
    let (ended, _) = ask(&path, pre_stop(60_000), Duration::from_secs(60)).await;
    assert!(matches!(ended, Ended::Unreachable(_)), "{ended:?}");
    let listener = UnixListener::bind(&path).unwrap();
    let (ended, _) = ask(&path, pre_stop(60_000), Duration::from_secs(60)).await;
    assert!(matches!(ended, Ended::Unreachable(_)), "{ended:?}");
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    drop(listener);
}

#[tokio::test]
async fn an_agent_that_comes_back_is_asked_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let bound = place::bind(&path).unwrap();
    let asked = tokio::spawn({
        let path = path.clone();
        async move { ask(&path, pre_stop(9000), SOON).await }
    });
    let (mut stream, _) = bound.listener.accept().await.unwrap();
    let line = b"{\"outcome\":\"under-way\",\"message\":\"heard\"}\n";
    stream.write_all(line).await.unwrap();
    drop((stream, bound));
    let desk = Desk::new();
    tokio::spawn({
        let desk = desk.clone();
        async move { server::serve(&path, desk, std::future::pending()).await }
    });
    answer_stop(desk, Outcome::Done, "over").await;
    assert_eq!(asked.await.unwrap().0, Ended::Done("over".to_owned()));
}
