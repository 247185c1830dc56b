//! `demo`: a cluster assembles itself on this machine, in a table that refreshes.
//!
//! Local pods (real Redis servers, each with an agent, on loopback addresses) and a DNS; no
//! Kubernetes. `demo [AGENT]`, with the path of the agent's binary; also by environment: `AGENT`,
//! `PODS` (6), `MASTERS` (3), `DEMO_SECONDS` (ends by itself; otherwise Ctrl-C does).
//!
//! Does not: tell anything to Redis or to the agents; it only starts them and watches.

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use testbed::{NodeView, Pod, Role, Testbed, Truth, server::Server, truth::ranges};

/// How often the table is drawn anew.
const REFRESH: Duration = Duration::from_millis(100);

struct Options {
    agent: PathBuf,
    server: Server,
    pods: usize,
    masters: usize,
    seconds: Option<u64>,
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match options() {
        Ok(options) => run(options).await,
        Err(error) => Err(error),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("demo: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn options() -> Result<Options> {
    let beside = std::env::current_exe()
        .unwrap_or_default()
        .with_file_name("redis-sidecar");
    let agent = std::env::args_os()
        .nth(1)
        .or_else(|| std::env::var_os("AGENT"));
    let agent = agent.map_or(beside, PathBuf::from);
    if !agent.is_file() {
        bail!(
            "no agent at {}: build it (cargo build), or give its path as the argument",
            agent.display()
        );
    }
    let options = Options {
        agent,
        server: Server::installed().map_err(|error| anyhow::anyhow!("{error}"))?,
        pods: number("PODS")?.unwrap_or(6),
        masters: number("MASTERS")?.unwrap_or(3),
        seconds: number("DEMO_SECONDS")?,
    };
    let (pods, masters) = (options.pods, options.masters);
    if masters == 0 || pods == 0 || !pods.is_multiple_of(masters) {
        bail!("PODS={pods} is no multiple of MASTERS={masters}");
    }
    Ok(options)
}

fn number<T: std::str::FromStr>(name: &str) -> Result<Option<T>> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => match text.parse() {
            Ok(value) => Ok(Some(value)),
            Err(_) => bail!("{name}={text:?} is no number"),
        },
        _ => Ok(None),
    }
}

async fn run(options: Options) -> Result<()> {
    let bed = Testbed::builder("demo")
        .shape(options.masters, options.pods / options.masters - 1)
        .server(&options.server.program)
        .agent(&options.agent)
        .build()
        .await?;
    let server = &options.server;
    let (major, minor, patch) = server.version;
    println!(
        "{} pods of {} {major}.{minor}.{patch}, {} masters; folders and logs: {}",
        options.pods,
        server.name,
        options.masters,
        bed.folder().display()
    );
    // Ended by Ctrl-C or by time; then everything is stopped in either case.
    let watched = tokio::select! {
        watched = watch(&bed) => watched,
        () = ending(options.seconds) => Ok(()),
    };
    println!("\nstopping {} pods", options.pods);
    bed.finish().await?;
    watched
}

/// Returns on Ctrl-C, SIGTERM, or when the seconds are over.
async fn ending(seconds: Option<u64>) {
    let over = async {
        match seconds {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => std::future::pending().await,
        }
    };
    let terminated = async {
        match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
            Ok(mut signals) => drop(signals.recv().await),
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        () = over => {}
        () = terminated => {}
        _ = tokio::signal::ctrl_c() => {}
    }
}

/// Starts the pods and draws them for as long as it is let.
async fn watch(bed: &Testbed) -> Result<()> {
    let started = Instant::now();
    bed.start_all().await?;
    let mut screen = Screen::new();
    let mut whole_after = None;
    loop {
        let (truth, rows, ready) = look(bed).await?;
        if whole_after.is_none() && truth.is_whole() && ready {
            whole_after = Some(started.elapsed());
            screen.draw(&rows, &status(started, &truth, whole_after));
            screen.leave();
            println!("{}", hints(bed)?);
        } else {
            screen.draw(&rows, &status(started, &truth, whole_after));
        }
        tokio::time::sleep(REFRESH).await;
    }
}

/// The truth, a row for each pod, and whether all are ready.
async fn look(bed: &Testbed) -> Result<(Truth, Vec<String>, bool)> {
    let truth = bed.truth().await;
    let mut rows = vec![format!(
        "{:<14} {:<16} {:<8} {:<13} {:<14} {}",
        "POD", "ADDRESS", "ROLE", "SLOTS", "REPLICA OF", "READY"
    )];
    let mut all_ready = true;
    for pod in bed.pods() {
        let ready = readiness(&pod).await;
        all_ready &= ready == "yes";
        rows.push(row(
            bed,
            &pod,
            truth.snapshot.nodes.get(&pod.ordinal),
            &ready,
        ));
    }
    Ok((truth, rows, all_ready))
}

async fn readiness(pod: &Pod) -> String {
    match pod.get("/readyz").await {
        Ok(answer) if answer.status == 200 => "yes".to_owned(),
        Ok(answer) => answer.body.lines().next().unwrap_or("no").to_owned(),
        Err(_) => "the agent does not answer".to_owned(),
    }
}

fn row(bed: &Testbed, pod: &Pod, node: Option<&NodeView>, ready: &str) -> String {
    let role = match node.map(|node| node.role) {
        Some(Role::Master) => "master",
        Some(Role::Replica) => "replica",
        None => "-",
    };
    let slots = node.map_or_else(|| "-".to_owned(), |node| ranges(&node.slots));
    let master = node
        .and_then(|node| node.replica_of)
        .and_then(|k| bed.pod(k).ok());
    let master = master.map_or_else(|| "-".to_owned(), |master| master.name.clone());
    let address = pod.address().to_string();
    format!(
        "{:<14} {address:<16} {role:<8} {slots:<13} {master:<14} {ready}",
        pod.name
    )
}

fn status(started: Instant, truth: &Truth, whole_after: Option<Duration>) -> String {
    match (whole_after, truth.problems.first()) {
        (Some(after), None) => format!("whole after {:.2} s", after.as_secs_f64()),
        (Some(_), Some(first)) => format!("not whole any more: {first}"),
        (None, Some(first)) => {
            let first = first.lines().next().unwrap_or_default();
            format!("{:5.1} s: {first}", started.elapsed().as_secs_f64())
        }
        (None, None) => format!(
            "{:5.1} s: the tables agree",
            started.elapsed().as_secs_f64()
        ),
    }
}

fn hints(bed: &Testbed) -> Result<String> {
    let (first, last) = (bed.pod(0)?, bed.pods().pop().context("no pods")?);
    Ok(format!(
        "\ntry:\n  curl http://{http}/role\n  curl http://{http}/readyz\n  curl http://{http}/cluster\n  curl http://{last}/metrics\n  redis-cli -c -h {ip} -p {port} set hello world\nCtrl-C ends it.\n",
        http = first.http_address(),
        last = last.http_address(),
        ip = first.address(),
        port = first.redis_address().port(),
    ))
}

/// Draws in place on a terminal; elsewhere prints the lines that changed.
struct Screen {
    terminal: bool,
    width: usize,
    drawn: Vec<String>,
}

impl Screen {
    fn new() -> Self {
        let width = std::env::var("COLUMNS")
            .ok()
            .and_then(|w| w.parse().ok())
            .unwrap_or(120);
        Self {
            terminal: std::io::stdout().is_terminal(),
            width,
            drawn: Vec::new(),
        }
    }

    fn draw(&mut self, rows: &[String], status: &str) {
        let cut = |line: &str| line.chars().take(self.width).collect::<String>();
        let mut lines: Vec<String> = rows.iter().map(|row| cut(row)).collect();
        lines.push(cut(status));
        let mut out = String::new();
        if self.terminal {
            if !self.drawn.is_empty() {
                out.push_str(&format!("\x1b[{}A", self.drawn.len()));
            }
            lines
                .iter()
                .for_each(|line| out.push_str(&format!("\r{line}\x1b[K\n")));
        } else {
            for (n, line) in lines.iter().enumerate() {
                let is_status = n + 1 == lines.len();
                let changed = self.drawn.get(n) != Some(line);
                // The running clock alone is no news.
                if changed && (!is_status || !line.contains(" s: ")) {
                    out.push_str(line);
                    out.push('\n');
                }
            }
        }
        self.drawn = lines;
        let mut stdout = std::io::stdout();
        // A closed pipe ends the watching soon enough; nothing can be told to anyone here.
        let _ = stdout
            .write_all(out.as_bytes())
            .and_then(|()| stdout.flush());
    }

    /// What is drawn stays; the next table comes below it.
    fn leave(&mut self) {
        if self.terminal {
            self.drawn.clear();
        }
    }
}
