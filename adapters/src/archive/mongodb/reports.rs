//! Reports of comments: one document a comment, with its sort key in each queue that contains it.

use std::collections::HashSet;

use liverank_core::moderation::ReportedComment;
use liverank_core::{CommentId, VideoId};
use mongodb::IndexModel;
use mongodb::bson::{Bson, Document, doc};
use serde::Deserialize;

use super::super::{ReportPosition, ReportQueue};
use super::documents::moderated::{comment_key, parse_json, to_json};
use super::transaction::{AttemptEnd, Transaction, to_raw_documents};
use super::{MongoArchive, QUERY_TIMEOUT};
use crate::StoreError;

/// The reports of a comment. The document also has the video, and a member with the sort key for each queue that
/// contains the comment.
#[derive(Debug, Deserialize)]
struct ReportsDoc {
    /// The reported comment with its reports, as JSON.
    reported: String,
}

impl ReportsDoc {
    fn reports_update(comment: &ReportedComment) -> Document {
        let mut set = doc! { "video": comment.video.as_str(), "reported": to_json(comment) };
        let mut unset = Document::new();
        for queue in ReportQueue::ALL {
            match queue.sort_key(comment) {
                Some(place) => set.insert(queue.name(), place),
                None => unset.insert(queue.name(), ""),
            };
        }
        let key = comment_key(&comment.video, &comment.id);
        doc! { "q": { "_id": key }, "u": { "$set": set, "$unset": unset }, "upsert": true }
    }

    fn into_comment(self) -> Result<ReportedComment, StoreError> {
        parse_json(&self.reported)
    }
}

/// Returns the indexes of the collection of reports: one for each queue, and one for the open reports of a video.
pub(super) fn report_indexes() -> Vec<IndexModel> {
    let sparse = |keys: Document| {
        let options = mongodb::options::IndexOptions::builder().sparse(true).build();
        IndexModel::builder().keys(keys).options(options).build()
    };
    let queues = ReportQueue::ALL.map(|queue| sparse(doc! { queue.name(): -1 }));
    let open = ReportQueue::OpenNewest.name();
    let options = mongodb::options::IndexOptions::builder()
        .partial_filter_expression(doc! { open: { "$exists": true } })
        .build();
    let of_video = IndexModel::builder().keys(doc! { "video": 1 }).options(options).build();
    queues.into_iter().chain([of_video]).collect()
}

impl Transaction<'_> {
    /// Reads those of these comments that were reported.
    pub(super) async fn read_reports(
        &mut self,
        comments: &HashSet<(&VideoId, &CommentId)>,
    ) -> Result<Vec<ReportedComment>, AttemptEnd> {
        if comments.is_empty() {
            return Ok(Vec::new());
        }
        let keys: Vec<Bson> = comments.iter().map(|(video, id)| comment_key(video, id).into()).collect();
        let found: Vec<ReportsDoc> = self.find_each("reports", "_id", keys).await?;
        let comments = found.into_iter().map(ReportsDoc::into_comment);
        Ok(comments.collect::<Result<_, StoreError>>()?)
    }

    /// Writes the reported comments that have changed.
    pub(super) async fn write_reports(&mut self, changed: &[ReportedComment]) -> Result<(), AttemptEnd> {
        self.update("reports", to_raw_documents(changed.iter().map(ReportsDoc::reports_update))?).await
    }
}

pub(super) async fn read_report_queue(
    archive: &MongoArchive,
    queue: ReportQueue,
    after: Option<ReportPosition>,
    limit: usize,
) -> Result<Vec<ReportedComment>, StoreError> {
    let name = queue.name();
    // Documents that are not in the queue have no such member, so no upper bound finds them.
    let until = after.map_or_else(|| "~".to_owned(), |place| queue.sort_key_of(place));
    let part = doc! { name: { "$lt": until } };
    let found: Vec<ReportsDoc> = archive.find_documents("reports", part, doc! { name: -1 }, limit).await?;
    found.into_iter().map(ReportsDoc::into_comment).collect()
}

pub(super) async fn read_reports_of_comment(
    archive: &MongoArchive,
    video: &VideoId,
    id: &CommentId,
) -> Result<Option<ReportedComment>, StoreError> {
    let key = doc! { "_id": comment_key(video, id) };
    let found: Vec<ReportsDoc> = archive.find_documents("reports", key, doc! {}, 1).await?;
    found.into_iter().next().map(ReportsDoc::into_comment).transpose()
}

pub(super) async fn count_open_reports(
    archive: &MongoArchive,
    video: Option<&VideoId>,
    most: u64,
) -> Result<u64, StoreError> {
    let open = ReportQueue::OpenNewest.name();
    let part = video.map_or_else(
        || doc! { open: { "$lt": "~" } },
        |video| doc! { "video": video.as_str(), open: { "$exists": true } },
    );
    archive
        .with_timeout(QUERY_TIMEOUT, "counting reported comments", async {
            archive.collection::<Document>("reports").count_documents(part).limit(most).await
        })
        .await
}

#[cfg(test)]
mod fixtures {
    use mongodb::bson::from_bson;
    use serde_json::Value;

    use super::*;
    use crate::fixtures::{check_json_fixture, fixture_reported};

    #[test]
    fn report_documents_have_fixtures() {
        let write = |comment: &ReportedComment| {
            let update = ReportsDoc::reports_update(comment);
            let part =
                |of: &Document, name: &str| of.get_document(name).expect("a part of an update").clone();
            let mut document = part(&update, "q");
            document.extend(part(&part(&update, "u"), "$set"));
            Bson::Document(document).into_canonical_extjson()
        };
        let read = |value: &Value| {
            let bson = Bson::try_from(value.clone()).map_err(|error| error.to_string())?;
            let document: ReportsDoc = from_bson(bson).map_err(|error| error.to_string())?;
            document.into_comment().map_err(|error| error.to_string())
        };
        check_json_fixture("mongodb-reports", &fixture_reported(), write, read);
    }
}
