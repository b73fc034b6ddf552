//! liverank-shell
