//! liverank-manager
