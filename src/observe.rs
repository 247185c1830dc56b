//! Reading the world: DNS, peers, files. Nothing in here writes to Redis or interprets what it read.

mod dns;
pub mod doubted_peers;
pub mod folder_watch;
pub mod nodes_conf;
pub mod own_redis;
pub mod peer_http;
pub mod peer_watch;
pub mod peers;
pub mod resolv_conf;
