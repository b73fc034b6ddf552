//! The optional fields of a list's line, beside the video, its score and its owner: `?fields=viewers,metadata`.

use liverank_core::ranking::RankedVideo;
use liverank_core::{Invalid, Metadata, VideoId};
use liverank_protocol::{ViewersOfVideos, ViewersRequest};
use serde::Serialize;

use super::{METADATA_TIMEOUT, VIEWERS_TIMEOUT};
use crate::Gateway;

/// The fields that a client asks for beside the ranking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fields {
    /// Whether each line has the video's number of viewers.
    pub(super) viewers: bool,
    /// Whether each line has the video's metadata.
    pub(super) metadata: bool,
}

impl Fields {
    /// Parses field names that are separated by commas. Returns no fields if the text is absent or empty, and an error
    /// for an unknown name.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Invalid> {
        let mut names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        names.try_fold(Self::default(), |fields, name| match name {
            "viewers" => Ok(Self { viewers: true, ..fields }),
            "metadata" => Ok(Self { metadata: true, ..fields }),
            _ => {
                Err(Invalid::new("fields", "must be names of these, separated by commas: viewers, metadata"))
            }
        })
    }
}

/// One line of a list.
#[derive(Debug, Serialize)]
pub(super) struct Line {
    #[serde(flatten)]
    ranked: RankedVideo,
    /// Number of viewers of the video; absent if the client did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    viewers: Option<ViewersNow>,
    /// Metadata of the video; absent if the client did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<MetadataNow>,
}

/// The metadata of a video; null if it has none, and while the archive is away.
#[derive(Debug, Serialize)]
struct MetadataNow(Option<Metadata>);

/// The number of viewers of a video; null while no manager answers.
#[derive(Debug, Serialize)]
struct ViewersNow(Option<u64>);

/// Adds the fields that the client asks for to each line.
pub(super) async fn fill_fields(gateway: &Gateway, videos: Vec<RankedVideo>, fields: Fields) -> Vec<Line> {
    let viewers =
        if fields.viewers && !videos.is_empty() { fetch_viewers(gateway, &videos).await } else { None };
    let viewers_of =
        |at: usize| fields.viewers.then(|| ViewersNow(viewers.as_ref().and_then(|all| all.get(at).copied())));
    let mut metadata =
        if fields.metadata && !videos.is_empty() { fetch_metadata(gateway, &videos).await } else { vec![] };
    metadata.resize(videos.len(), None);
    let lines = videos.into_iter().zip(metadata).enumerate();
    lines
        .map(|(at, (ranked, metadata))| {
            let metadata = fields.metadata.then_some(MetadataNow(metadata));
            Line { ranked, viewers: viewers_of(at), metadata }
        })
        .collect()
}

/// Returns the metadata of each video; an empty list if the archive does not answer in time, because the list is
/// useful without metadata.
async fn fetch_metadata(gateway: &Gateway, videos: &[RankedVideo]) -> Vec<Option<Metadata>> {
    let videos: Vec<VideoId> = videos.iter().map(|line| line.video_id.clone()).collect();
    let asked =
        tokio::time::timeout(METADATA_TIMEOUT, gateway.backends.archive.videos_metadata(&videos)).await;
    match asked {
        Ok(answer) => gateway.archive.noted(answer).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Returns the number of viewers of each video, by one request; `None` if no manager answers in time.
async fn fetch_viewers(gateway: &Gateway, videos: &[RankedVideo]) -> Option<Vec<u64>> {
    let replicas = gateway.manager.replicas.as_ref()?;
    let videos: Vec<VideoId> = videos.iter().map(|line| line.video_id.clone()).collect();
    let request = ViewersRequest { videos };
    let asked = replicas.post::<ViewersOfVideos>(&["viewers"], &request);
    let answer = tokio::time::timeout(VIEWERS_TIMEOUT, asked).await.ok()?.ok()?;
    gateway.manager.dependency.answered();
    Some(answer.viewers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused() {
        for (text, viewers, metadata) in [
            (None, false, false),
            (Some(""), false, false),
            (Some("viewers, viewers"), true, false),
            (Some("metadata"), false, true),
            (Some("metadata,viewers"), true, true),
        ] {
            assert_eq!(Fields::parse(text), Ok(Fields { viewers, metadata }));
        }
        for wrong in ["viewer", "viewers;", "viewers,score"] {
            assert_eq!(Fields::parse(Some(wrong)).unwrap_err().field, "fields", "{wrong}");
        }
    }
}
