//! `kubectl liverank`.

fn main() {}
