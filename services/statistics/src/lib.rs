//! liverank-statistics
