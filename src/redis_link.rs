//! The connection to one Redis: one pipelined write, one answer a command, a deadline on everything.
//!
//! [`ReadLink`] and [`WriteLink`] grant powers: the first takes only [`Read`], the second only
//! [`Write`], so no other command can leave this program (safety rule S4; see `commands.rs`).
//! [`HandOverLink`], the only link to another pod's Redis that changes anything, has one command.
//! A link connects at its first use. After an I/O error, a timeout or a change of credentials its
//! connection is dropped, and the next use makes a new one.
//! Not here: what answers mean, when to write, retries of writes, and TLS.

mod commands;
mod credentials;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, ConnectionAddr, ErrorKind, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisError, Value,
};
use thiserror::Error;

pub use commands::{Read, Write};
pub use credentials::{CredentialStore, Credentials};

/// How long a link may take. One exchange is bounded by the sum of both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LinkTimeouts {
    /// For resolving the host's name, connecting and AUTH together.
    pub connect: Duration,
    /// For the answers to everything sent in one exchange.
    pub answer: Duration,
}

/// Why an exchange had no answers. Holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum LinkError {
    /// Nothing listens there.
    #[error("no connection to Redis: {0}")]
    Refused(String),
    /// There is no route, or the name does not resolve.
    #[error("no connection to Redis: {0}")]
    Unreachable(String),
    /// No connection, or no complete answer, within the deadline.
    #[error("Redis gave no {waiting_for} within {} ms", .after.as_millis())]
    TimedOut {
        /// `connection` or `answer`.
        waiting_for: &'static str,
        /// The deadline that passed.
        after: Duration,
    },
    /// Redis refused the credentials, or asks for some and has got none. In Redis's own words.
    #[error("Redis refused the credentials: {0}")]
    Auth(String),
    /// The connection broke, or what came over it is not Redis's protocol.
    #[error("the connection to Redis broke: {0}")]
    Broken(String),
}

/// An error that Redis answered to one command, such as `ERR Unknown node 07c3...`.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{0}")]
pub struct ServerErrorText(pub String);

impl ServerErrorText {
    /// The first word: `ERR`, `LOADING`, `NOPERM`, `CLUSTERDOWN`...
    pub fn code(&self) -> &str {
        self.0.split(' ').next().unwrap_or_default()
    }
}

/// A link that can only read.
pub struct ReadLink(RedisLink);

impl ReadLink {
    /// A link to `host:port`; the host is a name or an IP literal, with or without brackets.
    /// Connects at the first use.
    pub fn new(host: &str, port: u16, timeouts: LinkTimeouts, credentials: Credentials) -> Self {
        Self(RedisLink::new(host, port, timeouts, credentials))
    }

    /// Uses these from now on; a connection made with others is dropped.
    pub fn set_credentials(&mut self, credentials: &Credentials) {
        self.0.set_credentials(credentials);
    }

    /// Sends these in one write and returns one answer each, in order; an error that Redis answers
    /// to one of them is a [`Value::ServerError`] in its place.
    ///
    /// A kept connection that turns out to be broken, as after a restart of Redis, is replaced and
    /// the question is asked once more.
    ///
    /// # Errors
    /// See [`LinkError`]; `Auth` also when every single answer was NOAUTH.
    pub async fn ask(&mut self, reads: &[Read]) -> Result<Vec<Value>, LinkError> {
        let commands: Vec<_> = reads.iter().map(Read::args).collect();
        let was_kept = self.0.connection.is_some();
        match self.0.exchange(&commands).await {
            Err(LinkError::Broken(_)) if was_kept => self.0.exchange(&commands).await,
            result => result,
        }
    }
}

/// A link that can write what [`Write`] lists.
pub struct WriteLink(RedisLink);

impl WriteLink {
    /// A link to `host:port`, as [`ReadLink::new`].
    pub fn new(host: &str, port: u16, timeouts: LinkTimeouts, credentials: Credentials) -> Self {
        Self(RedisLink::new(host, port, timeouts, credentials))
    }

    /// Uses these from now on; a connection made with others is dropped.
    pub fn set_credentials(&mut self, credentials: &Credentials) {
        self.0.set_credentials(credentials);
    }

    /// Drops the connection. One kept from round to round may be to a Redis that has since been
    /// restarted, and what is written to that is lost, not to be repeated.
    pub fn hang_up(&mut self) {
        self.0.connection = None;
    }

    /// Sends these in one write and returns each one's simple reply, or the error Redis gave it.
    ///
    /// # Errors
    /// See [`LinkError`]. After `TimedOut` or `Broken` any of the commands may or may not have been
    /// carried out: only the next observation tells. Nothing is ever sent twice.
    pub async fn send(
        &mut self,
        writes: &[Write],
    ) -> Result<Vec<Result<String, ServerErrorText>>, LinkError> {
        let commands: Vec<_> = writes.iter().map(Write::args).collect();
        let values = self.0.exchange(&commands).await?;
        let replies = writes.iter().zip(&values).map(|(write, value)| {
            if let Some(error) = server_error(value) {
                return Err(without_secret(error, write.secret()));
            }
            text(value).ok_or_else(|| ServerErrorText("an answer that is no simple reply".into()))
        });
        Ok(replies.collect())
    }

    /// Sends these in one write on a connection of their own, with answers switched off: Redis then
    /// carries all of them out even if this process is killed right after the write. (While it has
    /// answers to give, Redis drops a connection that takes none, and what it has not read of it.)
    ///
    /// # Errors
    /// See [`LinkError`], as [`send`](Self::send). What Redis says to the single commands is never
    /// known, unless it refuses to switch its answers off.
    pub async fn send_blindly(
        &mut self,
        writes: &[Write],
    ) -> Result<Result<String, ServerErrorText>, LinkError> {
        self.0.connection = None;
        let values = self.0.exchange_for(&without_answers(writes), 1).await;
        // Should it have refused, more answers come than are counted here.
        self.0.connection = None;
        let answer = values?.pop().unwrap_or(Value::Nil);
        Ok(match server_error(&answer) {
            Some(error) => Err(error),
            None => Ok(text(&answer).unwrap_or_default()),
        })
    }
}

/// A link to another pod's Redis that can tell it one thing (S7).
pub struct HandOverLink(RedisLink);

impl HandOverLink {
    /// A link to the Redis there, for one use.
    pub fn new(to: SocketAddr, timeouts: LinkTimeouts, credentials: Credentials) -> Self {
        let host = to.ip().to_string();
        Self(RedisLink::new(&host, to.port(), timeouts, credentials))
    }

    /// `CLUSTER FAILOVER`, if the process at the other end of this connection has this node ID.
    ///
    /// # Errors
    /// See [`LinkError`]; after `TimedOut` or `Broken` it may or may not have been told.
    pub async fn take_over_if(
        mut self,
        id: &str,
    ) -> Result<Result<String, ServerErrorText>, LinkError> {
        let found = self.0.exchange(&[Read::ClusterMyId.args()]).await?.pop();
        let found = found.unwrap_or(Value::Nil);
        if let Some(error) = server_error(&found) {
            return Ok(Err(error));
        }
        if text(&found).as_deref() != Some(id) {
            let error = "another node answers there now".to_owned();
            return Ok(Err(ServerErrorText(error)));
        }
        let reply = self.0.exchange(&[Write::Failover.args()]).await?.pop();
        let reply = reply.unwrap_or(Value::Nil);
        Ok(match server_error(&reply) {
            Some(error) => Err(error),
            None => Ok(text(&reply).unwrap_or_default()),
        })
    }
}

/// These with the answers off; the last word, that they are on again, is the one that is answered.
fn without_answers(writes: &[Write]) -> Vec<Vec<String>> {
    let off = std::iter::once(&Write::AnswersOff);
    let all = off.chain(writes).chain([&Write::AnswersOn]);
    all.map(Write::args).collect()
}

/// The text of a simple answer: a string of any kind, `OK` or a number. `None` for anything else.
pub fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(bytes).into_owned()),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text.clone()),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The error that Redis gave in place of an answer, in its own words.
///
/// Words that Redis echoes from an unknown command are cut off: one could be a secret.
pub fn server_error(value: &Value) -> Option<ServerErrorText> {
    let Value::ServerError(error) = value else {
        return None;
    };
    let details = error.details().unwrap_or_default();
    let details = details.split(", with args beginning with").next();
    let words = format!("{} {}", error.code(), details.unwrap_or_default());
    Some(ServerErrorText(words.trim_end().to_owned()))
}

fn without_secret(error: ServerErrorText, secret: Option<&str>) -> ServerErrorText {
    match secret {
        Some(secret) => ServerErrorText(error.0.replace(secret, "***")),
        None => error,
    }
}

/// The connection behind both links. Private, because it would send anything.
struct RedisLink {
    host: String,
    port: u16,
    timeouts: LinkTimeouts,
    credentials: Credentials,
    connection: Option<MultiplexedConnection>,
}

impl RedisLink {
    fn new(host: &str, port: u16, timeouts: LinkTimeouts, credentials: Credentials) -> Self {
        let literal = host
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'));
        let host = literal.unwrap_or(host).to_owned();
        Self {
            host,
            port,
            timeouts,
            credentials,
            connection: None,
        }
    }

    fn set_credentials(&mut self, credentials: &Credentials) {
        if self.credentials != *credentials {
            self.credentials = credentials.clone();
            self.connection = None;
        }
    }

    /// One write, and as many answers as commands. Taking the connection out for the time of the
    /// exchange drops it on every failure, and when the caller stops waiting.
    async fn exchange(&mut self, commands: &[Vec<String>]) -> Result<Vec<Value>, LinkError> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        self.exchange_for(commands, commands.len()).await
    }

    async fn exchange_for(
        &mut self,
        commands: &[Vec<String>],
        answers: usize,
    ) -> Result<Vec<Value>, LinkError> {
        let answer_timeout = self.timeouts.answer;
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.set_response_timeout(answer_timeout);
        let pipeline = pipeline(commands);
        let values = connection
            .send_packed_commands(&pipeline, 0, answers)
            .await
            .map_err(|error| link_error(&error, "answer", answer_timeout))?;
        let errors: Vec<_> = values.iter().map_while(server_error).collect();
        if let Some(first) = errors.first()
            && errors.len() == values.len()
            && errors.iter().all(|error| error.code() == "NOAUTH")
        {
            return Err(LinkError::Auth(first.0.clone()));
        }
        self.connection = Some(connection);
        Ok(values)
    }

    async fn connect(&self) -> Result<MultiplexedConnection, LinkError> {
        let deadline = self.timeouts.connect;
        let result = tokio::time::timeout(deadline, self.connect_and_auth()).await;
        result.unwrap_or(Err(LinkError::TimedOut {
            waiting_for: "connection",
            after: deadline,
        }))
    }

    async fn connect_and_auth(&self) -> Result<MultiplexedConnection, LinkError> {
        let deadline = self.timeouts.connect;
        let unreachable = |error: RedisError| match link_error(&error, "connection", deadline) {
            LinkError::Broken(cause) => LinkError::Unreachable(cause),
            other => other,
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(deadline))
            .set_response_timeout(Some(deadline));
        // No URL, so nothing needs escaping; no credentials, because the crate would hide Redis's
        // own words on a refusal; no CLIENT SETINFO, which servers before 7.2 answer with errors.
        let quiet = RedisConnectionInfo::default().set_skip_set_lib_name();
        let info = ConnectionAddr::Tcp(self.host.clone(), self.port)
            .into_connection_info()
            .map_err(unreachable)?
            .set_redis_settings(quiet);
        let client = redis::Client::open(info).map_err(unreachable)?;
        let mut connection = client
            .get_multiplexed_async_connection_with_config(&config)
            .await
            .map_err(unreachable)?;
        let Some(password) = &self.credentials.password else {
            return Ok(connection);
        };
        let user = self.credentials.username.iter();
        let auth = ["AUTH"].map(str::to_owned).into_iter().chain(user.cloned());
        let auth = pipeline(&[auth.chain([password.clone()]).collect()]);
        let values = connection
            .send_packed_commands(&auth, 0, 1)
            .await
            .map_err(|error| link_error(&error, "connection", deadline))?;
        match values.first().and_then(server_error) {
            Some(error) => Err(LinkError::Auth(without_secret(error, Some(password)).0)),
            None => Ok(connection),
        }
    }
}

fn pipeline(commands: &[Vec<String>]) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(commands.len());
    for command in commands {
        let (name, args) = command
            .split_first()
            .map_or(("", &[][..]), |(n, a)| (n.as_str(), a));
        pipeline.cmd(name).arg(args);
    }
    pipeline
}

fn link_error(error: &RedisError, waiting_for: &'static str, after: Duration) -> LinkError {
    if error.is_timeout() {
        return LinkError::TimedOut { waiting_for, after };
    }
    match error.kind() {
        ErrorKind::AuthenticationFailed => LinkError::Auth(error.to_string()),
        _ if error.is_connection_refusal() => LinkError::Refused(error.to_string()),
        _ => LinkError::Broken(error.to_string()),
    }
}
