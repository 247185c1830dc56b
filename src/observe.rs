//! Reading the world: DNS, peers, files. Nothing in here writes to Redis or interprets what it read.

mod dns;
pub mod folder_watch;
pub mod peer_http;
pub mod peers;
pub mod resolv_conf;
