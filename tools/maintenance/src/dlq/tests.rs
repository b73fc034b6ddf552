use clap::Parser;
use liverank_adapters::clock;
use liverank_adapters::event_log::embedded::EmbeddedLog;
use liverank_adapters::event_log::{DeadLetter, DeadLetterOrigin, RawRecord, ReadRange};
use liverank_core::Millis;
use liverank_runtime::output::OutputFormat;

use super::*;

const LETTER_TIME: Millis = 1_700_000_000_000;

fn letter(value: &str) -> StoredDeadLetter {
    StoredDeadLetter {
        letter_position: RecordPosition { partition: 0, offset: 7 },
        dead_lettered_at: LETTER_TIME + 1000,
        origin: Some(DeadLetterOrigin {
            log_position: RecordPosition { partition: 3, offset: 42 },
            broker_time: LETTER_TIME,
        }),
        reason: "because".to_owned(),
        key: None,
        value: value.as_bytes().to_vec().into(),
        truncated_from: None,
    }
}

fn value_of(letter: &StoredDeadLetter) -> Value {
    match prepare_letter(letter) {
        PreparedLetter::Readable { value, .. } => serde_json::from_slice(&value).unwrap(),
        PreparedLetter::Unreplayable(reason) => panic!("stays: {reason}"),
    }
}

#[derive(Debug, Parser)]
struct ExampleCommand {
    #[command(flatten)]
    replay: ReplayArgs,
}

#[test]
fn a_replay_takes_all_letters_or_one() {
    let parsed = |line: &str| {
        ExampleCommand::try_parse_from(line.split(' ')).map(|command| command.replay.only_position())
    };
    assert_eq!(parsed("replay --all").unwrap(), None);
    let one = parsed("replay --partition 1 --offset 2").unwrap();
    assert_eq!(one, Some(RecordPosition { partition: 1, offset: 2 }));
    for wrong in
        ["replay", "replay --offset 2", "replay --partition 1", "replay --all --partition 1 --offset 2"]
    {
        assert!(parsed(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_replayed_letter_gets_identity_and_time_from_its_origin() {
    let view = letter(r#"{"video_id":"v","user_id":"u","type":"view","extra":[1]}"#);
    let value = value_of(&view);
    assert_eq!(value["event_id"], "dlq-3-42");
    assert_eq!(value["timestamp"].as_f64(), Some(LETTER_TIME as f64 / 1000.0));
    assert_eq!(value["extra"], json!([1]));
    assert!(matches!(prepare_letter(&view), PreparedLetter::Readable { key, .. } if key == b"v"));
    let foreign = StoredDeadLetter { origin: None, ..view };
    assert_eq!(value_of(&foreign)["event_id"], "dlq-letter-0-7");
}

#[test]
fn a_replayed_letter_keeps_its_identity_and_key() {
    let mut own = letter(r#"{"video_id":"v","user_id":"u","type":"view","event_id":"e","timestamp":5}"#);
    own.key = Some("k".into());
    assert_eq!((value_of(&own)["event_id"].as_str(), &value_of(&own)["timestamp"]), (Some("e"), &json!(5)));
    assert!(matches!(prepare_letter(&own), PreparedLetter::Readable { key, .. } if key == b"k"));
    let comment =
        letter(r#"{"video_id":"v","user_id":"u","type":"comment","comment_id":"c","comment":"hi"}"#);
    assert_eq!(value_of(&comment)["event_id"], Value::Null, "a comment has one already");
}

#[test]
fn an_unreadable_letter_stays_with_its_reason() {
    let reason = |letter: &StoredDeadLetter| match prepare_letter(letter) {
        PreparedLetter::Unreplayable(reason) => reason,
        PreparedLetter::Readable { .. } => panic!("is readable"),
    };
    assert!(reason(&letter("{")).contains("JSON"));
    assert!(reason(&letter(r#"{"video_id":"v","user_id":"u"}"#)).starts_with("type:"));
    let cut = StoredDeadLetter {
        truncated_from: Some(9_000_000),
        ..letter(r#"{"video_id":"v","user_id":"u","type":"view"}"#)
    };
    assert!(reason(&cut).contains("9000000 bytes"));
}

#[test]
fn a_letter_is_shown_in_characters_that_harm_no_terminal() {
    let mut wild = letter("");
    wild.value = b"\x1b[2J\xff\n".to_vec().into();
    let line = ShownLetter::from_letter(&wild).as_line();
    assert!(
        !line.contains('\x1b') && line.contains("--partition 0 --offset 7  from 3/42 of 2023-11-14"),
        "{line}"
    );
    wild.value = "x".repeat(500).into();
    assert!(ShownLetter::from_letter(&wild).begins.ends_with("x…"));
}

fn list_args_for(output: OutputFormat) -> ListArgs {
    ListArgs { output: OutputArgs { output }, json: false }
}

#[tokio::test]
async fn json_output_lists_letters_in_one_value() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap();
    log.open().await.unwrap();
    for letters in 0..3_usize {
        let said = async |options: ListArgs| {
            let mut out = Vec::new();
            list_dead_letters(&options, &log, &mut out).await.unwrap();
            String::from_utf8(out).unwrap()
        };
        let json = said(list_args_for(OutputFormat::Json)).await;
        let read: Vec<Value> = serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        assert_eq!(read.len(), letters);
        let yaml = said(list_args_for(OutputFormat::Yaml)).await;
        assert_eq!(yaml.lines().filter(|line| line.starts_with("- ")).count(), letters, "{yaml}");
        assert_eq!(yaml == "[]\n", letters == 0);
        assert_eq!(
            said(ListArgs { json: true, ..list_args_for(OutputFormat::Table) }).await.lines().count(),
            letters
        );
        let value = br#"{"video_id":""}"#.to_vec().into();
        let record = RawRecord {
            partition: 0,
            offset: letters as u64,
            broker_time: LETTER_TIME,
            key: None,
            value,
            trace: None,
        };
        log.append_dead_letter(&DeadLetter { record, reason: "no id".into() }).await.unwrap();
    }
}

#[tokio::test]
async fn a_letter_that_is_there_twice_goes_back_once_and_the_unreadable_one_stays() {
    let directory = tempfile::tempdir().unwrap();
    let log = EmbeddedLog::open(directory.path(), clock::system_clock()).unwrap();
    log.open().await.unwrap();
    let append = async |offset: u64, value: &str| {
        let value = value.as_bytes().to_vec().into();
        let record =
            RawRecord { partition: 2, offset, broker_time: LETTER_TIME, key: None, value, trace: None };
        log.append_dead_letter(&DeadLetter { record, reason: "not yet".into() }).await.unwrap();
    };
    let view = r#"{"video_id":"v","user_id":"u","type":"view"}"#;
    append(5, view).await;
    append(5, view).await;
    append(6, "{}").await;
    let mut out = Vec::new();
    list_dead_letters(&list_args_for(OutputFormat::Table), &log, &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert!(
        text.contains("from 2/5") && text.contains("not yet") && text.ends_with("3 dead letters\n"),
        "{text}"
    );

    let mut out = Vec::new();
    let all = ReplayArgs { all: true, partition: None, offset: None };
    let verdict = replay_dead_letters(&all, &log, &CommandProgress::new(), &mut out).await.unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(verdict, CommandVerdict::FoundFault);
    assert!(
        text.contains("1 replayed, 1 stay, 1 became dead letters") && text.contains("type: is required"),
        "{text}"
    );

    let ends = log.end_offsets().await.unwrap();
    let stretches: Vec<ReadRange> = (0..)
        .zip(ends)
        .map(|(partition, to)| ReadRange {
            partition,
            first_offset: 0,
            end_offset: to,
            previous_record: None,
        })
        .collect();
    let mut reader = log.read_ranges(&stretches).await.unwrap();
    let records = reader.next_records(10).await.unwrap();
    assert_eq!(records.len(), 1);
    let event = Interaction::from_log(&records[0].value, 0).unwrap();
    assert_eq!((event.event_id.unwrap().as_str(), event.timestamp), ("dlq-2-5", LETTER_TIME));
}
