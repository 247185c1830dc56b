//! A server that says once what a real one said, and the agent's reading of it.

use redis_sidecar::model::observation::OwnRedis;
use redis_sidecar::observe::own_redis;
use redis_sidecar::redis_link::{Credentials, LinkTimeouts, ReadLink};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// Long enough for a busy machine; nothing waits for it in vain.
const TIMEOUT: Duration = Duration::from_secs(10);

/// `CONFIG GET repl-diskless-sync*`, which the corpus does not have; the same in every version.
const COPIES: &[u8] =
    b"*4\r\n$18\r\nrepl-diskless-sync\r\n$3\r\nyes\r\n$24\r\nrepl-diskless-sync-delay\r\n$1\r\n5\r\n";

/// What the agent makes of these answers.
pub(crate) async fn own_redis(answers: Vec<u8>) -> OwnRedis {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut asked = Vec::new();
        // The last question.
        while !asked.windows(6).any(|word| word == b"SHARDS") {
            assert!(stream.read_buf(&mut asked).await.unwrap() > 0);
        }
        stream.write_all(&answers).await.unwrap();
        stream.write_all(COPIES).await.unwrap();
        // Until the agent has read it all and goes.
        while stream.read_buf(&mut asked).await.is_ok_and(|read| read > 0) {}
    });
    let timeouts = LinkTimeouts {
        connect: TIMEOUT,
        answer: TIMEOUT,
    };
    let mut link = ReadLink::new("127.0.0.1", port, timeouts, Credentials::default());
    let read = own_redis::read(&mut link, true).await;
    drop(link);
    server.await.unwrap();
    read
}
