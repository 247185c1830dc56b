//! What this node tells the world, answered from the last snapshot.
//!
//! Not here: calls to Redis or DNS; a request only reads.
