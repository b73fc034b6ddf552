//! `erase user`: removes everything that names a user, except what the log keeps until its retention ends.
//!
//! Data in the archive is removed by records of the log, one for each entry, in order with all other events. So viewers
//! are told, Redis and readers follow, and a later rebuild from the log has the same result. The archive is searched
//! again and again, each time after everything in the log was counted, until a search finds nothing. So the command may
//! be killed at any moment and started again: what is already removed is not found any more.
//!
//! | module | does |
//! |---|---|
//! | this one | searches and writes records, until nothing is found |
//! | [`catch_up`] | waits until the log is counted; counts it itself if the system does not run |
//! | [`letters`] | finds the dead letters that name a user |
//! | [`left`] | reports what remains, and until when |

use std::collections::HashSet;
use std::io::Write;

use anyhow::{Context, bail};
use futures::future::try_join_all;
use liverank_adapters::Backends;
use liverank_adapters::archive::{AuditPosition, EntryPosition, ReportPosition, ReportQueue};
use liverank_core::comment::NOBODY_ID;
use liverank_core::counting::{MarkKey, UniqueKinds, mark_keys};
use liverank_core::moderation::{ActorRole, Moderation, ModerationAction, NameDigest, check_reason};
use liverank_core::{CommentId, Interaction, Millis, UserId, VideoId, event};
use liverank_runtime::output::OutputArgs;
use serde::Serialize;

use crate::CommandVerdict;
use crate::progress::CommandProgress;

mod catch_up;
mod left;
mod letters;

use left::RemainingData;

/// The largest number of searches of the archive. The first search finds everything that was there at the beginning;
/// without a limit, a user who goes on commenting would be found for ever.
const MAX_SEARCHES: usize = 10;
/// The number of records that are appended to the log at once.
const MAX_RECORDS_IN_FLIGHT: usize = 256;
/// The number of videos, or of waiting comments, that are read at once.
const ITEMS_A_PAGE: usize = 1_000;

/// The arguments of `liverank erase user`.
#[derive(Debug, Clone, clap::Args)]
pub struct EraseArgs {
    /// The user's id, as its comments have it.
    #[arg(value_name = "ID")]
    user: UserId,
    /// The name of whoever erases, for the audit log.
    #[arg(long, value_name = "NAME", default_value = "operator")]
    by: UserId,
    /// The reason, for the audit log. It stays there: leave the user's name out.
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    output: OutputArgs,
    /// Whether the stores are embedded ones of a system that does not run, so that this command counts the log itself.
    #[arg(skip)]
    pub embedded: bool,
}

/// The result of an erasure.
#[derive(Debug, Default, Serialize)]
struct ErasureResult {
    /// The number of comments, and other entries of channels, that named the user.
    entries: u64,
    /// The number of the user's comments that waited for a moderator.
    held: u64,
    /// The number of reports of comments that the user wrote.
    reports: u64,
    /// The number of videos that the user owned.
    owned: u64,
    /// The number of marks of the user: each says that an event of a type that counts once per user has counted.
    marks: u64,
    dead_letters: u64,
    /// The reason why dead letters could not be removed; `None` if they were.
    #[serde(skip_serializing_if = "Option::is_none")]
    dead_letters_refused: Option<String>,
    /// The data that the stores still hold of the user; `None` before the stores were searched for them.
    left: Option<RemainingData>,
}

impl ErasureResult {
    const fn found_total(&self) -> u64 {
        self.entries + self.held + self.reports + self.owned + self.marks
    }
}

/// Erases a user, and prints what was erased and what remains. If dead letters could not be removed, the exit code is
/// 1, and what was erased stays erased.
///
/// # Errors
/// A store does not answer, or the consumers do not count. The command can be run again, and continues.
pub async fn erase_user(
    options: &EraseArgs,
    backends: &Backends,
    progress: &CommandProgress,
    now: Millis,
    out: &mut impl Write,
) -> anyhow::Result<CommandVerdict> {
    if options.user.as_str() == NOBODY_ID {
        bail!("{NOBODY_ID} is nobody: it stands for those who are erased already");
    }
    options.reason.as_deref().map(check_reason).transpose()?;
    backends.log.open().await.context("opening the log")?;
    let done = UserErasure { options, backends, progress, now }.run_erasure().await;
    progress.remove_bar();
    let done = done.context("what was erased stays erased: run it again, and it goes on")?;
    let value = serde_json::to_value(&done)?;
    options.output.write_value(out, &value, || result_text(options, &done))?;
    Ok(if done.dead_letters_refused.is_none() { CommandVerdict::AllGood } else { CommandVerdict::FoundFault })
}

/// Returns the result of the erasure as text for a person.
fn result_text(options: &EraseArgs, done: &ErasureResult) -> String {
    let ErasureResult { entries, held, reports, owned, marks, dead_letters, .. } = done;
    let mut lines = vec![
        format!("erased {}:", options.user),
        format!("  {entries} comments and other entries, {held} comments that waited for a moderator"),
        format!("  {reports} reports of comments"),
        format!("  the name of the owner of {owned} videos, {marks} marks of what counted once"),
        format!("  {dead_letters} dead letters"),
    ];
    let refused = done.dead_letters_refused.iter();
    lines.extend(refused.map(|reason| format!("dead letters that name the user stay: {reason}")));
    lines.extend(done.left.iter().flat_map(RemainingData::lines));
    lines.into_iter().map(|line| line + "\n").collect()
}

struct UserErasure<'a> {
    options: &'a EraseArgs,
    backends: &'a Backends,
    progress: &'a CommandProgress,
    now: Millis,
}

impl UserErasure<'_> {
    fn user(&self) -> &UserId {
        &self.options.user
    }

    fn user_digest(&self) -> NameDigest {
        NameDigest::of_user(self.user())
    }

    async fn run_erasure(&self) -> anyhow::Result<ErasureResult> {
        let Some(meta) = self.backends.archive.archive_meta().await.context("reading the archive")? else {
            bail!("there is no archive yet: a consumer makes it");
        };
        self.append_records(vec![
            self.build_moderation_record(None, ModerationAction::EraseUser { user: self.user_digest() }),
        ])
        .await?;
        let mut done = ErasureResult::default();
        for search in 0.. {
            catch_up::wait_until_counted(self.backends, self.options.embedded, self.progress).await?;
            let before = done.found_total();
            self.find_and_erase_all(meta.counting_rules.unique, &mut done).await?;
            if done.found_total() == before {
                break;
            }
            if search == MAX_SEARCHES {
                bail!(
                    "{} goes on posting: {} things were erased, and each search finds more. Ban the user first",
                    self.user(),
                    done.found_total()
                );
            }
        }
        match self
            .backends
            .log
            .remove_dead_letters(&|letter| letters::letter_names_user(letter, self.user()))
            .await
        {
            Ok(removed) => done.dead_letters = removed,
            Err(error) if error.is_transient() => return Err(error).context("removing dead letters"),
            Err(error) => done.dead_letters_refused = Some(error.to_string()),
        }
        done.left = Some(left::find_remaining_data(self.backends, self.user(), self.now).await?);
        Ok(done)
    }

    /// Searches the archive once for everything that names the user, and appends a record to the log for each thing
    /// that has to be removed.
    async fn find_and_erase_all(&self, unique: UniqueKinds, done: &mut ErasureResult) -> anyhow::Result<()> {
        let moderation = self.backends.archive.moderation_archive();
        let total = self.backends.archive.comment_count().await.context("counting comments")?;
        let (mut from, mut looked_at) = (None, 0);
        loop {
            let part = moderation.entries_of_user(self.user(), from.as_deref()).await;
            let part = part.context("looking for the user's comments")?;
            done.entries += part.entries.len() as u64;
            let records = part
                .entries
                .into_iter()
                .map(|EntryPosition { video, seq, id }| self.build_erase_action(video, id, Some(seq)));
            self.append_records(records.collect()).await?;
            looked_at += liverank_adapters::archive::ENTRIES_READ_PER_CALL as u64;
            self.progress.show_progress("looking for comments", looked_at.min(total), total);
            from = part.next_part;
            if from.is_none() {
                break;
            }
        }
        self.erase_held_comments(done).await?;
        for queue in [ReportQueue::OpenNewest, ReportQueue::Closed] {
            self.erase_reports(queue, done).await?;
        }
        self.erase_ownership_and_marks(unique, done).await
    }

    async fn erase_held_comments(&self, done: &mut ErasureResult) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = self.backends.archive.moderation_archive().held_comments(after, ITEMS_A_PAGE).await;
            let page = page.context("looking for comments that wait")?;
            let own = page.iter().filter(|held| held.user == *self.user());
            let records = own.map(|held| self.build_erase_action(held.video.clone(), held.id.clone(), None));
            let records: Vec<_> = records.collect();
            done.held += records.len() as u64;
            self.append_records(records).await?;
            let Some(last) = page.last().filter(|_| page.len() == ITEMS_A_PAGE) else { return Ok(()) };
            after = Some(AuditPosition::of_held_comment(last));
        }
    }

    /// Removes the reports that the user wrote. A report that moves within its queue meanwhile is found by the next
    /// search or the next run.
    async fn erase_reports(&self, queue: ReportQueue, done: &mut ErasureResult) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page =
                self.backends.archive.moderation_archive().report_queue(queue, after, ITEMS_A_PAGE).await;
            let page = page.context("looking for the user's reports")?;
            let own = page.iter().filter(|reported| reported.is_reported_by(self.user()));
            let records = own.map(|reported| {
                let action = ModerationAction::EraseReport {
                    comment_id: reported.id.clone(),
                    user: self.user_digest(),
                };
                self.build_moderation_record(Some(reported.video.clone()), action)
            });
            let records: Vec<_> = records.collect();
            done.reports += records.len() as u64;
            self.append_records(records).await?;
            let Some(last) = page.last().filter(|_| page.len() == ITEMS_A_PAGE) else { return Ok(()) };
            after = Some(ReportPosition::of(last));
        }
    }

    /// Removes the user as the owner of videos, and the user's marks.
    async fn erase_ownership_and_marks(
        &self,
        unique: UniqueKinds,
        done: &mut ErasureResult,
    ) -> anyhow::Result<()> {
        let (mut after, mut looked_at) = (None, 0);
        loop {
            let page = self.backends.archive.videos_after(after.as_ref(), ITEMS_A_PAGE).await;
            let page = page.context("looking for the user's videos")?;
            let keys: Vec<Vec<MarkKey>> =
                page.iter().map(|video| mark_keys(&video.video_id, self.user(), unique).collect()).collect();
            let asked = keys.concat();
            let mut set = HashSet::new();
            if !asked.is_empty() {
                let marks = self.backends.archive.rebuild_archive().read_marks(None, &asked).await;
                set.extend(marks.context("looking for the user's marks")?.into_iter().map(|(key, _)| key));
            }
            let is_set = |key: &MarkKey| set.contains(key);
            let mut records = Vec::new();
            for (video, keys) in page.iter().zip(keys) {
                let marks: Vec<NameDigest> =
                    keys.into_iter().filter(is_set).map(NameDigest::of_mark).collect();
                let owned = video.owner == *self.user();
                if owned || !marks.is_empty() {
                    done.owned += u64::from(owned);
                    done.marks += marks.len() as u64;
                    let action = ModerationAction::Forget { user: self.user_digest(), marks };
                    records.push(self.build_moderation_record(Some(video.video_id.clone()), action));
                }
            }
            self.append_records(records).await?;
            looked_at += page.len() as u64;
            self.progress.show_progress("looking for videos", looked_at, 0);
            let full = page.len() == ITEMS_A_PAGE;
            after = page.into_iter().next_back().map(|video| video.video_id);
            if !full {
                return Ok(());
            }
        }
    }

    fn build_erase_action(&self, video: VideoId, comment_id: CommentId, seq: Option<u64>) -> Interaction {
        self.build_moderation_record(
            Some(video),
            ModerationAction::Erase { comment_id, seq, user: self.user_digest() },
        )
    }

    fn build_moderation_record(&self, video: Option<VideoId>, action: ModerationAction) -> Interaction {
        // The reason is recorded once, with the erasure of the user.
        let reason =
            self.options.reason.clone().filter(|_| matches!(action, ModerationAction::EraseUser { .. }));
        let moderation = Moderation { action, role: ActorRole::Service, reason };
        let id = event::random_event_id(rand::random());
        moderation.into_record(self.options.by.clone(), video, id, self.now)
    }

    async fn append_records(&self, records: Vec<Interaction>) -> anyhow::Result<()> {
        for records in records.chunks(MAX_RECORDS_IN_FLIGHT) {
            let append = |record: &Interaction| {
                let (key, value) = (record.video_id.as_str().to_owned(), record.to_json());
                async move { self.backends.log.append(key.as_bytes(), value).await }
            };
            try_join_all(records.iter().map(append)).await.context("writing into the log")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
