//! Targets for bodies of requests: comments and their rules, metadata, heartbeats, reports of statistics.

use std::sync::LazyLock;

use liverank_comment::parsers::CommentDraft;
use liverank_core::comment::{MAX_COMMENT_CHARS, check_text};
use liverank_core::moderation::CommentRules;
use liverank_core::moderation::folding::FoldedText;
use liverank_core::moderation::screening::{ScreeningResult, TextScreen};
use liverank_core::{Metadata, json};
use liverank_manager::http::read_heartbeat;
use liverank_statistics::reports;
use serde_json::{Map, Value};

use crate::texts::{expect_short, lossy_text};

/// A compiled screen with rules of every type.
static ALL_RULES_SCREEN: LazyLock<TextScreen> = LazyLock::new(|| {
    let rules = CommentRules::from_json(
        br#"{"links":{"action":"mask","allow":["example.org"]},"words":[{"action":"mask","words":["darn*","*heck","two words"]},
            {"action":"hold","words":["wait"]}],"patterns":[{"action":"mask","pattern":"\\d{3,}"}]}"#,
    );
    TextScreen::compile(&rules.expect("they are rules")).expect("they can be looked for")
});

fn parse_object(bytes: &[u8]) -> Option<Map<String, Value>> {
    match json::parse(bytes) {
        Ok(Value::Object(object)) => Some(object),
        Ok(_) => None,
        Err(refusal) => {
            expect_short(&refusal);
            None
        }
    }
}

pub(crate) fn comment(bytes: &[u8]) {
    if let Some(body) = parse_object(bytes)
        && let Err(refusal) = CommentDraft::parse(&body)
    {
        expect_short(&refusal);
    }
    // The text itself is folded and screened too, whatever it contains.
    let text = lossy_text(bytes);
    let chars = text.chars().count();
    for folded in [FoldedText::fold_by_letters(&text), FoldedText::fold_by_looks(&text)] {
        let all = folded.original_char_range(0..folded.as_str().len());
        assert!(all.end <= chars, "a character that the text does not have");
    }
    if chars > MAX_COMMENT_CHARS {
        return;
    }
    match ALL_RULES_SCREEN.screen_text(&text) {
        ScreeningResult::Accepted(masked) | ScreeningResult::Held(masked, _) => {
            // A comment that is acknowledged must be readable from the log.
            assert!(text.is_empty() || check_text("comment", &masked).is_ok(), "{masked}");
        }
        ScreeningResult::Refused(_) => {}
    }
}

pub(crate) fn comment_rules(bytes: &[u8]) {
    let rules = match CommentRules::from_json(bytes) {
        Ok(rules) => rules,
        Err(refusal) => return expect_short(&refusal),
    };
    let written = serde_json::to_vec(&rules).expect("rules are JSON");
    assert_eq!(CommentRules::from_json(&written).as_ref(), Ok(&rules), "{}", lossy_text(&written));
    // Rules that were accepted must compile.
    let screen = TextScreen::compile(&rules).expect("rules that were checked");
    let _ = screen.screen_text("some words, https://a.example and \u{202e}more of them 1234");
}

pub(crate) fn metadata(bytes: &[u8]) {
    let Some(body) = parse_object(bytes) else { return };
    match Metadata::from_value(&Value::Object(body)) {
        Ok(metadata) => {
            assert!(metadata.as_str().len() <= liverank_core::metadata::MAX_METADATA_BYTES);
            assert_eq!(Metadata::parse(metadata.as_str()).as_ref(), Ok(&metadata));
        }
        Err(refusal) => expect_short(&refusal),
    }
}

pub(crate) fn heartbeat(bytes: &[u8]) {
    match read_heartbeat(bytes) {
        Ok(record) => {
            let written = serde_json::to_vec(&record).expect("a record is JSON");
            let again = read_heartbeat(&written).unwrap_or_else(|problem| panic!("{}", problem.detail()));
            assert_eq!(again, record);
            let viewers: u64 = record.videos.iter().map(|held| held.viewers).sum();
            assert!(viewers <= record.videos.len() as u64 * liverank_core::epoch::MAX_REPORTED_COUNT);
        }
        Err(problem) => assert!(problem.detail().len() <= 1024, "{:.200}", problem.detail()),
    }
}

pub(crate) fn statistics(bytes: &[u8]) {
    let Some(body) = parse_object(bytes) else { return };
    let read = [
        reports::ReceivedCommentReport::parse(&body).map(|report| serde_json::to_vec(&report)),
        reports::ReceivedReaderReport::parse(&body).map(|report| serde_json::to_vec(&report)),
        reports::ReceivedManagerReport::parse(&body).map(|report| serde_json::to_vec(&report)),
        reports::ReceivedClientReport::parse(&body).map(|report| serde_json::to_vec(&report)),
    ];
    for read in read {
        match read {
            // Unknown members are dropped, but the names of absent members are written, so the report may be longer
            // than the body.
            Ok(json) => assert!(json.expect("a report is JSON").len() <= 512 + 6 * bytes.len()),
            Err(refusal) => expect_short(&refusal),
        }
    }
}
