//! One cached connection to one Redis, every wait bounded.
//!
//! Does not: follow redirects (`canary` does) or keep a broken connection.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context, Result};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, FromRedisValue, IntoConnectionInfo, Pipeline,
    RedisConnectionInfo, RedisResult, Value, aio::MultiplexedConnection,
};
use tokio::sync::Mutex;

/// To establish a connection.
pub const CONNECT_DEADLINE: Duration = Duration::from_millis(500);
/// For an answer. Longer than a busy machine needs, shorter than a test's patience.
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(2);

/// The last connection, kept while it works and the address and password stay the same.
#[derive(Default)]
pub struct Link {
    cached: Mutex<Option<Cached>>,
}

struct Cached {
    address: SocketAddr,
    password: Option<String>,
    connection: MultiplexedConnection,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Link")
    }
}

impl Link {
    /// Sends one command. A connection that broke since its last use is replaced once.
    ///
    /// # Errors
    /// When no answer came, or Redis answered with an error.
    pub async fn command<T: FromRedisValue>(
        &self,
        address: SocketAddr,
        password: Option<&str>,
        words: &[&str],
    ) -> Result<T> {
        let mut pipeline = Pipeline::new();
        pipeline
            .cmd(words.first().context("an empty command")?)
            .arg(words.get(1..));
        let mut values = self.pipeline(address, password, &pipeline).await?;
        let value = values.pop().context("no answer")?;
        Ok(redis::from_redis_value(value.extract_error()?)?)
    }

    /// Sends several commands in one go. Errors of single commands are values in the answer.
    ///
    /// # Errors
    /// When no answer came.
    pub async fn pipeline(
        &self,
        address: SocketAddr,
        password: Option<&str>,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>> {
        let mut pipeline = pipeline.clone();
        pipeline.ignore_errors();
        let cached = self.take(address, password).await;
        if let Some(connection) = cached {
            match self.send(address, password, connection, &pipeline).await {
                Ok(values) => return Ok(values),
                Err(error) if error.is_timeout() => {
                    return Err(error).with_context(|| format!("ask Redis at {address}"));
                }
                Err(_) => {}
            }
        }
        let connection = connect(address, password)
            .await
            .with_context(|| format!("connect to Redis at {address}"))?;
        self.send(address, password, connection, &pipeline)
            .await
            .with_context(|| format!("ask Redis at {address}"))
    }

    async fn take(
        &self,
        address: SocketAddr,
        password: Option<&str>,
    ) -> Option<MultiplexedConnection> {
        let cached = self.cached.lock().await.take()?;
        let same = cached.address == address && cached.password.as_deref() == password;
        same.then_some(cached.connection)
    }

    async fn send(
        &self,
        address: SocketAddr,
        password: Option<&str>,
        mut connection: MultiplexedConnection,
        pipeline: &Pipeline,
    ) -> RedisResult<Vec<Value>> {
        let values = pipeline.query_async(&mut connection).await?;
        let password = password.map(str::to_owned);
        *self.cached.lock().await = Some(Cached {
            address,
            password,
            connection,
        });
        Ok(values)
    }
}

/// A new connection with deadlines for connecting and for every answer.
///
/// # Errors
/// When it cannot be had in time.
pub async fn connect(
    address: SocketAddr,
    password: Option<&str>,
) -> RedisResult<MultiplexedConnection> {
    let mut info = RedisConnectionInfo::default().set_skip_set_lib_name();
    if let Some(password) = password {
        info = info.set_password(password);
    }
    let info = ConnectionAddr::Tcp(address.ip().to_string(), address.port())
        .into_connection_info()?
        .set_redis_settings(info);
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_DEADLINE))
        .set_response_timeout(Some(ANSWER_DEADLINE));
    Client::open(info)?
        .get_multiplexed_async_connection_with_config(&config)
        .await
}

/// Reads `ip:port` as Redis writes it: split at the last colon, IPv6 without brackets.
#[must_use]
pub fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.rsplit_once(':')?;
    Some(SocketAddr::new(
        ip.parse::<IpAddr>().ok()?,
        port.parse().ok()?,
    ))
}
