//! liverank-e2e
