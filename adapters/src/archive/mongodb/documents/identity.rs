//! The document of an event's identity.

use liverank_core::Millis;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson};
use serde::{Deserialize, Serialize};

/// The document of an identity: its digest, and the time at which the log first had it.
#[derive(Debug, Serialize, Deserialize)]
pub struct SeenDoc {
    #[serde(rename = "_id")]
    id: Binary,
    pub time: Millis,
}

impl SeenDoc {
    pub fn of(digest: &[u8; 16], time: Millis) -> Self {
        Self { id: digest_binary(digest), time }
    }

    /// Returns the digest; `None` for a document that liverank did not write.
    pub fn digest(&self) -> Option<[u8; 16]> {
        self.id.bytes.as_slice().try_into().ok()
    }
}

pub fn digest_binary(digest: &[u8; 16]) -> Binary {
    Binary { subtype: BinarySubtype::Generic, bytes: digest.to_vec() }
}

/// Returns a digest in the form in which it is stored.
pub fn digest_bson(digest: &[u8; 16]) -> Bson {
    Bson::Binary(digest_binary(digest))
}
