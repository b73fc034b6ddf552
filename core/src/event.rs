//! Interactions: what a viewer did with a video, as clients post it and as the log keeps it.
//!
//! Clients post interactions, and foreign producers write them to the log, in the same JSON. [`Interaction::parse`] is
//! its only full reader, so a field that is refused at a gateway and a malformed record in the log are reported in the
//! same words.

use serde::Serialize;
use serde_json::Value;

use crate::comment::{check_text, to_hex};
use crate::moderation::{record, version};
use crate::{CommentId, EventId, Invalid, Millis, UserId, VideoId, canary};

mod fields;
pub(crate) mod format;
pub(crate) mod interaction;
pub(crate) mod kind;
pub(crate) mod members;
mod scan;
mod usual;

use fields::parse_fast;
use format::version_if_newer;
pub use format::{NEWEST_RECORD_FORMAT, UnreadableRecord};
pub use interaction::{CommentBody, Interaction};
pub use kind::Kind;
pub use members::{MAX_WATCH_SECONDS, optional_text, required_text};
use members::{parse_reply_to, parse_timestamp, parse_watch_ms};

impl Interaction {
    /// Reads a record of the log: an interaction or a moderation record. `now` replaces an absent timestamp. What
    /// clients send is read by [`Interaction::parse`], which knows neither moderation nor formats.
    ///
    /// A usual record is read without copying its JSON; unusual and malformed ones are left to [`Interaction::parse`].
    ///
    /// # Errors
    /// A record of a later format gives [`UnreadableRecord::NewerFormat`], whatever else is wrong with it.
    pub fn from_log(json: &[u8], now: Millis) -> Result<Self, UnreadableRecord> {
        Self::from_log_with_known_ids(json, now, |_| None)
    }

    /// Reads a record as [`Interaction::from_log`] does, for callers that read many. `known` may return an existing
    /// video id with this text: for a usual record, that id is used instead of a new copy.
    ///
    /// # Errors
    /// The errors are those of [`Interaction::from_log`].
    pub fn from_log_with_known_ids(
        json: &[u8],
        now: Millis,
        known: impl FnOnce(&str) -> Option<VideoId>,
    ) -> Result<Self, UnreadableRecord> {
        if let Some(event) = parse_fast(json, now, known) {
            return Ok(event);
        }
        let value = crate::json::parse(json)?;
        if let Some(format) = version_if_newer(&value, "format", NEWEST_RECORD_FORMAT) {
            return Err(UnreadableRecord::NewerFormat { format });
        }
        if record::is_moderation_record(&value) {
            return match version_if_newer(&value, "version", version::NEWEST_MODERATION_VERSION) {
                Some(format) => Err(UnreadableRecord::NewerFormat { format }),
                None => Ok(record::parse(&value)?),
            };
        }
        Ok(Self::parse(&value, now)?)
    }

    /// Reads an interaction from a JSON object; `now` replaces an absent timestamp. Unknown members are ignored, as
    /// the seed's services do; a null member counts as absent.
    pub fn parse(value: &Value, now: Millis) -> Result<Self, Invalid> {
        let Value::Object(object) = value else {
            return Err(Invalid::new("body", "must be a JSON object"));
        };
        let kind = Kind::parse(required_text(object, "type")?)?;
        let comment = match optional_text(object, "comment_id")? {
            Some(_) if kind != Kind::Comment => {
                return Err(Invalid::new("comment_id", "goes with type comment only"));
            }
            Some(id) => {
                let text = required_text(object, "comment")?;
                check_text("comment", text)?;
                let (comment_id, text) = (CommentId::parse(id)?, text.to_owned());
                Some(CommentBody { comment_id, text, reply_to: parse_reply_to(object) })
            }
            None => None,
        };
        let read = Self {
            video_id: VideoId::parse(required_text(object, "video_id")?)?,
            user_id: UserId::parse(required_text(object, "user_id")?)?,
            kind,
            watch_ms: parse_watch_ms(object)?.filter(|_| kind == Kind::WatchTime).unwrap_or(0),
            timestamp: parse_timestamp(object)?.unwrap_or(now),
            event_id: optional_text(object, "event_id")?.map(EventId::parse).transpose()?,
            owner_id: optional_text(object, "owner_id")?
                .map(|id| UserId::parse_field("owner_id", id))
                .transpose()?,
            comment,
            moderation: None,
        };
        canary::check_event(&read.video_id, &read.user_id, read.owner_id.as_ref())?;
        Ok(read)
    }

    /// Writes the event as the JSON of a log record.
    pub fn to_json(&self) -> Vec<u8> {
        #[derive(Serialize)]
        struct EventJson<'a> {
            video_id: &'a VideoId,
            user_id: &'a UserId,
            r#type: &'static str,
            #[serde(skip_serializing_if = "Option::is_none")]
            watch_time: Option<f64>,
            timestamp: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            event_id: Option<&'a EventId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            owner_id: Option<&'a UserId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            comment_id: Option<&'a CommentId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            comment: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            reply_to: Option<&'a CommentId>,
            #[serde(skip_serializing_if = "Option::is_none")]
            format: Option<u64>,
        }
        if let Some(moderation) = &self.moderation {
            return record::to_json(self, moderation);
        }
        let wire = EventJson {
            video_id: &self.video_id,
            user_id: &self.user_id,
            r#type: self.kind.name(),
            watch_time: (self.kind == Kind::WatchTime).then_some(self.watch_ms as f64 / 1000.0),
            timestamp: self.timestamp as f64 / 1000.0,
            event_id: self.event_id.as_ref(),
            owner_id: self.owner_id.as_ref(),
            comment_id: self.comment.as_ref().map(|comment| &comment.comment_id),
            comment: self.comment.as_ref().map(|comment| comment.text.as_str()),
            reply_to: self.comment.as_ref().and_then(|comment| comment.reply_to.as_ref()),
            format: Some(self.kind.format()).filter(|format| *format > 1),
        };
        serde_json::to_vec(&wire).expect("strings and finite numbers always serialise")
    }
}

/// Makes an identity for an event whose sender gave none, from 128 random bits.
pub fn random_event_id(bits: u128) -> EventId {
    EventId::parse(&to_hex(&bits.to_be_bytes())).expect("hexadecimal digits make an identifier")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    const NOW: Millis = 1_700_000_000_123;

    fn field_of_error(value: &Value) -> &'static str {
        Interaction::parse(value, NOW).unwrap_err().field
    }

    fn field_of_log_error(record: &[u8]) -> &'static str {
        match Interaction::from_log(record, NOW) {
            Err(UnreadableRecord::Invalid(invalid)) => invalid.field,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_seed_s_event_is_parsed() {
        let seed = br#"{"video_id":"v1","user_id":"u1","type":"watch_time","watch_time":3.5,"timestamp":1700000000}"#;
        let event = Interaction::from_log(seed, NOW).unwrap();
        assert_eq!((event.kind, event.watch_ms, event.timestamp), (Kind::WatchTime, 3500, 1_700_000_000_000));
    }

    #[test]
    fn every_wrong_field_is_named() {
        let good = json!({"video_id": "v", "user_id": "u", "type": "view"});
        assert!(Interaction::parse(&good, NOW).is_ok());
        let cases = [
            ("video_id", json!(null)),
            ("video_id", json!(7)),
            ("video_id", json!("")),
            ("user_id", json!(["u"])),
            ("type", json!("dislike")),
            ("type", json!(1)),
            ("watch_time", json!("3")),
            ("watch_time", json!(-0.001)),
            ("watch_time", json!(86_400.5)),
            ("timestamp", json!("yesterday")),
            ("timestamp", json!(-1)),
            ("timestamp", json!(true)),
            ("timestamp", json!(1e300)),
            ("event_id", json!("x".repeat(257))),
            ("owner_id", json!("")),
            ("comment_id", json!("c")),
        ];
        for (field, value) in cases {
            let mut bad = good.clone();
            bad[field] = value.clone();
            assert_eq!(field_of_error(&bad), field, "{value}");
        }
        let kind = Interaction::parse(&json!({"type": "dislike"}), NOW).unwrap_err();
        assert_eq!(kind.reason, "must be view, like, comment, share, watch_time, unlike or unshare");
        assert_eq!(field_of_error(&json!([])), "body");
        assert_eq!(field_of_log_error(b"{"), "body");
        assert_eq!(field_of_log_error(br#"{"watch_time":NaN}"#), "body");
    }

    #[test]
    fn a_record_of_a_later_format_is_reported_as_later() {
        let read = |value: &Value| Interaction::from_log(value.to_string().as_bytes(), NOW);
        let good = json!({"video_id": "v", "user_id": "u", "type": "view"});
        let with = |member: &str, value: Value| {
            let mut record = good.clone();
            record[member] = value;
            record
        };
        let newer = |format| Err(UnreadableRecord::NewerFormat { format });
        assert_eq!(
            read(&with("format", json!(NEWEST_RECORD_FORMAT + 1))),
            newer(NEWEST_RECORD_FORMAT + 1),
            "it may mean something else"
        );
        assert_eq!(read(&json!({"format": 7, "type": "of a later release"})), newer(7), "whatever it lacks");
        for none in [
            json!(NEWEST_RECORD_FORMAT),
            json!(0),
            json!(-1),
            json!(2.5),
            json!("2"),
            json!(null),
            json!([2]),
        ] {
            assert_eq!(read(&with("format", none.clone())), read(&good), "{none}");
        }
        assert!(
            matches!(read(&with("type", json!("of a later release"))), Err(UnreadableRecord::Invalid(_))),
            "of format 1"
        );
        assert_eq!(read(&json!({"type": "moderation", "version": 3})), newer(3));
        assert!(matches!(
            read(&json!({"type": "moderation", "version": 0})),
            Err(UnreadableRecord::Invalid(_))
        ));
        let sent = Interaction::parse(&with("format", json!(9)), NOW).unwrap();
        assert_eq!(
            read(&serde_json::from_slice(&sent.to_json()).unwrap()),
            Ok(sent),
            "no client sets a format"
        );
    }

    #[test]
    fn every_kind_that_format_1_lacks_says_its_own_format() {
        for kind in Kind::ALL {
            let old = ["view", "like", "comment", "share", "watch_time"].contains(&kind.name());
            assert_eq!(
                kind.format() == 1,
                old,
                "a release that does not know {} would make it a dead letter",
                kind.name()
            );
            assert!(
                kind.format() <= NEWEST_RECORD_FORMAT,
                "raise NEWEST_RECORD_FORMAT: this release would not read its own {}",
                kind.name()
            );
        }
    }

    #[test]
    fn a_mixed_up_field_alias_is_named_in_the_error() {
        let mixed = json!({"videoid": "v", "userid": "u", "type": "view"});
        let refused = Interaction::parse(&mixed, NOW).unwrap_err();
        assert_eq!(refused.to_string(), "video_id: is required: here it is called video_id, not videoid");
        let Value::Object(other) = json!({"user_id": "u"}) else { panic!("an object") };
        let refused = required_text(&other, "userid").unwrap_err();
        assert_eq!(refused.to_string(), "userid: is required: here it is called userid, not user_id");
        assert_eq!(required_text(&other, "videoid").unwrap_err(), Invalid::missing("videoid"));
    }

    #[test]
    fn a_number_beyond_f64_names_its_field() {
        for field in ["watch_time", "timestamp", "video_id", "event_id"] {
            let text = format!(r#"{{"video_id":"v","user_id":"u","type":"watch_time","{field}":1e400}}"#);
            assert_eq!(field_of_log_error(text.as_bytes()), field);
        }
    }

    #[test]
    fn time_is_read_in_three_ways_and_defaults_to_now() {
        let at = |time: Value| {
            let value = json!({"video_id": "v", "user_id": "u", "type": "view", "timestamp": time});
            Interaction::parse(&value, NOW).unwrap().timestamp
        };
        assert_eq!(at(json!(1_700_000_000)), 1_700_000_000_000);
        assert_eq!(at(json!(1_700_000_000.25)), 1_700_000_000_250);
        assert_eq!(at(json!("2023-11-14T22:13:20.5Z")), 1_700_000_000_500);
        assert_eq!(at(json!("2023-11-14T23:13:20+01:00")), 1_700_000_000_000);
        assert_eq!(at(Value::Null), NOW);
    }

    #[test]
    fn a_comment_keeps_its_text_and_a_foreign_one_is_only_counted() {
        let value =
            json!({"video_id": "v", "user_id": "u", "type": "comment", "comment_id": "c", "comment": "hé"});
        assert_eq!(Interaction::parse(&value, NOW).unwrap().comment.unwrap().text, "hé");
        let foreign = json!({"video_id": "v", "user_id": "u", "type": "comment", "comment": 5});
        assert_eq!(Interaction::parse(&foreign, NOW).unwrap().comment, None);
        for (reply_to, expected) in
            [(json!("c1"), Some("c1")), (json!(7), None), (json!(""), None), (json!(null), None)]
        {
            let mut reply = value.clone();
            reply["reply_to"] = reply_to;
            let body = Interaction::parse(&reply, NOW).unwrap().comment.unwrap();
            assert_eq!(body.reply_to.as_ref().map(CommentId::as_str), expected);
        }
        let empty =
            json!({"video_id": "v", "user_id": "u", "type": "comment", "comment_id": "c", "comment": ""});
        assert_eq!(field_of_error(&empty), "comment");
    }

    /// A member of an object, valid or not.
    fn random_member() -> impl Strategy<Value = String> {
        let name = prop_oneof![
            6 => proptest::sample::select(vec!["video_id", "user_id", "type", "watch_time", "timestamp", "event_id",
                "owner_id", "comment_id", "comment"]).prop_map(str::to_owned),
            1 => "[a-z_]{0,6}",
            1 => Just("vid\\u0065o_id".to_owned()),
        ];
        let value = prop_oneof![
            6 => proptest::sample::select(vec![r#""v""#, r#""view""#, r#""like""#, r#""comment""#, r#""share""#,
                r#""watch_time""#, r#""""#, r#""\u0041""#, r#""\ud800""#, r#""a\nb""#, "null", "true", "[1,{}]", "{}",
                "0", "-0.0", "3.5", "1e999", "86400.5", "1700000000", "1700000000.25", "-1", "18446744073709551616",
                r#""2023-11-14T22:13:20.5Z""#, r#""yesterday""#, "NaN", "01", ""]).prop_map(str::to_owned),
            1 => any::<f64>().prop_map(|number| number.to_string()),
            1 => any::<i64>().prop_map(|number| number.to_string()),
            1 => "\\PC{0,6}".prop_map(|text| serde_json::to_string(&text).unwrap()),
        ];
        (name, value, " {0,1}").prop_map(|(name, value, space)| format!("{space}\"{name}\":{space}{value}"))
    }

    prop_compose! {
        fn random_interaction()(
            video in "[a-z]{1,8}", user in "\\PC{1,8}", kind in 0..Kind::ALL.len(), watch_ms in 0u64..=86_400_000,
            timestamp in 0i64..253_402_300_800_000, event in proptest::option::of("[a-z]{1,4}"),
            owner in proptest::option::of("[a-z]{1,4}"), text in "\\PC{1,40}", reply in proptest::option::of("[a-z]{1,4}"),
        ) -> Interaction {
            let kind = Kind::ALL[kind];
            Interaction {
                video_id: VideoId::parse(&video).unwrap(),
                user_id: UserId::parse(&user).unwrap(),
                kind,
                watch_ms: if kind == Kind::WatchTime { watch_ms } else { 0 },
                timestamp,
                event_id: event.map(|id| EventId::parse(&id).unwrap()),
                owner_id: owner.map(|id| UserId::parse(&id).unwrap()),
                comment: (kind == Kind::Comment)
                    .then(|| CommentBody {
                        comment_id: CommentId::parse("c").unwrap(),
                        text,
                        reply_to: reply.map(|id| CommentId::parse(&id).unwrap()),
                    }),
                moderation: None,
            }
        }
    }

    proptest! {
        #[test]
        fn events_round_trip(event in random_interaction()) {
            prop_assert_eq!(Interaction::from_log(&event.to_json(), NOW).unwrap(), event);
        }

        /// For any JSON, the fast parser and the full parser agree, errors and their texts included.
        #[test]
        fn the_fast_parser_agrees_with_the_full_parser(members in proptest::collection::vec(random_member(), 0..9), cut in 0..400usize) {
            let text = format!("{{{}}}", members.join(","));
            let bytes = text.as_bytes();
            let cut = &bytes[..bytes.len().min(cut)];
            for json in [bytes, cut] {
                let other = crate::json::parse(json).and_then(|value| Interaction::parse(&value, NOW));
                prop_assert_eq!(Interaction::from_log(json, NOW), other.map_err(UnreadableRecord::from));
            }
        }

        #[test]
        fn the_fast_parser_reads_what_we_write(event in random_interaction()) {
            let json = event.to_json();
            prop_assert!(parse_fast(&json, NOW, |_| None).is_some());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Interaction::from_log(&bytes, NOW);
        }
    }
}
