//! liverank-consumer
