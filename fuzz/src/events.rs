//! A target for interactions, as clients post them and as the log keeps them, and for records of moderation.

use liverank_core::event::UnreadableRecord;
use liverank_core::score::Weights;
use liverank_core::{Interaction, Kind, score};
use serde_json::Value;

use crate::texts::expect_short;

/// The time for events without a time, in milliseconds since the epoch.
const NOW: i64 = 1_790_000_000_000;
/// The greatest length of a record that is written for what was read, in bytes: a comment of 4,096 characters that are
/// all escaped, or rules of 8 KiB, with identifiers.
const MAX_RECORD_BYTES: usize = 64 * 1024;

pub(crate) fn event(bytes: &[u8]) {
    let read = match Interaction::from_log(bytes, NOW) {
        Ok(read) => read,
        Err(UnreadableRecord::NewerFormat { format }) => return assert!(format > 1),
        Err(UnreadableRecord::Invalid(refusal)) => return expect_short(&refusal),
    };
    let written = read.to_json();
    assert!(written.len() <= MAX_RECORD_BYTES, "a record of {} bytes", written.len());
    assert_eq!(Interaction::from_log(&written, NOW).as_ref(), Ok(&read), "{}", lossy_text(&written));
    let _ = score::thousandths_added(&read, &Weights::default());
    // A client's event is read in the same way, except for types that no client may send.
    let sent: Value = serde_json::from_slice(bytes).expect("what was read is JSON");
    let as_sent = Interaction::parse(&sent, NOW);
    assert_eq!(as_sent.is_ok(), read.kind != Kind::Moderation, "{as_sent:?}");
}

fn lossy_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
