//! The vocabulary: values, their parsing and printing. Knows no clients, clocks or I/O.

#![warn(clippy::disallowed_methods, clippy::disallowed_types)]

pub mod asked;
pub mod decision;
pub mod history;
pub mod identity;
pub mod info;
pub mod kept_conf;
pub mod node_table;
pub mod observation;
pub mod peers;
pub mod reason;
pub mod slots;
pub mod time;
