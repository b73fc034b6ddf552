//! Functions that the documents of moderation share: values as JSON, and the key of a comment.

use liverank_core::{CommentId, Invalid, VideoId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::damaged_document;
use crate::StoreError;

pub fn parse_json<T: DeserializeOwned>(text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| damaged_document("rules", &Invalid::new("rule", error.to_string())))
}

pub fn to_json(value: &impl Serialize) -> String {
    serde_json::to_string(value).expect("text and numbers always serialise")
}

/// Returns the `_id` under which data of a comment are kept: video and comment, separated by a line break, which no id
/// contains.
pub fn comment_key(video: &VideoId, id: &CommentId) -> String {
    format!("{video}\n{id}")
}
