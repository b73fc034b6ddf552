//! The reports of services and of the seed's clients, parsed leniently: an absent or null member counts as nothing,
//! unknown members are ignored, and only a member of the wrong type is refused, by its name.

use std::collections::BTreeMap;

use liverank_core::Invalid;
use liverank_core::json::to_whole_number;
use serde::Serialize;
use serde_json::{Map, Value};

/// Maximum length in bytes of a name (of an instance, a video or a topic) in a report: an id of 256 bytes with a
/// prefix fits.
const MAX_NAME_BYTES: usize = 512;
/// Maximum number of names that are kept of one list of a report: further names are left out. A summary shows a hundred
/// names.
const MAX_NAMES: usize = 10_000;
/// The bytes of memory that a name takes beside its own bytes: its pointer and length, its part of the list or tree,
/// and what the allocator adds.
const NAME_OVERHEAD_BYTES: usize = 64;

/// A report whose use of memory is known, so that the memory for all reports can be limited.
pub trait KeptReport {
    /// Returns the bytes of memory that the report takes while it is kept: many short names take several times the
    /// bytes that were sent.
    fn kept_bytes(&self) -> usize;
}

fn bytes_of_names<'a>(names: impl IntoIterator<Item = &'a String>) -> usize {
    names.into_iter().map(|name| name.len() + NAME_OVERHEAD_BYTES).sum()
}

impl KeptReport for ReceivedCommentReport {
    fn kept_bytes(&self) -> usize {
        size_of::<Self>()
            + bytes_of_names([&self.instance])
            + bytes_of_names(self.comments_by_video.keys())
            + bytes_of_names(&self.active_topics)
            + bytes_of_names(self.topic_subscribers.keys())
    }
}

impl KeptReport for ReceivedReaderReport {
    fn kept_bytes(&self) -> usize {
        // The topics stand among those of all readers, too.
        size_of::<Self>() + bytes_of_names([&self.instance_id]) + 2 * bytes_of_names(&self.subscribed_topics)
    }
}

impl KeptReport for ReceivedManagerReport {
    fn kept_bytes(&self) -> usize {
        size_of::<Self>()
            + bytes_of_names([&self.instance, &self.service])
            + bytes_of_names(&self.available_reader_apis)
            + bytes_of_names(self.video_mappings.keys())
            + bytes_of_names(self.video_mappings.values())
    }
}

impl KeptReport for ReceivedClientReport {
    fn kept_bytes(&self) -> usize {
        let optional = [&self.user_id, &self.video_id, &self.connected_reader];
        size_of::<Self>()
            + bytes_of_names([&self.client_id])
            + bytes_of_names(optional.into_iter().flatten())
            + bytes_of_names(&self.subscribed_topics)
    }
}

/// The report of a comment service, as it was parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedCommentReport {
    /// The name of the comment service that reports; empty for the seed's comment service, which sends none.
    #[serde(skip)]
    pub instance: String,
    /// Number of comments accepted since the service started.
    pub total_comments: u64,
    /// Number of comments of each video.
    pub comments_by_video: BTreeMap<String, u64>,
    /// The videos that got comments.
    pub active_topics: Vec<String>,
    /// Number of readers subscribed to each topic.
    pub topic_subscribers: BTreeMap<String, u64>,
}

/// The report of a reader, as it was parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedReaderReport {
    /// The id of the reader.
    pub instance_id: String,
    /// Number of viewers connected to the reader.
    pub active_connections: u64,
    /// Maximum number of viewers that the reader may hold; `None` for the seed's readers, which do not send it.
    pub capacity: Option<u64>,
    /// The channels to which the reader is subscribed.
    pub subscribed_topics: Vec<String>,
    /// Number of comments written to viewers since the reader started.
    pub messages_sent: u64,
}

/// The report of a manager, as it was parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedManagerReport {
    /// The name of the manager that reports; empty for the seed's manager, which sends none.
    #[serde(skip)]
    pub instance: String,
    /// The name of the service that the report gives; `ReaderApiManager` if it gives none.
    pub service: String,
    /// Number of videos assigned to readers.
    pub registered_videos: u64,
    /// The readers that accept viewers.
    pub available_reader_apis: Vec<String>,
    /// Number of registrations answered since the manager started.
    pub registration_count: u64,
    /// The reader of each video.
    pub video_mappings: BTreeMap<String, String>,
}

/// The report of a viewer's client, as it was parsed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReceivedClientReport {
    /// The id of the client.
    pub client_id: String,
    /// The user that the client watches as.
    pub user_id: Option<String>,
    /// The video that the client watches.
    pub video_id: Option<String>,
    /// Number of comments that the client posted.
    pub comments_generated: u64,
    /// Number of comments that the client received.
    pub comments_consumed: u64,
    /// The topics to which the client is subscribed.
    pub subscribed_topics: Vec<String>,
    /// The reader to which the client is connected.
    pub connected_reader: Option<String>,
}

impl ReceivedCommentReport {
    /// Parses a comment service's report; returns an error that names a member of the wrong type.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        Ok(Self {
            instance: optional_name(body, "instanceId")?.unwrap_or_default(),
            total_comments: parse_count(body, "totalComments")?,
            comments_by_video: parse_counts(body, "commentsByVideo")?,
            active_topics: parse_names(body, "activeTopics")?,
            topic_subscribers: parse_counts(body, "topicSubscribers")?,
        })
    }
}

impl ReceivedReaderReport {
    /// Parses a reader's report; returns an error that names a member of the wrong type, or if the reader's name is
    /// missing, without which readers could not be told apart.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        Ok(Self {
            instance_id: required_name(body, "instanceId")?,
            active_connections: parse_count(body, "activeConnections")?,
            capacity: present_field(body, "capacity")
                .map(|value| parse_whole_number(value, "capacity"))
                .transpose()?,
            subscribed_topics: parse_names(body, "subscribedTopics")?,
            messages_sent: parse_count(body, "messagesSent")?,
        })
    }
}

impl ReceivedManagerReport {
    /// The name of the service in the report of the seed's manager.
    pub const SERVICE: &'static str = "ReaderApiManager";

    /// Parses a manager's report; returns an error that names a member of the wrong type.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        Ok(Self {
            instance: optional_name(body, "instanceId")?.unwrap_or_default(),
            service: optional_name(body, "service")?.unwrap_or_else(|| Self::SERVICE.into()),
            registered_videos: parse_count(body, "registeredVideos")?,
            available_reader_apis: parse_names(body, "availableReaderApis")?,
            registration_count: parse_count(body, "registrationCount")?,
            video_mappings: parse_map(body, "videoMappings", parse_name)?,
        })
    }
}

impl ReceivedClientReport {
    /// Parses a client's report; returns an error that names a member of the wrong type, or if the client's name is
    /// missing, without which clients could not be told apart.
    pub fn parse(body: &Map<String, Value>) -> Result<Self, Invalid> {
        Ok(Self {
            client_id: required_name(body, "clientId")?,
            user_id: optional_name(body, "userId")?,
            video_id: optional_name(body, "videoId")?,
            comments_generated: parse_count(body, "commentsGenerated")?,
            comments_consumed: parse_count(body, "commentsConsumed")?,
            subscribed_topics: parse_names(body, "subscribedTopics")?,
            connected_reader: optional_name(body, "connectedReader")?,
        })
    }
}

fn present_field<'a>(body: &'a Map<String, Value>, field: &'static str) -> Option<&'a Value> {
    body.get(field).filter(|value| !value.is_null())
}

/// Parses a name, which may also be a number: scripts call their clients 1, 2, 3.
fn parse_name(value: &Value, field: &'static str) -> Result<String, Invalid> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        _ => return Err(Invalid::new(field, "must be a string")),
    };
    if text.len() > MAX_NAME_BYTES {
        return Err(Invalid::new(field, format!("must be at most {MAX_NAME_BYTES} bytes")));
    }
    Ok(text)
}

fn parse_whole_number(value: &Value, field: &'static str) -> Result<u64, Invalid> {
    to_whole_number(value).ok_or_else(|| Invalid::new(field, "must be a count: a whole number, 0 or more"))
}

fn optional_name(body: &Map<String, Value>, field: &'static str) -> Result<Option<String>, Invalid> {
    present_field(body, field).map(|value| parse_name(value, field)).transpose()
}

fn required_name(body: &Map<String, Value>, field: &'static str) -> Result<String, Invalid> {
    match optional_name(body, field)? {
        Some(name) if !name.is_empty() => Ok(name),
        _ => Err(Invalid::missing(field)),
    }
}

fn parse_count(body: &Map<String, Value>, field: &'static str) -> Result<u64, Invalid> {
    present_field(body, field).map_or(Ok(0), |value| parse_whole_number(value, field))
}

fn parse_names(body: &Map<String, Value>, field: &'static str) -> Result<Vec<String>, Invalid> {
    match present_field(body, field) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().take(MAX_NAMES).map(|item| parse_name(item, field)).collect()
        }
        Some(_) => Err(Invalid::new(field, "must be an array of strings")),
    }
}

fn parse_counts(body: &Map<String, Value>, field: &'static str) -> Result<BTreeMap<String, u64>, Invalid> {
    parse_map(body, field, parse_whole_number)
}

fn parse_map<T>(
    body: &Map<String, Value>,
    field: &'static str,
    read: impl Fn(&Value, &'static str) -> Result<T, Invalid>,
) -> Result<BTreeMap<String, T>, Invalid> {
    match present_field(body, field) {
        None => Ok(BTreeMap::new()),
        Some(Value::Object(members)) => {
            let read = |(name, value): (&String, &Value)| Ok((name.clone(), read(value, field)?));
            members.iter().take(MAX_NAMES).map(read).collect()
        }
        Some(_) => Err(Invalid::new(field, "must be an object")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn as_object(value: Value) -> Map<String, Value> {
        match value {
            Value::Object(object) => object,
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn what_the_seed_s_client_reports_is_read() {
        let report = ReceivedClientReport::parse(&as_object(json!({
            "clientId": "client-1", "userId": "u", "videoId": "v", "commentsGenerated": 3, "commentsConsumed": 7.0,
            "subscribedTopics": ["video:v"], "connectedReader": null, "somethingNew": {"deep": []},
        })))
        .unwrap();
        assert_eq!((report.comments_generated, report.comments_consumed), (3, 7));
        assert_eq!(report.connected_reader, None);
        assert!(serde_json::to_value(&report).unwrap().get("somethingNew").is_none());
    }

    #[test]
    fn reports_need_few_members() {
        assert_eq!(ReceivedCommentReport::parse(&Map::new()).unwrap(), ReceivedCommentReport::default());
        assert_eq!(ReceivedManagerReport::parse(&Map::new()).unwrap().service, "ReaderApiManager");
        assert_eq!(ReceivedReaderReport::parse(&Map::new()).unwrap_err().field, "instanceId");
        assert_eq!(
            ReceivedClientReport::parse(&as_object(json!({"clientId": ""}))).unwrap_err().field,
            "clientId"
        );
        assert_eq!(ReceivedClientReport::parse(&as_object(json!({"clientId": 7}))).unwrap().client_id, "7");
    }

    #[test]
    fn a_report_counts_as_what_it_takes_and_has_a_bound_of_names() {
        let names = |many| vec!["a"; many];
        let counted = |many| {
            let reader = json!({"instanceId": "r", "subscribedTopics": names(many)});
            let client = json!({"clientId": "c", "userId": "u", "subscribedTopics": names(many)});
            let comments = json!({"activeTopics": names(many), "commentsByVideo": {"v": 1}});
            let manager = json!({"availableReaderApis": names(many), "videoMappings": {"v": "r"}});
            [
                ReceivedReaderReport::parse(&as_object(reader)).unwrap().kept_bytes(),
                ReceivedClientReport::parse(&as_object(client)).unwrap().kept_bytes(),
                ReceivedCommentReport::parse(&as_object(comments)).unwrap().kept_bytes(),
                ReceivedManagerReport::parse(&as_object(manager)).unwrap().kept_bytes(),
            ]
        };
        for ((none, some), most) in counted(0).into_iter().zip(counted(100)).zip(counted(MAX_NAMES)) {
            // A `String` alone is 24 bytes, and was 4 as it was sent.
            assert!(some - none >= 100 * (size_of::<String>() + 16), "{none} and {some}");
            assert!(most >= some && most <= none + MAX_NAMES * 2 * (1 + NAME_OVERHEAD_BYTES));
        }
        assert_eq!(counted(MAX_NAMES), counted(MAX_NAMES + 1), "what is beyond is left out");
        let many: Map<String, Value> =
            (0..=MAX_NAMES).map(|number| (format!("v{number}"), json!(1))).collect();
        let report = ReceivedCommentReport::parse(&as_object(json!({"commentsByVideo": many}))).unwrap();
        assert_eq!(report.comments_by_video.len(), MAX_NAMES);
    }

    #[test]
    fn a_member_of_a_wrong_type_is_named() {
        let cases = [
            ("totalComments", json!("3")),
            ("totalComments", json!(-1)),
            ("totalComments", json!(1.5)),
            ("totalComments", json!(1e300)),
            ("commentsByVideo", json!([])),
            ("commentsByVideo", json!({"v": "many"})),
            ("activeTopics", json!({})),
            ("activeTopics", json!([[]])),
            ("topicSubscribers", json!(3)),
            ("instanceId", json!(true)),
            ("instanceId", json!("x".repeat(513))),
        ];
        for (field, value) in cases {
            let refused = ReceivedCommentReport::parse(&as_object(json!({ field: value }))).unwrap_err();
            assert_eq!(refused.field, field, "{value}");
        }
        let refused =
            ReceivedManagerReport::parse(&as_object(json!({"videoMappings": {"v": []}}))).unwrap_err();
        assert_eq!(refused.field, "videoMappings");
    }
}
