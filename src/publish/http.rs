//! The HTTP side: probes, load balancers, peers, people and Prometheus, read-only.
//!
//! In: GET and HEAD requests, the last snapshot, the heartbeat and the counters. Out: the answers of
//! the contract, each made at once from what is known.
//!
//! Paths: /livez /readyz /startz /role /master /replica /cluster /history /metrics
//!
//! Not here: the sockets (`server`), and anything that waits, asks Redis or DNS, or changes something.

use std::fmt::Write;
use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::sync::watch;

use super::heartbeat::Heartbeat;
use super::metrics::{self, Counters};
use super::start_gate::StartGate;
use super::status::{Role, Status};
use super::views::{ClusterView, HistoryView, ReadyView, RoleView, in_order};

const PATHS: &str = "/livez /readyz /startz /role /master /replica /cluster /history /metrics";

const TEXT: &str = "text/plain; charset=utf-8";
const JSON: &str = "application/json";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What the answers are made from.
#[derive(Debug, Clone)]
pub struct AppState {
    /// The last snapshot; only the control loop has the sender.
    pub status: watch::Receiver<Arc<Status>>,
    /// The control loop's sign of life.
    pub heartbeat: Heartbeat,
    /// What the control loop counts.
    pub counters: Counters,
    /// Whether the start gate is asked.
    pub gate: StartGate,
}

impl AppState {
    fn snapshot(&self) -> Arc<Status> {
        Arc::clone(&self.status.borrow())
    }
}

/// All paths over a state.
pub fn router(state: AppState) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/startz", get(startz))
        .route("/role", get(role))
        .route("/master", get(master))
        .route("/replica", get(replica))
        .route("/cluster", get(cluster))
        .route("/history", get(history))
        .route("/metrics", get(metrics))
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .with_state(state)
}

async fn livez(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    if let Err(refusal) = format(query.as_deref(), &[Format::Text]) {
        return refusal;
    }
    if state.heartbeat.is_alive() {
        return reply(StatusCode::OK, TEXT, "alive\n".to_owned());
    }
    let silence = state.heartbeat.age().as_secs();
    let line = format!("the control loop has given no sign of life for {silence} s\n");
    reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, line)
}

async fn readyz(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    let status = state.snapshot();
    let code = ok_if(status.ready());
    match format(query.as_deref(), &[Format::Text, Format::Json]) {
        Ok(Format::Text) => reply(code, TEXT, ready_text(&status)),
        Ok(Format::Json) => json(code, &ReadyView::from(&*status)),
        Err(refusal) => refusal,
    }
}

/// The start gate: whether the own Redis may be started, or runs.
async fn startz(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    if let Err(refusal) = format(query.as_deref(), &[Format::Text]) {
        return refusal;
    }
    state.gate.ask();
    match &state.snapshot().held {
        None => reply(StatusCode::OK, TEXT, "may start\n".to_owned()),
        Some(why) => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, format!("{why}\n")),
    }
}

/// `ready` where it is, then a line for each reason.
fn ready_text(status: &Status) -> String {
    let mut text = String::new();
    if status.ready() {
        text.push_str("ready\n");
    }
    for reason in in_order(status) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{reason}");
    }
    text
}

async fn role(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    let status = state.snapshot();
    match format(query.as_deref(), &[Format::Json, Format::Text]) {
        Ok(Format::Json) => json(StatusCode::OK, &RoleView::from(&*status)),
        Ok(Format::Text) => reply(StatusCode::OK, TEXT, format!("{}\n", status.role.as_str())),
        Err(refusal) => refusal,
    }
}

async fn master(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    in_role(&state, query.as_deref(), Role::Master)
}

async fn replica(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    in_role(&state, query.as_deref(), Role::Replica)
}

fn in_role(state: &AppState, query: Option<&str>, wanted: Role) -> Response {
    if let Err(refusal) = format(query, &[Format::Text]) {
        return refusal;
    }
    let status = state.snapshot();
    let (wanted, is, ready) = (wanted.as_str(), status.role, status.ready());
    if is.as_str() == wanted && ready {
        return reply(StatusCode::OK, TEXT, format!("{wanted}\n"));
    }
    let mut text = format!("not a ready {wanted}: the role is {}\n", is.as_str());
    if !ready {
        text.push_str(&ready_text(&status));
    }
    reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, text)
}

async fn cluster(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    match format(query.as_deref(), &[Format::Json]) {
        Ok(_) => json(StatusCode::OK, &ClusterView::from(&*state.snapshot())),
        Err(refusal) => refusal,
    }
}

async fn history(State(state): State<AppState>, RawQuery(query): RawQuery) -> Response {
    match format(query.as_deref(), &[Format::Json]) {
        Ok(_) => json(StatusCode::OK, &HistoryView::from(&*state.snapshot())),
        Err(refusal) => refusal,
    }
}

async fn metrics(
    State(state): State<AppState>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    if let Err(refusal) = format(query.as_deref(), &[Format::Text]) {
        return refusal;
    }
    let accepted = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
    let content_type = match accepted {
        Some(types) if types.contains("application/openmetrics-text") => OPENMETRICS,
        _ => PROMETHEUS,
    };
    match metrics::text(&state.snapshot(), &state.counters, &state.heartbeat) {
        Ok(text) => reply(StatusCode::OK, content_type, text),
        Err(error) => internal(&error.to_string()),
    }
}

async fn no_such_path() -> Response {
    let line = format!("no such path; there are {PATHS}\n");
    reply(StatusCode::NOT_FOUND, TEXT, line)
}

async fn no_such_method(method: Method) -> Response {
    let line = format!("{method} is not taken here: GET and HEAD are\n");
    reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, line)
}

/// How an answer may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    Text,
    Json,
}

impl Format {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Json => "json",
        }
    }
}

/// What `?format=` asks for, by default the first of those a path has; or the refusal.
#[allow(clippy::result_large_err)] // the error is the answer, made once per bad request
fn format(query: Option<&str>, has: &[Format]) -> Result<Format, Response> {
    let asked = query
        .unwrap_or_default()
        .split('&')
        .find_map(|pair| pair.strip_prefix("format="));
    let found = match asked {
        None => has.first(),
        Some(asked) => has.iter().find(|format| format.as_str() == asked),
    };
    found.copied().ok_or_else(|| {
        let names: Vec<_> = has.iter().map(|format| format.as_str()).collect();
        let line = format!("no such format here: format takes {}\n", names.join(" or "));
        reply(StatusCode::BAD_REQUEST, TEXT, line)
    })
}

fn ok_if(good: bool) -> StatusCode {
    if good {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    }
}

fn json(code: StatusCode, view: &impl Serialize) -> Response {
    match serde_json::to_string(view) {
        Ok(body) => reply(code, JSON, body + "\n"),
        Err(error) => internal(&error.to_string()),
    }
}

fn internal(error: &str) -> Response {
    let line = format!("the answer cannot be written: {error}\n");
    reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, line)
}

/// Every answer leaves through here.
fn reply(code: StatusCode, content_type: &'static str, body: String) -> Response {
    let headers = [(CONTENT_TYPE, content_type), (CACHE_CONTROL, "no-store")];
    (code, headers, body).into_response()
}

#[cfg(test)]
mod tests;
