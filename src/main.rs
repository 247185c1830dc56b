//! The command line: a command for the agent that runs (`operate::cli`); `init`, which looks after
//! nodes.conf until Redis may start; or the agent itself: reads the configuration, takes the port, runs
//! until it is told to stop. One thread does it all.

use redis_sidecar::config::{Config, Stop, Surroundings};
use redis_sidecar::control_loop::{ControlLoop, Outlets};
use redis_sidecar::operate::{self, cli, desk::Desk};
use redis_sidecar::publish::heartbeat::Heartbeat;
use redis_sidecar::publish::http::{self, AppState};
use redis_sidecar::publish::metrics::Counters;
use redis_sidecar::publish::server;
use redis_sidecar::publish::start_gate::StartGate;
use redis_sidecar::publish::status::{Status, VERSION};
use redis_sidecar::{logging, shutdown};
use std::ffi::OsString;
use std::process::ExitCode;
use std::sync::Arc;
use tokio::sync::watch;

/// What a service exits with when it cannot start for a reason outside its configuration
/// (`EX_OSERR` in sysexits.h).
const EX_OSERR: u8 = 71;
/// What `init` exits with when Redis may not start yet (`EX_TEMPFAIL`).
const EX_TEMPFAIL: u8 = 75;

fn main() -> ExitCode {
    let mut args: Vec<OsString> = std::env::args_os().collect();
    if cli::is_command(&args) {
        return ExitCode::from(cli::run(&args));
    }
    let before_redis = args.get(1).is_some_and(|word| word == "init");
    if before_redis {
        args.remove(1);
    }
    let config = match Config::load(args, Surroundings::of_process()) {
        Ok(config) => config,
        Err(stop) => return refuse(&stop),
    };
    if let Err(error) = logging::init(config.log_format) {
        return refuse(&Stop::Invalid(error.to_string()));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) if before_redis => match runtime.block_on(init(config)) {
            Ok(()) => Ok(()),
            Err(why) => {
                tracing::error!("Redis is not started: {why}");
                return ExitCode::from(EX_TEMPFAIL);
            }
        },
        Ok(runtime) => runtime.block_on(run(config)),
        Err(error) => Err(format!("cannot start the runtime: {error}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(EX_OSERR)
        }
    }
}

fn refuse(stop: &Stop) -> ExitCode {
    stop.print();
    ExitCode::from(stop.exit_code())
}

/// The same settings as the agent's, and no Redis. It answers HTTP meanwhile, as the others can only do
/// what it waits for when they hear that this volume is blank; it does its work without, if the port
/// is taken.
async fn init(config: Config) -> Result<(), String> {
    tracing::info!(version = VERSION, pod = %config.pod, cluster = %config.cluster(), "init");
    let (publisher, status) = watch::channel(Arc::new(Status::starting(&config)));
    let (heartbeat, counters, gate) = (Heartbeat::new(), Counters::new(), StartGate::default());
    let state = AppState {
        status,
        heartbeat: heartbeat.clone(),
        counters: counters.clone(),
        gate: gate.clone(),
    };
    let outlets = Outlets {
        publisher,
        heartbeat,
        counters,
        gate,
        desk: Desk::new(),
    };
    match server::bind(config.http_addr).await {
        Ok(listener) => {
            let router = http::router(state);
            let never = std::future::pending();
            tokio::spawn(server::serve(listener, router, server::LIMITS, never));
        }
        Err(error) => tracing::warn!(%error, "init cannot be asked"),
    }
    let control_loop = ControlLoop::new(config, outlets).map_err(|error| error.to_string())?;
    let stopping =
        shutdown::on_signal().map_err(|error| format!("cannot take signals: {error}"))?;
    tokio::select! {
        done = control_loop.before_redis() => done,
        () = stopping.asked() => Err("init was told to stop".to_owned()),
    }
}

/// HTTP first, so that a port that is taken stops the start before anything is written; then the
/// loop, until a signal. HTTP answers until the loop has ended.
async fn run(config: Config) -> Result<(), String> {
    let listener = server::bind(config.http_addr)
        .await
        .map_err(|error| error.to_string())?;
    let (publisher, status) = watch::channel(Arc::new(Status::starting(&config)));
    let (heartbeat, counters, desk) = (Heartbeat::new(), Counters::new(), Desk::new());
    let gate = StartGate::default();
    let socket = config.socket.clone();
    let state = AppState {
        status,
        heartbeat: heartbeat.clone(),
        counters: counters.clone(),
        gate: gate.clone(),
    };
    tracing::info!(version = VERSION, pod = %config.pod, cluster = %config.cluster(),
        address = %config.announced_address(), http = %config.http_addr, "started");
    let outlets = Outlets {
        publisher,
        heartbeat,
        counters,
        gate,
        desk: desk.clone(),
    };
    let control_loop = ControlLoop::new(config, outlets).map_err(|error| error.to_string())?;

    let stopping =
        shutdown::on_signal().map_err(|error| format!("cannot take signals: {error}"))?;
    let (stop_http, http_stops) = tokio::sync::oneshot::channel::<()>();
    let serving = server::serve(listener, http::router(state), server::LIMITS, async {
        let _ = http_stops.await;
    });
    let mut http_task = tokio::spawn(serving);
    // A handoff that has begun is finished first: the pod's containers hear the signal at one time.
    let handed = desk.clone();
    let leaves = async move || {
        stopping.clone().asked().await;
        handed.idle().await;
    };
    tokio::select! {
        () = control_loop.run(leaves()) => {}
        () = shutdown::overdue(leaves()) => {}
        () = operate::server::serve(&socket, desk, std::future::pending()) => {}
        ended = &mut http_task => return Err(format!("HTTP ended: {ended:?}")),
    }
    // The server may have ended by itself a moment ago; then nobody hears it.
    let _ = stop_http.send(());
    match http_task.await {
        Ok(()) => Ok(()),
        ended => Err(format!("HTTP ended: {ended:?}")),
    }
}
