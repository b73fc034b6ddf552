//! liverank-adapters
