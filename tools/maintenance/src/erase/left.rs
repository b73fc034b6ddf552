//! Reports what the stores still hold of an erased user, and until when.

use std::time::Duration;

use anyhow::Context;
use liverank_adapters::Backends;
use liverank_adapters::event_log::RecordRetention;
use liverank_core::counting::REPEAT_WINDOW_MS;
use liverank_core::moderation::ChangedRule;
use liverank_core::{Millis, UserId};
use serde::Serialize;

use crate::time_text;

/// The number of restrictions that are read at once.
const PAGE_RESTRICTIONS: usize = 1_000;

/// The data that the stores still hold of an erased user.
#[derive(Debug, Serialize)]
pub(super) struct RemainingData {
    /// The time until which the log has the user's events; `None` if the log does not delete by time or its retention
    /// is unknown.
    log_until: Option<String>,
    /// The kind of the log's retention: `time`, `size`, `for good` or `unknown`.
    log: &'static str,
    /// The time until which the archive keeps digests of identities.
    identities_until: String,
    /// The number of bans and mutes of the user, including lifted ones.
    restrictions: u64,
}

/// Reads from the stores what remains of the user, for records that were appended up to `now`.
pub(super) async fn find_remaining_data(
    backends: &Backends,
    user: &UserId,
    now: Millis,
) -> anyhow::Result<RemainingData> {
    let retention = backends.log.record_retention().await.context("asking for the log's retention")?;
    let (mut restrictions, mut revision) = (0, 0);
    loop {
        let page = backends.archive.moderation_archive().rules_since(revision, PAGE_RESTRICTIONS).await;
        let page = page.context("reading the restrictions")?;
        for change in &page {
            revision = change.revision;
            if matches!(&change.changed_rule, ChangedRule::Restriction { userid, .. } if userid == user) {
                restrictions += 1;
            }
        }
        if page.len() < PAGE_RESTRICTIONS {
            break;
        }
    }
    let after =
        |kept: Duration| time_text(now.saturating_add(kept.as_millis().try_into().unwrap_or(Millis::MAX)));
    let (log_until, log) = match retention {
        RecordRetention::For(kept) => (Some(after(kept)), "time"),
        RecordRetention::Forever => (None, "for good"),
        RecordRetention::UntilFull => (None, "size"),
        RecordRetention::Unknown => (None, "unknown"),
    };
    let identities_until = after(Duration::from_millis(REPEAT_WINDOW_MS.unsigned_abs()));
    Ok(RemainingData { log_until, log, identities_until, restrictions })
}

impl RemainingData {
    /// Describes the remains in lines for a person.
    pub(super) fn lines(&self) -> Vec<String> {
        let until = match (&self.log_until, self.log) {
            (Some(until), _) => format!("until {until}"),
            (None, "for good") => "for good, for the log has no retention".to_owned(),
            (None, "size") => "until it reaches its retention.bytes".to_owned(),
            (None, _) => "for as long as its retention says, which may not be read".to_owned(),
        };
        vec![
            "what stays:".to_owned(),
            format!("  in the log, what the user did and wrote: {until}"),
            format!("  in the archive, digests by which repeats are known: until {}", self.identities_until),
            format!(
                "  in the archive, bans and mutes of the user, lifted ones included: {}",
                self.restrictions
            ),
            "  in the audit log, what moderators did about the user, and what it did as one".to_owned(),
            "  in backups and snapshots of the archive, what they had: until they are removed".to_owned(),
        ]
    }
}
