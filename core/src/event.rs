//! Interactions: what a viewer did with a video, as clients post it and as the log keeps it.
//!
//! Clients and foreign producers write the same JSON. [`Interaction::parse`] is its only full reader, so a field that
//! is refused at a gateway and a malformed record in the log are reported in the same words.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::comment::check_text;
use crate::comment::to_hex;
use crate::moderation::{self, Moderation};
use crate::{CommentId, EventId, Invalid, Millis, UserId, VideoId, canary};

mod fields;
mod scan;

use fields::read_usual;

/// The longest watch time that one event may have, in seconds: one day.
pub const MAX_WATCH_SECONDS: f64 = 86_400.0;

/// The newest record format that this release reads. A record of a later format says so in its member `format`, and a
/// consumer that meets one waits for a release that knows it ([`UnreadableRecord::NewerFormat`]). A record without the
/// member has format 1. A release that writes what this one would misread (another type, another meaning) raises the
/// number for those records only: all others stay readable for this release.
pub const NEWEST_RECORD_FORMAT: u64 = 2;

/// The reason for which a record of the log cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnreadableRecord {
    /// A later release wrote the record. The record waits for a release that can read it, and never becomes a dead
    /// letter.
    #[error("the record is of format {format}, and this release reads formats up to {NEWEST_RECORD_FORMAT}")]
    NewerFormat {
        /// The format that the record names.
        format: u64,
    },
    /// The record is malformed: no release reads it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
}

/// Makes [`Kind`] from one list, so that no kind is missing from [`Kind::ALL`]. `since` is the record format that
/// introduced a kind which format 1 does not have.
macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident = $name:literal $(since $since:literal)?,)+) => {
        /// The kind of an interaction: what the viewer did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum Kind {
            $($(#[$doc])* $kind,)+
            /// Not an interaction of a viewer but a record of [`crate::moderation`]. No client can send one as an
            /// interaction.
            Moderation,
        }

        impl Kind {
            /// Every kind that clients send, in the order of the documentation.
            pub const ALL: [Self; [$($name),+].len()] = [$(Self::$kind),+];

            /// Returns the kind's name in JSON, the value of `type`.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$kind => $name,)+
                    Self::Moderation => "moderation",
                }
            }

            /// Returns the format of this kind's records: the first record format that has the kind.
            pub const fn format(self) -> u64 {
                match self {
                    $(Self::$kind => kinds!(@since $($since)?),)+
                    // Moderation records have a version of their own.
                    Self::Moderation => 1,
                }
            }
        }
    };
    (@since) => { 1 };
    (@since $since:literal) => { $since };
}

kinds! {
    /// The viewer opened the video.
    View = "view",
    /// The viewer liked the video.
    Like = "like",
    /// The viewer commented on the video.
    Comment = "comment",
    /// The viewer shared the video.
    Share = "share",
    /// The viewer watched the video for a time.
    WatchTime = "watch_time",
    /// The viewer took back a like. An unlike is a type of its own and not a member `"undo": true` of a like: a
    /// release that does not know the type refuses it, whereas one that does not know the member would count one more
    /// like.
    Unlike = "unlike" since 2,
    /// The viewer took back a share.
    Unshare = "unshare" since 2,
}

impl Kind {
    /// Returns the kind of event that this kind takes back; `None` for kinds that take nothing back.
    pub const fn takes_back(self) -> Option<Self> {
        match self {
            Self::Unlike => Some(Self::Like),
            Self::Unshare => Some(Self::Share),
            _ => None,
        }
    }

    fn parse(text: &str) -> Result<Self, Invalid> {
        Self::ALL.into_iter().find(|kind| kind.name() == text).ok_or_else(|| {
            let [others @ .., last] = Self::ALL.map(Self::name);
            Invalid::new("type", format!("must be {} or {last}", others.join(", ")))
        })
    }
}

/// The comment that an interaction of type `comment` carries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommentBody {
    /// The identity of the comment.
    pub comment_id: CommentId,
    /// The text of the comment.
    pub text: String,
    /// The comment under the same video that this comment replies to.
    pub reply_to: Option<CommentId>,
}

/// One interaction: one thing that one viewer did with one video.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interaction {
    /// The video that the interaction is about.
    pub video_id: VideoId,
    /// The user who acted.
    pub user_id: UserId,
    /// The kind of the interaction.
    pub kind: Kind,
    /// The watch time in milliseconds for [`Kind::WatchTime`]; 0 for every other kind.
    pub watch_ms: u64,
    /// The time of the interaction by the sender's clock (by the gateway's clock if the sender gave none), in
    /// milliseconds.
    pub timestamp: Millis,
    /// The identity that the client chose for this event, if any.
    pub event_id: Option<EventId>,
    /// The owner of the video, if the sender knows it.
    pub owner_id: Option<UserId>,
    /// The comment, if it came through the comment service. A foreign event of type `comment` has none and is only
    /// counted.
    pub comment: Option<CommentBody>,
    /// The moderation record; present for [`Kind::Moderation`] and for no other kind.
    pub moderation: Option<Box<Moderation>>,
}

impl Interaction {
    /// Reads a record of the log: an interaction or a moderation record. `now` replaces an absent timestamp. What
    /// clients send is read by [`Interaction::parse`], which knows neither moderation nor formats.
    ///
    /// A usual record is read without copying its JSON; unusual and malformed ones are left to [`Interaction::parse`].
    ///
    /// # Errors
    /// A record of a later format gives [`UnreadableRecord::NewerFormat`], whatever else is wrong with it.
    pub fn from_log(json: &[u8], now: Millis) -> Result<Self, UnreadableRecord> {
        Self::from_log_of(json, now, |_| None)
    }

    /// Reads a record as [`Interaction::from_log`] does, for callers that read many. `known` may return an existing id
    /// of the video with this text: for a usual record, it is used instead of a new copy.
    ///
    /// # Errors
    /// Those of [`Interaction::from_log`].
    pub fn from_log_of(
        json: &[u8],
        now: Millis,
        known: impl FnOnce(&str) -> Option<VideoId>,
    ) -> Result<Self, UnreadableRecord> {
        if let Some(event) = read_usual(json, now, known) {
            return Ok(event);
        }
        let value = crate::json::parse(json)?;
        if let Some(format) = newer_version(&value, "format", NEWEST_RECORD_FORMAT) {
            return Err(UnreadableRecord::NewerFormat { format });
        }
        if moderation::is_record(&value) {
            return match newer_version(&value, "version", moderation::VERSION) {
                Some(format) => Err(UnreadableRecord::NewerFormat { format }),
                None => Ok(moderation::parse(&value)?),
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
            return moderation::to_json(self, moderation);
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

/// Returns the whole number in `member` of a record if it is greater than `latest`, the newest that this release
/// reads. A value that is not a whole number is no format: foreign records may have such a member.
fn newer_version(record: &Value, member: &str, latest: u64) -> Option<u64> {
    record.get(member)?.as_u64().filter(|number| *number > latest)
}

/// Returns the string in the member `field` of `object`; an error if it is absent, null or no string.
pub fn required_text<'a>(object: &'a Map<String, Value>, field: &'static str) -> Result<&'a str, Invalid> {
    optional_text(object, field)?.ok_or_else(|| missing_field(object, field))
}

/// The names that the two seeds use for the same two fields: a sender who mixes them up is told which name to use.
const FIELD_ALIASES: [(&str, &str); 2] = [("user_id", "userid"), ("video_id", "videoid")];

fn missing_field(object: &Map<String, Value>, field: &'static str) -> Invalid {
    let twins = FIELD_ALIASES.into_iter().flat_map(|(one, other)| [(one, other), (other, one)]);
    let mut others = twins.filter(|(name, other)| *name == field && object.contains_key(*other));
    match others.next() {
        Some((_, other)) => {
            Invalid::new(field, format!("is required: here it is called {field}, not {other}"))
        }
        None => Invalid::missing(field),
    }
}

/// Makes an identity for an event whose sender gave none, from 128 random bits.
pub fn random_id(bits: u128) -> EventId {
    EventId::parse(&to_hex(&bits.to_be_bytes())).expect("hexadecimal digits make an identifier")
}

/// Returns the string in the member `field` of `object`; `None` if it is absent or null, an error if it is no string.
pub fn optional_text<'a>(
    object: &'a Map<String, Value>,
    field: &'static str,
) -> Result<Option<&'a str>, Invalid> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(Invalid::new(field, "must be a string")),
    }
}

/// Returns the comment that a comment replies to; `None` if the member is no valid id. Before liverank had replies,
/// the member was ignored whatever its value, so old logs may still hold invalid ones. New ones are refused by the
/// comment service, before they get into the log.
fn parse_reply_to(object: &Map<String, Value>) -> Option<CommentId> {
    CommentId::parse(object.get("reply_to")?.as_str()?).ok()
}

fn parse_watch_ms(object: &Map<String, Value>) -> Result<Option<u64>, Invalid> {
    match object.get("watch_time") {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds =
                value.as_f64().ok_or_else(|| Invalid::new("watch_time", "must be a number of seconds"))?;
            seconds_to_ms(seconds).map(Some)
        }
    }
}

/// Converts seconds of watching to milliseconds; refuses less than 0 and more than one day.
fn seconds_to_ms(seconds: f64) -> Result<u64, Invalid> {
    if !seconds.is_finite() || !(0.0..=MAX_WATCH_SECONDS).contains(&seconds) {
        return Err(Invalid::new("watch_time", "must be 0 to 86400 seconds"));
    }
    Ok((seconds * 1000.0).round() as u64)
}

/// The first millisecond after the years of four digits: the begin of the year 10000.
const YEAR_10000: Millis = 253_402_300_800_000;

/// Reads the timestamp: Unix seconds (integer or fractional) or RFC 3339, in the years 1970 to 9999.
fn parse_timestamp(object: &Map<String, Value>) -> Result<Option<Millis>, Invalid> {
    match object.get("timestamp") {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(seconds)) => {
            let seconds = seconds.as_f64().ok_or_else(invalid_timestamp)?;
            check_time_range((seconds * 1000.0).round() as Millis).map(Some)
        }
        Some(Value::String(text)) => parse_rfc_3339(text).map(Some),
        Some(_) => Err(invalid_timestamp()),
    }
}

fn invalid_timestamp() -> Invalid {
    Invalid::new("timestamp", "must be Unix seconds or an RFC 3339 time, from 1970 to 9999")
}

fn parse_rfc_3339(text: &str) -> Result<Millis, Invalid> {
    check_time_range(text.parse::<Timestamp>().map_err(|_| invalid_timestamp())?.as_millisecond())
}

fn check_time_range(millis: Millis) -> Result<Millis, Invalid> {
    if (0..YEAR_10000).contains(&millis) { Ok(millis) } else { Err(invalid_timestamp()) }
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
            assert!(kind.format() <= NEWEST_RECORD_FORMAT, "this release reads what it writes");
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
            prop_assert!(read_usual(&json, NOW, |_| None).is_some());
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Interaction::from_log(&bytes, NOW);
        }
    }
}
