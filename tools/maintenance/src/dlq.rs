//! Dead letters: lists them, and appends those that can be read by now to the log again.

use std::collections::HashSet;
use std::io::Write;

use anyhow::{Context, bail};
use liverank_adapters::event_log::{AppendError, EventLog, RecordPosition, StoredDeadLetter};
use liverank_core::Interaction;
use liverank_runtime::output::{ItemWriter, OutputArgs};
use serde::Serialize;
use serde_json::{Value, json};

use crate::progress::CommandProgress;
use crate::{CommandVerdict, time_text};

/// The number of letters read at once: each has a megabyte at most, and usually some kilobytes.
const PAGE_LETTERS: usize = 100;
/// The number of characters of a letter's value that are shown.
const MAX_CHARACTERS_SHOWN: usize = 80;

/// The arguments of `liverank dlq list`.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    #[command(flatten)]
    output: OutputArgs,
    /// Prints one line with a JSON object for each letter.
    #[arg(long, hide = true, conflicts_with = "output")]
    json: bool,
}

/// The arguments of `liverank dlq replay`: which letters are replayed.
#[derive(Debug, Clone, clap::Args)]
#[group(required = true, multiple = true)]
pub struct ReplayArgs {
    /// Replays every letter.
    #[arg(long, conflicts_with_all = ["partition", "offset"])]
    all: bool,
    /// Partition of the one dead letter to replay, in the topic of dead letters; with --offset.
    #[arg(long, requires = "offset")]
    partition: Option<u32>,
    /// Offset of the one dead letter to replay; with --partition.
    #[arg(long, requires = "partition")]
    offset: Option<u64>,
}

impl ReplayArgs {
    /// Returns the position of the one letter that is replayed; `None` for all letters.
    fn only_position(&self) -> Option<RecordPosition> {
        let (partition, offset) = (self.partition?, self.offset?);
        Some(RecordPosition { partition, offset })
    }
}

/// A dead letter as it is printed.
#[derive(Debug, Serialize)]
struct ShownLetter {
    partition: u32,
    offset: u64,
    dead_lettered: String,
    /// The position of the record in the log, as `partition/offset`, and the time at which the log accepted it; `None`
    /// if they are unknown.
    origin: Option<(String, String)>,
    bytes: u64,
    truncated: bool,
    reason: String,
    begins: String,
}

impl ShownLetter {
    fn from_letter(letter: &StoredDeadLetter) -> Self {
        let text = String::from_utf8_lossy(&letter.value);
        let mut begins: String =
            text.chars().take(MAX_CHARACTERS_SHOWN).flat_map(char::escape_debug).collect();
        if text.chars().nth(MAX_CHARACTERS_SHOWN).is_some() {
            begins.push('…');
        }
        Self {
            partition: letter.letter_position.partition,
            offset: letter.letter_position.offset,
            dead_lettered: time_text(letter.dead_lettered_at),
            origin: letter.origin.as_ref().map(|origin| {
                let RecordPosition { partition, offset } = origin.log_position;
                (format!("{partition}/{offset}"), time_text(origin.broker_time))
            }),
            bytes: letter.truncated_from.unwrap_or(letter.value.len() as u64),
            truncated: letter.truncated_from.is_some(),
            reason: letter.reason.clone(),
            begins,
        }
    }

    fn as_line(&self) -> String {
        let origin = self.origin.as_ref().map_or_else(
            || "of unknown origin".to_owned(),
            |(place, time)| format!("from {place} of {time}"),
        );
        let truncated = if self.truncated { ", truncated" } else { "" };
        let Self { partition, offset, bytes, begins, .. } = self;
        let reason = if self.reason.is_empty() { "no reason given" } else { &self.reason };
        format!(
            "--partition {partition} --offset {offset}  {origin}, {bytes} bytes{truncated}: {reason}\n    {begins}"
        )
    }
}

/// Prints every dead letter.
pub async fn list_dead_letters(
    options: &ListArgs,
    log: &dyn EventLog,
    out: &mut impl Write,
) -> anyhow::Result<CommandVerdict> {
    let mut letters = log.read_dead_letters(None).await.context("reading the dead letters")?;
    let mut shown = ItemWriter::new(options.output.output);
    loop {
        let page = letters.next_dead_letters(PAGE_LETTERS).await.context("reading the dead letters")?;
        if page.is_empty() {
            break;
        }
        for letter in page.iter().map(ShownLetter::from_letter) {
            if options.json {
                writeln!(out, "{}", serde_json::to_string(&letter)?)?;
            } else {
                shown.write_item(out, &letter, || letter.as_line())?;
            }
        }
    }
    if !options.json {
        shown.end_list(out, |count| format!("{count} dead letters"))?;
    }
    Ok(CommandVerdict::AllGood)
}

/// The result of reading a dead letter again.
#[derive(Debug, PartialEq)]
enum PreparedLetter {
    /// The letter can be appended to the log again.
    Readable { key: Vec<u8>, value: Vec<u8> },
    /// The letter stays among the dead letters, for this reason.
    Unreplayable(String),
}

/// Reads a letter as the consumer would. An event without an identity gets one, so that replaying it again within a day
/// does not count it twice. An event without a time gets the time at which it first arrived.
fn prepare_letter(letter: &StoredDeadLetter) -> PreparedLetter {
    if let Some(bytes) = letter.truncated_from {
        return PreparedLetter::Unreplayable(format!(
            "it was cut when it became a dead letter: it had {bytes} bytes"
        ));
    }
    let arrived = letter.origin.as_ref().map_or(letter.dead_lettered_at, |origin| origin.broker_time);
    let event = match Interaction::from_log(&letter.value, arrived) {
        Ok(event) => event,
        Err(invalid) => return PreparedLetter::Unreplayable(invalid.to_string()),
    };
    let Ok(Value::Object(mut object)) = serde_json::from_slice(&letter.value) else {
        return PreparedLetter::Unreplayable("it is not a JSON object".to_owned());
    };
    if event.event_id.is_none() && event.comment.is_none() {
        object.insert("event_id".to_owned(), json!(letter_identity(letter)));
    }
    if object.get("timestamp").is_none_or(Value::is_null) {
        object.insert("timestamp".to_owned(), json!(arrived as f64 / 1000.0));
    }
    let key = letter.key.as_deref().unwrap_or(event.video_id.as_str().as_bytes());
    PreparedLetter::Readable { key: key.to_vec(), value: Value::Object(object).to_string().into_bytes() }
}

/// Returns an identity that is the same for every letter of one record: a record that became a dead letter again after
/// a crash must not count as a second event.
fn letter_identity(letter: &StoredDeadLetter) -> String {
    match &letter.origin {
        Some(origin) => format!("dlq-{}-{}", origin.log_position.partition, origin.log_position.offset),
        None => format!("dlq-letter-{}-{}", letter.letter_position.partition, letter.letter_position.offset),
    }
}

/// The counts of a replay: letters appended again, letters that stay, and further letters of a record that was already
/// handled.
#[derive(Debug, Default, PartialEq, Eq)]
struct ReplayResult {
    appended: u64,
    stayed: u64,
    repeated: u64,
}

/// Appends the chosen letters to the log again, and prints those that stay.
pub async fn replay_dead_letters(
    options: &ReplayArgs,
    log: &dyn EventLog,
    progress: &CommandProgress,
    out: &mut impl Write,
) -> anyhow::Result<CommandVerdict> {
    log.open().await.context("opening the log")?;
    let mut letters =
        log.read_dead_letters(options.only_position()).await.context("reading the dead letters")?;
    let mut origins = HashSet::new();
    let mut count = ReplayResult::default();
    loop {
        let page = letters.next_dead_letters(PAGE_LETTERS).await.context("reading the dead letters")?;
        if page.is_empty() {
            break;
        }
        for letter in &page {
            if letter.origin.as_ref().is_some_and(|origin| {
                !origins.insert((origin.log_position.partition, origin.log_position.offset))
            }) {
                count.repeated += 1;
                continue;
            }
            match append_again(letter, log).await? {
                None => count.appended += 1,
                Some(reason) => {
                    count.stayed += 1;
                    writeln!(out, "stays: {}\n    {reason}", ShownLetter::from_letter(letter).as_line())?;
                }
            }
        }
        progress.show_progress("replaying dead letters", count.appended + count.stayed + count.repeated, 0);
    }
    progress.remove_bar();
    let ReplayResult { appended, stayed, repeated } = count;
    if let (0, 0, Some(RecordPosition { partition, offset })) = (appended, stayed, options.only_position()) {
        bail!(
            "there is no dead letter at partition {partition}, offset {offset}: `liverank dlq list` shows them"
        );
    }
    writeln!(
        out,
        "{appended} replayed, {stayed} stay, {repeated} became dead letters more than once and are one"
    )?;
    Ok(if stayed == 0 { CommandVerdict::AllGood } else { CommandVerdict::FoundFault })
}

/// Appends one letter to the log. Returns the reason if it stays a dead letter.
async fn append_again(letter: &StoredDeadLetter, log: &dyn EventLog) -> anyhow::Result<Option<String>> {
    match prepare_letter(letter) {
        PreparedLetter::Unreplayable(reason) => Ok(Some(reason)),
        PreparedLetter::Readable { key, value } => match log.append(&key, value).await {
            Ok(_) => Ok(None),
            Err(error @ AppendError::TooLarge { .. }) => Ok(Some(error.to_string())),
            Err(AppendError::Unavailable(error)) => Err(anyhow::Error::new(error).context(
                "appending; letters replayed so far count once, also when all are replayed again today",
            )),
        },
    }
}

#[cfg(test)]
mod tests;
