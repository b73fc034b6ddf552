//! liverank-comment
