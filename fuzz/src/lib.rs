//! Every parser of bytes from outside, fed with bytes that nobody would send.
//!
//! A target is a function that takes any bytes and panics where a promise of a parser does not hold: that it reads or
//! refuses and never panics, that what it takes is written and read back as the same, that what comes out has a bound.
//! Two things run targets. The tests below replay the corpus and change it blindly, for a second each. libFuzzer is guided
//! by the code that an input reaches (`fuzz/run`, README.md); what it finds is kept in the corpus.

mod bodies;
mod connections;
mod events;
mod frames;
#[cfg(test)]
mod mutate;
mod settings;
mod texts;
mod tokens;

/// A parser, or several that read the same.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, which is that of its corpus.
    pub name: &'static str,
    /// Panics where a promise does not hold.
    pub run: fn(&[u8]),
}

/// Makes [`TARGETS`] and their tests from one list.
macro_rules! targets {
    ($($name:ident = $run:path,)+) => {
        /// All of them.
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
