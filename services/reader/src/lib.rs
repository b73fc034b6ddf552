//! liverank-reader
