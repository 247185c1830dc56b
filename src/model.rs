//! The vocabulary: values and their parsing. No clients, no clocks, no I/O.

pub mod peers;
