//! Checks that the server has the features that are needed, and creates what is absent. Any number of processes may do
//! so at once: no step changes what exists.

use std::time::Duration;

use liverank_core::comment::CommentEpoch;
use liverank_core::counting::CountingRules;
use mongodb::IndexModel;
use mongodb::bson::{self, Document, doc};
use mongodb::error::Error;
use mongodb::options::IndexOptions;

use super::super::{Archive, ArchiveMeta};
use super::documents::comment::CommentDoc;
use super::documents::meta::MetaDoc;
use super::documents::video::VideoDoc;
use super::errors::{self, DUPLICATE_KEY, LoginChange, NAMESPACE_EXISTS, PART_NAME, error_code};
use super::identities::SEGMENTS;
use super::{MongoArchive, OPEN_TIMEOUT, moderation, reports};
use crate::StoreError;

/// The pause between two attempts to read the meta document, which another process wrote and which cannot be read until
/// a majority of the members has it.
const SETTLE_PAUSE: Duration = Duration::from_millis(20);
/// The lowest accepted version of the wire protocol: that of MongoDB 6.0.
const MIN_WIRE_VERSION: i32 = 17;

pub(super) async fn open(archive: &MongoArchive, wanted: &CountingRules) -> Result<ArchiveMeta, StoreError> {
    check_server(&connect(archive).await?)?;
    archive
        .with_timeout(OPEN_TIMEOUT, "creating collections and indexes", create_collections(archive))
        .await?;
    let fresh = MetaDoc::for_new_archive(&CommentEpoch::from_bits(rand::random()), wanted);
    archive
        .with_timeout(OPEN_TIMEOUT, "creating the meta document", write_meta_if_absent(archive, &fresh))
        .await?;
    archive.archive_meta().await?.ok_or_else(|| {
        StoreError::unavailable(PART_NAME, "the meta document was removed while it was created")
    })
}

/// Connects, and returns the server's answer to `hello`. A login that is refused now never was good, so nobody waits for
/// another one: the process ends with the reason, and starts again with what its file has then.
async fn connect(archive: &MongoArchive) -> Result<Document, StoreError> {
    let client = archive.client();
    let hello = async { client.database("admin").run_command(doc! { "hello": 1 }).await };
    errors::with_timeout(OPEN_TIMEOUT, "connecting", LoginChange::Never, hello).await
}

/// Checks the server's answer to `hello`: returns an error if the server cannot hold the archive.
fn check_server(hello: &Document) -> Result<(), StoreError> {
    let sharded = hello.get_str("msg").is_ok_and(|message| message == "isdbgrid");
    if !sharded && !hello.contains_key("setName") {
        let what = "this is a standalone server, and the archive needs transactions, which take a replica set (of one \
                    member, if need be): start mongod with --replSet and run rs.initiate() once";
        return Err(StoreError::unusable(PART_NAME, what));
    }
    if hello.get_i32("maxWireVersion").is_ok_and(|version| version < MIN_WIRE_VERSION) {
        return Err(StoreError::unusable(PART_NAME, "this server is older than MongoDB 6.0"));
    }
    Ok(())
}

/// The names of an archive's collections that always exist.
const COLLECTIONS: [&str; 11] = [
    "videos",
    "comments",
    "rules",
    "moderation",
    "held",
    "reports",
    "offsets",
    "seen",
    "segments",
    "marks",
    "meta",
];

pub(super) async fn create_collections(archive: &MongoArchive) -> Result<(), Error> {
    // Collections are created beforehand, so that no transaction has to: two that create the same collection would
    // conflict.
    for name in COLLECTIONS {
        match archive.db().create_collection(archive.collection_name(name)).await {
            Err(error) if error_code(&error) == Some(NAMESPACE_EXISTS) => {}
            other => other?,
        }
    }
    let index = |keys: Document| IndexModel::builder().keys(keys).build();
    let unique = |keys: Document| {
        IndexModel::builder().keys(keys).options(IndexOptions::builder().unique(true).build()).build()
    };
    archive.collection::<VideoDoc>("videos").create_index(unique(doc! { "video_id": 1 })).await?;
    archive
        .collection::<CommentDoc>("comments")
        .create_indexes([
            unique(doc! { "video_id": 1, "seq": 1 }),
            index(doc! { "comment_id": 1 }),
            index(doc! { "partition": 1, "offset": 1 }),
            moderation::pins_index(),
        ])
        .await?;
    // Revisions are consecutive: two commits that use the same one conflict in this index, and one of them runs again.
    archive.collection::<Document>("rules").create_index(unique(doc! { "revision": 1 })).await?;
    archive.collection::<Document>("rules").create_index(moderation::rules_in_force_index()).await?;
    archive
        .collection::<Document>("held")
        .create_indexes([moderation::held_index(), moderation::log_order_index()])
        .await?;
    archive.collection::<Document>("moderation").create_index(moderation::log_order_index()).await?;
    archive.collection::<Document>("reports").create_indexes(reports::report_indexes()).await?;
    archive.collection::<Document>("seen").create_index(index(doc! { "time": 1 })).await?;
    archive.collection::<Document>(SEGMENTS).create_index(index(doc! { "newest": 1 })).await?;
    Ok(())
}

/// Writes the meta document if there is none: the first process that opens the archive decides on its contents.
pub(super) async fn write_meta_if_absent(archive: &MongoArchive, fresh: &MetaDoc) -> Result<(), Error> {
    let meta = archive.collection::<Document>("meta");
    let key = doc! { "_id": MetaDoc::ID };
    if meta.find_one(key.clone()).await?.is_some() {
        return Ok(());
    }
    let mut first = bson::to_document(fresh)?;
    first.remove("_id");
    match meta.update_one(key.clone(), doc! { "$setOnInsert": first }).upsert(true).await {
        // Another process was faster.
        Err(error) if error_code(&error) == Some(DUPLICATE_KEY) => {}
        other => {
            other?;
        }
    }
    // A document that another process wrote can be read once it is on a majority of the members.
    while meta.find_one(key.clone()).await?.is_none() {
        tokio::time::sleep(SETTLE_PAUSE).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_collection_is_in_the_document_of_formats() {
        let document = include_str!("../../../../docs/formats.md");
        for name in COLLECTIONS.into_iter().chain(["windows"]) {
            assert!(document.contains(&format!("| MongoDB `{name}` |")), "{name}");
        }
    }

    #[test]
    fn a_standalone_server_is_refused_in_clear_words() {
        let standalone = doc! { "isWritablePrimary": true, "maxWireVersion": 17 };
        let error = check_server(&standalone).unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("replica set"), "{error}");
        let old = doc! { "setName": "rs0", "maxWireVersion": 13 };
        assert!(check_server(&old).unwrap_err().to_string().contains("6.0"));
        check_server(&doc! { "setName": "rs0", "maxWireVersion": 17 }).unwrap();
        check_server(&doc! { "msg": "isdbgrid", "maxWireVersion": 21 }).unwrap();
    }
}
