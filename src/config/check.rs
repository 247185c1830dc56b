//! What each variable takes.
//!
//! In: raw values. Out: a checked [`Config`], or the first value that cannot be used, as one line
//! that names the variable, the value (never a password) and what it takes.
//!
//! Not here: where a value came from (`options`).

use std::ffi::OsStr;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::options::{SECRETS, Values, lossy};
use super::{Config, LogFormat, PasswordSource, ReadyWhen, Secret};
use crate::model::identity::{PODS_MAX, PodName, Shape, is_dns_label};

/// One value that cannot be used.
#[derive(Debug)]
pub(super) struct Invalid {
    /// The variable and what it is, such as `MASTERS is "0"`.
    finding: String,
    /// What to say after the colon, such as `takes a whole number from 1 to 1000`.
    remedy: String,
}

impl Invalid {
    fn value(variable: &str, value: &str, remedy: impl Into<String>) -> Self {
        Self {
            finding: if SECRETS.contains(&variable) {
                format!("{variable} cannot be used")
            } else {
                format!("{variable} is {value:?}")
            },
            remedy: remedy.into(),
        }
    }

    fn missing(variable: &str, remedy: impl Into<String>) -> Self {
        Self {
            finding: format!("{variable} is not set"),
            remedy: remedy.into(),
        }
    }

    pub(super) fn not_utf8(variable: &str, value: &OsStr) -> Self {
        Self::value(
            variable,
            &lossy(value),
            "takes UTF-8 text, which this is not",
        )
    }
}

impl fmt::Display for Invalid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.finding, self.remedy)
    }
}

const LABEL: &str =
    "takes a name of 1 to 63 lower-case letters, digits and dashes, with no dash at either end";
const ADDRESS: &str = "takes an IPv4 or IPv6 address, such as 10.1.2.3 or fd00::3";
const HOST: &str = "takes a host name or an IP address without a port, such as 127.0.0.1";
const DOMAIN: &str = "takes a DNS name, such as cluster.local";
const PLAIN: &str = "takes text without control characters";
const PORT: &str = "takes a port from 1 to 55535 (the cluster bus port is 10000 higher)";
const LISTEN: &str = "takes an IP address and a port, such as 0.0.0.0:8080 or [::]:8080";
const DNS: &str = "takes an IP address, with a port unless it is 53, such as 10.96.0.10:53";
const BOOL: &str = "takes true or false (or 1, 0, yes, no)";

/// Checks every value, in the order of the help.
pub(super) fn config(values: &Values<'_>) -> Result<Config, Invalid> {
    let data_dir = PathBuf::from(set(values, "DATA_DIR", "takes a folder")?);
    let nodes_conf = data_dir.join(set(values, "NODES_CONF", "takes a file")?);
    let socket = values.text("SOCKET")?;
    let socket = data_dir.join(socket.as_deref().unwrap_or(crate::operate::SOCKET_NAME));
    Ok(Config {
        pod: pod(values)?,
        namespace: read(values, "POD_NAMESPACE", LABEL, label)?,
        pod_ip: read(values, "POD_IP", ADDRESS, own_address)?,
        node_name: plain(values, "NODE_NAME")?.unwrap_or_default(),
        zone: plain(values, "ZONE")?.unwrap_or_default(),
        headless_service: read(values, "HEADLESS_SERVICE", LABEL, label)?,
        cluster_domain: read(values, "CLUSTER_DOMAIN", DOMAIN, domain)?,
        shape: shape(values)?,
        dns_server: maybe(values, "DNS_SERVER", DNS, dns_server)?,
        redis_host: read(values, "REDIS_HOST", HOST, host)?,
        redis_port: read(values, "REDIS_PORT", PORT, redis_port)?,
        username: plain(values, "REDIS_USERNAME")?,
        password: password(values)?,
        data_dir,
        nodes_conf,
        socket,
        http_addr: read(values, "HTTP_ADDR", LISTEN, listen_address)?,
        ready_when: read(values, "READY_WHEN", "takes node or cluster", ready_when)?,
        max_lag_bytes: read(
            values,
            "MAX_LAG_BYTES",
            "takes a whole number of bytes",
            number,
        )?,
        dry_run: read(values, "DRY_RUN", BOOL, yes_or_no)?,
        log_format: maybe(values, "LOG_FORMAT", "takes text or json", log_format)?
            .unwrap_or(default_log_format(values)),
    })
}

/// A value that may be left out.
fn maybe<T>(
    values: &Values<'_>,
    variable: &'static str,
    takes: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<Option<T>, Invalid> {
    let Some(text) = values.text(variable)? else {
        return Ok(None);
    };
    match parse(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(Invalid::value(variable, &text, takes)),
    }
}

/// A value that is set, or has a default.
fn read<T>(
    values: &Values<'_>,
    variable: &'static str,
    takes: &str,
    parse: impl Fn(&str) -> Option<T>,
) -> Result<T, Invalid> {
    maybe(values, variable, takes, parse)?.ok_or_else(|| Invalid::missing(variable, takes))
}

/// Any text that is set, or has a default.
fn set(values: &Values<'_>, variable: &'static str, takes: &str) -> Result<String, Invalid> {
    read(values, variable, takes, |text| Some(text.to_owned()))
}

fn plain(values: &Values<'_>, variable: &'static str) -> Result<Option<String>, Invalid> {
    let free = |text: &str| !text.chars().any(char::is_control);
    maybe(values, variable, PLAIN, |text| {
        free(text).then(|| text.to_owned())
    })
}

fn pod(values: &Values<'_>) -> Result<PodName, Invalid> {
    const VARIABLE: &str = "POD_NAME";
    let refuse = |text: &str, remedy: String| Invalid::value(VARIABLE, text, remedy);
    if let Some(text) = values.text(VARIABLE)? {
        return text
            .parse()
            .map_err(|error| refuse(&text, format!("{error}")));
    }
    let Some(text) = (values.surroundings.hostname)() else {
        let remedy = "the hostname cannot be read; takes <statefulset>-<ordinal>";
        return Err(Invalid::missing(VARIABLE, remedy));
    };
    text.parse().map_err(|error| {
        refuse(
            &text,
            format!("{error}; this is the hostname, as it is not set"),
        )
    })
}

fn shape(values: &Values<'_>) -> Result<Shape, Invalid> {
    let masters_takes = format!("takes a whole number from 1 to {PODS_MAX}");
    let replicas_takes = format!("takes a whole number from 0 to {}", PODS_MAX - 1);
    let masters = read(values, "MASTERS", &masters_takes, |text| {
        number::<u16>(text).filter(|masters| Shape::new(*masters, 0).is_ok())
    })?;
    let replicas = read(values, "REPLICAS_PER_MASTER", &replicas_takes, |text| {
        number::<u16>(text).filter(|replicas| Shape::new(1, *replicas).is_ok())
    })?;
    Shape::new(masters, replicas).map_err(|_| {
        let remedy = format!(
            "with MASTERS {masters}, takes what keeps MASTERS x (1 + REPLICAS_PER_MASTER) \
             within {PODS_MAX} pods"
        );
        Invalid::value("REPLICAS_PER_MASTER", &replicas.to_string(), remedy)
    })
}

/// The file wins. It must be readable now, so that a wrong path shows at the start.
fn password(values: &Values<'_>) -> Result<PasswordSource, Invalid> {
    const FILE: &str = "REDIS_PASSWORD_FILE";
    let literal = values.text("REDIS_PASSWORD")?;
    let Some(path) = values.text(FILE)? else {
        return Ok(literal.map_or(PasswordSource::None, |text| {
            PasswordSource::Literal(Secret::new(text))
        }));
    };
    let source = PasswordSource::File(Path::new(&path).to_owned());
    match source.read() {
        Ok(_) => Ok(source),
        Err(error) => {
            let remedy = format!("takes a readable file that holds the password ({error})");
            Err(Invalid::value(FILE, &path, remedy))
        }
    }
}

fn number<N: FromStr>(text: &str) -> Option<N> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    if digits { text.parse().ok() } else { None }
}

fn label(text: &str) -> Option<String> {
    is_dns_label(text).then(|| text.to_owned())
}

fn domain(text: &str) -> Option<String> {
    let name = text.strip_suffix('.').unwrap_or(text);
    let good = name.len() <= 253 && name.split('.').all(is_dns_label);
    good.then(|| name.to_owned())
}

fn own_address(text: &str) -> Option<IpAddr> {
    let ip = text.parse::<IpAddr>().ok()?.to_canonical();
    let usable = !ip.is_unspecified() && !ip.is_multicast();
    usable.then_some(ip)
}

fn host(text: &str) -> Option<String> {
    let name_byte = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let name = text.len() <= 253
        && text.bytes().all(name_byte)
        && text.bytes().any(|byte| byte.is_ascii_alphanumeric());
    (name || text.parse::<IpAddr>().is_ok()).then(|| text.to_owned())
}

fn redis_port(text: &str) -> Option<u16> {
    number::<u16>(text).filter(|port| *port > 0 && port.checked_add(10_000).is_some())
}

fn listen_address(text: &str) -> Option<SocketAddr> {
    text.parse::<SocketAddr>()
        .ok()
        .filter(|addr| addr.port() > 0)
}

fn dns_server(text: &str) -> Option<SocketAddr> {
    match text.parse::<IpAddr>() {
        Ok(ip) => Some(SocketAddr::new(ip, 53)),
        Err(_) => listen_address(text),
    }
}

fn ready_when(text: &str) -> Option<ReadyWhen> {
    match text {
        "node" => Some(ReadyWhen::Node),
        "cluster" => Some(ReadyWhen::Cluster),
        _ => None,
    }
}

fn log_format(text: &str) -> Option<LogFormat> {
    match text {
        "text" => Some(LogFormat::Text),
        "json" => Some(LogFormat::Json),
        _ => None,
    }
}

fn default_log_format(values: &Values<'_>) -> LogFormat {
    if values.surroundings.log_to_terminal {
        LogFormat::Text
    } else {
        LogFormat::Json
    }
}

fn yes_or_no(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" => Some(true),
        "false" | "0" | "no" => Some(false),
        _ => None,
    }
}
