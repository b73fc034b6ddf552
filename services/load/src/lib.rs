//! liverank-load
