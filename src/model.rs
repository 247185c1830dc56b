//! The vocabulary: values that every other part speaks in, with their parsing and printing.
//!
//! Not here: clients, clocks, files, judgement.

pub mod identity;
pub mod reason;
