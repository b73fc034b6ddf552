//! liverank-websocket
