//! liverank-gateway
