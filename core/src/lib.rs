//! liverank-core
