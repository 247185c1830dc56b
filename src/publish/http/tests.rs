//! The contract of every path, through the router without a socket.

use std::time::Duration;

use axum::body::Body;
use axum::http::Request;
use axum::http::header::ALLOW;
use expect_test::{Expect, expect};
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::super::fixtures::{config, master, replica};
use super::*;
use crate::model::history::{Event, Standing};

fn state(status: Status) -> AppState {
    AppState {
        // The last value stays readable without its sender.
        status: watch::channel(Arc::new(status)).1,
        heartbeat: Heartbeat::new(),
        counters: Counters::new(),
        gate: Default::default(),
    }
}

async fn ask(state: AppState, method: &str, path: &str) -> Response {
    let request = Request::builder().method(method).uri(path);
    let request = request.body(Body::empty()).unwrap();
    let response = router(state).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CACHE_CONTROL], "no-store", "{path}");
    response
}

async fn body(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

async fn get_path(status: Status, path: &str) -> (u16, String) {
    let response = ask(state(status), "GET", path).await;
    let code = response.status().as_u16();
    let body = body(response).await;
    assert!(body.ends_with('\n'), "{path}: {body:?}");
    (code, body)
}

async fn check(status: Status, path: &str, code: u16, expected: Expect) {
    let (found, body) = get_path(status, path).await;
    expected.assert_eq(&body);
    assert_eq!(found, code, "{path}");
}

#[tokio::test]
async fn role_of_a_master() {
    check(master(), "/role", 200, expect![[r#"
        {"role":"master","pod":"redis-app-0","ordinal":0,"node_id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","address":"10.0.0.1:6379","slots":[[0,5460],[6000,6000]],"replica_of":null,"link":null,"lag_bytes":null,"epoch":1,"ready":true,"reasons":[{"code":"peers-unreachable","message":"redis-app-4 does not answer"}],"cluster":"default/redis-app","node_name":"worker-1","zone":"a","version":"0.1.0","stage":"member","shape":"3x1","last_ordinal":0}
    "#]]).await;
    check(
        master(),
        "/role?format=text",
        200,
        expect![[r#"
        master
    "#]],
    )
    .await;
}

#[tokio::test]
async fn role_of_a_replica_on_ipv6() {
    check(replica(), "/role", 200, expect![[r#"
        {"role":"replica","pod":"redis-app-3","ordinal":3,"node_id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","address":"[fd00::3]:6379","slots":[],"replica_of":"redis-app-0","link":"down","lag_bytes":12,"epoch":1,"ready":false,"reasons":[{"code":"replica-link-down","message":"the link to redis-app-0 is down"},{"code":"too-few-masters","message":"2 masters cannot elect a third"}],"cluster":"default/redis-app","node_name":"worker-1","zone":"a","version":"0.1.0","stage":"member","shape":"3x1","last_ordinal":0}
    "#]]).await;
}

#[tokio::test]
async fn the_history_tells_what_and_when_and_nothing_else() {
    let mut status = master();
    let at = crate::model::time::WallTime(1_700_000_000_000);
    let event = Event::new(
        at,
        "moved",
        "from 10.0.0.9 to\n10.0.0.1",
        Standing::default(),
    );
    status.history.extend(vec![event]);
    check(status, "/history", 200, expect![[r#"
        {"cluster":"default/redis-app","pod":"redis-app-0","events":[{"at":"2023-11-14T22:13:20.000Z","event":"moved","detail":"from 10.0.0.9 to 10.0.0.1"}]}
    "#]]).await;
    check(
        replica(),
        "/history",
        200,
        expect![[r#"
        {"cluster":"default/redis-app","pod":"redis-app-3","events":[]}
    "#]],
    )
    .await;
}

#[tokio::test]
async fn role_before_the_first_round() {
    let starting = Status::starting(&config("redis-app-0", "10.0.0.1"));
    check(starting, "/role", 200, expect![[r#"
        {"role":"none","pod":"redis-app-0","ordinal":0,"node_id":null,"address":"10.0.0.1:6379","slots":[],"replica_of":null,"link":null,"lag_bytes":null,"epoch":null,"ready":false,"reasons":[{"code":"starting","message":"the agent has just started and has not yet looked at Redis"}],"cluster":"default/redis-app","node_name":"worker-1","zone":"a","version":"0.1.0","stage":"unknown","shape":"3x1","last_ordinal":0}
    "#]]).await;
}

#[tokio::test]
async fn readyz_shows_warnings_after_ready() {
    check(
        master(),
        "/readyz",
        200,
        expect![[r#"
        ready
        peers-unreachable: redis-app-4 does not answer
    "#]],
    )
    .await;
    check(
        master(),
        "/readyz?format=text",
        200,
        expect![[r#"
        ready
        peers-unreachable: redis-app-4 does not answer
    "#]],
    )
    .await;
}

#[tokio::test]
async fn readyz_shows_first_what_blocks() {
    check(
        replica(),
        "/readyz",
        503,
        expect![[r#"
        replica-link-down: the link to redis-app-0 is down
        too-few-masters: 2 masters cannot elect a third
    "#]],
    )
    .await;
    check(replica(), "/readyz?format=json", 503, expect![[r#"
        {"ready":false,"reasons":[{"code":"replica-link-down","message":"the link to redis-app-0 is down","blocks":true},{"code":"too-few-masters","message":"2 masters cannot elect a third","blocks":false}]}
    "#]]).await;
}

#[tokio::test]
async fn load_balancers_find_the_ready_node_of_a_role() {
    check(
        master(),
        "/master",
        200,
        expect![[r#"
        master
    "#]],
    )
    .await;
    check(
        master(),
        "/replica",
        503,
        expect![[r#"
        not a ready replica: the role is master
    "#]],
    )
    .await;
    check(
        replica(),
        "/replica",
        503,
        expect![[r#"
        not a ready replica: the role is replica
        replica-link-down: the link to redis-app-0 is down
        too-few-masters: 2 masters cannot elect a third
    "#]],
    )
    .await;
    check(
        replica(),
        "/master",
        503,
        expect![[r#"
        not a ready master: the role is replica
        replica-link-down: the link to redis-app-0 is down
        too-few-masters: 2 masters cannot elect a third
    "#]],
    )
    .await;
    let mut linked = replica();
    linked.reasons.clear();
    check(
        linked,
        "/replica",
        200,
        expect![[r#"
        replica
    "#]],
    )
    .await;
}

#[tokio::test]
async fn cluster_lists_every_node() {
    check(master(), "/cluster", 200, expect![[r#"
        {"cluster":"default/redis-app","nodes":[{"node_id":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","pod":"redis-app-0","address":"10.0.0.1:6379","role":"master","replica_of":null,"slots":[[0,5460],[6000,6000]],"link":"connected","flags":["myself","master"],"epoch":1,"myself":true},{"node_id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","pod":null,"address":null,"role":"replica","replica_of":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","slots":[],"link":"disconnected","flags":["slave","noaddr"],"epoch":1,"myself":false}]}
    "#]]).await;
}

#[tokio::test]
async fn livez_is_about_the_loop_alone() {
    check(
        replica(),
        "/livez",
        200,
        expect![[r#"
        alive
    "#]],
    )
    .await;
    let stuck = AppState {
        heartbeat: Heartbeat::silent_for(Duration::from_secs(42)),
        ..state(master())
    };
    let response = ask(stuck, "GET", "/livez").await;
    assert_eq!(response.status(), 503);
    expect![[r#"
        the control loop has given no sign of life for 42 s
    "#]]
    .assert_eq(&body(response).await);
}

#[tokio::test]
async fn metrics_say_which_format_they_are_in() {
    let response = ask(state(master()), "GET", "/metrics").await;
    assert_eq!(response.headers()[CONTENT_TYPE], PROMETHEUS);
    assert!(body(response).await.contains("\nredis_sidecar_ready 1\n"));
    let request = Request::get("/metrics").header(ACCEPT, "application/openmetrics-text;q=0.9");
    let request = request.body(Body::empty()).unwrap();
    let response = router(state(master())).oneshot(request).await.unwrap();
    assert_eq!(response.headers()[CONTENT_TYPE], OPENMETRICS);
}

#[tokio::test]
async fn what_is_not_offered_is_refused_with_what_is() {
    check(
        master(),
        "/",
        404,
        expect![[r#"
        no such path; there are /livez /readyz /startz /role /master /replica /cluster /history /metrics
    "#]],
    )
    .await;
    check(
        master(),
        "/role/",
        404,
        expect![[r#"
            no such path; there are /livez /readyz /startz /role /master /replica /cluster /history /metrics
        "#]],
    )
    .await;
    check(
        master(),
        "/role?format=xml",
        400,
        expect![[r#"
        no such format here: format takes json or text
    "#]],
    )
    .await;
    for path in PATHS.split(' ') {
        let (code, body) = get_path(master(), &format!("{path}?a=b&format=")).await;
        assert_eq!((code, body.lines().count()), (400, 1), "{path}");
    }
    check(
        master(),
        "/cluster?format=text",
        400,
        expect![[r#"
        no such format here: format takes json
    "#]],
    )
    .await;
}

#[tokio::test]
async fn only_get_and_head_are_taken() {
    for path in PATHS.split(' ') {
        for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
            let response = ask(state(master()), method, path).await;
            assert_eq!(response.status(), 405, "{method} {path}");
            assert_eq!(response.headers()[ALLOW], "GET,HEAD", "{method} {path}");
        }
        let get = ask(state(master()), "GET", path).await;
        let head = ask(state(master()), "HEAD", path).await;
        assert_eq!(head.status(), get.status(), "{path}");
        assert_eq!(head.headers()[CONTENT_TYPE], get.headers()[CONTENT_TYPE]);
        assert_eq!(body(head).await, "", "{path}");
    }
}

#[tokio::test]
async fn an_update_shows_at_once() {
    let (sender, status) = watch::channel(Arc::new(replica()));
    let state = AppState {
        status,
        ..state(replica())
    };
    sender.send_replace(Arc::new(master()));
    let response = ask(state, "GET", "/role?format=text").await;
    assert_eq!(body(response).await, "master\n");
}
