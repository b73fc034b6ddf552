//! Fuzzing of every parser of bytes from outside.
//!
//! A target is a function that accepts any bytes and panics if a parser breaks a promise: that it never panics, that
//! what it accepts is written and read back as the same value, and that its output has a bound. Targets are run in two
//! ways. The tests below replay the corpus and mutate it blindly, for a second each. libFuzzer is guided by the code
//! that an input reaches (`fuzz/run`, README.md); what it finds is kept in the corpus.

mod bodies;
mod connections;
mod events;
mod frames;
#[cfg(test)]
mod mutate;
mod settings;
mod texts;
mod tokens;

/// A fuzz target: one parser, or several parsers of the same input.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// The name of the target, which is also the name of its corpus directory.
    pub name: &'static str,
    /// The function that parses the bytes and panics if a promise is broken.
    pub run: fn(&[u8]),
}

/// Makes the list [`TARGETS`] and a test for each target.
macro_rules! targets {
    ($($name:ident = $run:path,)+) => {
        /// All fuzz targets.
        pub const TARGETS: &[Target] = &[$(Target { name: stringify!($name), run: $run }),+];

        #[cfg(test)]
        mod tests {
            use super::*;

            $(#[test]
            fn $name() {
                crate::mutate::try_all(stringify!($name), $run);
            })+
        }
    };
}

targets! {
    http = connections::http,
    proxy_protocol = connections::proxy_protocol,
    gzip = connections::gzip,
    websocket_frames = frames::websocket,
    stream_of_a_reader = frames::stream,
    event = events::event,
    comment = bodies::comment,
    comment_rules = bodies::comment_rules,
    metadata = bodies::metadata,
    heartbeat = bodies::heartbeat,
    statistics = bodies::statistics,
    id = texts::id,
    last_event_id = texts::last_event_id,
    query = texts::query,
    cursor = texts::cursor,
    traceparent = texts::traceparent,
    token = tokens::token,
    key_set = tokens::key_set,
    revoked_tokens = tokens::revoked,
    setting = settings::file,
}
