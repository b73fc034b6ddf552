//! The optional fields of a list's line, beside the video, its score and its owner:
//! `?fields=viewers,peak_viewers,watch_time,metadata`.

use liverank_core::ranking::RankedVideo;
use liverank_core::{Invalid, Metadata, VideoId};
use liverank_protocol::{ViewersOfVideos, ViewersRequest};
use serde::Serialize;

use super::{METADATA_TIMEOUT, VIEWERS_TIMEOUT};
use crate::Gateway;

/// The fields that a client asks for beside the ranking.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a field of its own")]
pub(super) struct RequestedFields {
    /// True if each line of the list is to have the video's number of viewers.
    pub(super) wants_viewers: bool,
    /// True if each line of the list is to have the greatest number of viewers that the video ever had at once.
    pub(super) wants_peak_viewers: bool,
    /// True if each line of the list is to have the time for which the video was watched.
    pub(super) wants_watch_time: bool,
    /// True if each line of the list is to have the video's metadata.
    pub(super) wants_metadata: bool,
}

impl RequestedFields {
    /// Parses field names that are separated by commas. Returns no fields if the text is absent or empty, and an error
    /// for an unknown name.
    pub(super) fn parse(text: Option<&str>) -> Result<Self, Invalid> {
        let mut names = text.unwrap_or_default().split(',').map(str::trim).filter(|name| !name.is_empty());
        names.try_fold(Self::default(), |fields, name| match name {
            "viewers" => Ok(Self { wants_viewers: true, ..fields }),
            "peak_viewers" => Ok(Self { wants_peak_viewers: true, ..fields }),
            "watch_time" => Ok(Self { wants_watch_time: true, ..fields }),
            "metadata" => Ok(Self { wants_metadata: true, ..fields }),
            _ => {
                let names = "must be names of these, separated by commas: viewers, peak_viewers, watch_time, metadata";
                Err(Invalid::new("fields", names))
            }
        })
    }
}

/// One line of a list.
#[derive(Debug, Serialize)]
pub(super) struct ListLine {
    #[serde(flatten)]
    ranked: RankedVideo,
    /// Number of viewers of the video; absent if the client did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    viewers: Option<FieldValue<u64>>,
    /// The greatest number of viewers that the video ever had at once; absent if the client did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    peak_viewers: Option<FieldValue<u64>>,
    /// How long the video was watched in all, in seconds; absent if the client did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    watch_time_total: Option<FieldValue<f64>>,
    /// Metadata of the video; absent if the client did not ask for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<FieldValue<Metadata>>,
}

/// The value of a field that the client asked for: null if there is none, or while the service that knows it does not
/// answer.
#[derive(Debug, Serialize)]
struct FieldValue<T>(Option<T>);

/// Adds the fields that the client asks for to each line.
pub(super) async fn fill_fields(
    gateway: &Gateway,
    videos: Vec<RankedVideo>,
    fields: RequestedFields,
) -> Vec<ListLine> {
    let ids: Vec<VideoId> = videos.iter().map(|line| line.video_id.clone()).collect();
    let (viewers, watched, metadata) = tokio::join!(
        async {
            let asks = (fields.wants_viewers || fields.wants_peak_viewers) && !ids.is_empty();
            if asks { fetch_viewers(gateway, &ids, fields.wants_peak_viewers).await } else { None }
        },
        async {
            if fields.wants_watch_time && !ids.is_empty() {
                fetch_watch_ms(gateway, &ids).await
            } else {
                vec![]
            }
        },
        async {
            if fields.wants_metadata && !ids.is_empty() {
                fetch_metadata(gateway, &ids).await
            } else {
                vec![]
            }
        },
    );
    let (now, peaks) = viewers.map_or((Vec::new(), None), |answer| (answer.viewers, answer.peaks));
    let peaks = peaks.unwrap_or_default();
    let mut metadata = metadata.into_iter();
    let lines = videos.into_iter().enumerate();
    lines
        .map(|(at, ranked)| {
            let metadata = metadata.next().flatten();
            let watched = watched.get(at).copied().flatten();
            ListLine {
                ranked,
                viewers: fields.wants_viewers.then(|| FieldValue(now.get(at).copied())),
                peak_viewers: fields.wants_peak_viewers.then(|| FieldValue(peaks.get(at).copied())),
                watch_time_total: fields
                    .wants_watch_time
                    .then(|| FieldValue(watched.map(|ms| ms as f64 / 1000.0))),
                metadata: fields.wants_metadata.then_some(FieldValue(metadata)),
            }
        })
        .collect()
}

/// Returns how long each video was watched, in milliseconds; an empty list if the archive does not answer in time.
async fn fetch_watch_ms(gateway: &Gateway, videos: &[VideoId]) -> Vec<Option<i64>> {
    let asked =
        tokio::time::timeout(METADATA_TIMEOUT, gateway.backends.archive.videos_watch_ms(videos)).await;
    match asked {
        Ok(answer) => gateway.archive_dependency.note_result(answer).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Returns the metadata of each video; an empty list if the archive does not answer in time, because the list is
/// useful without metadata.
async fn fetch_metadata(gateway: &Gateway, videos: &[VideoId]) -> Vec<Option<Metadata>> {
    let asked =
        tokio::time::timeout(METADATA_TIMEOUT, gateway.backends.archive.videos_metadata(videos)).await;
    match asked {
        Ok(answer) => gateway.archive_dependency.note_result(answer).unwrap_or_default(),
        Err(_) => Vec::new(),
    }
}

/// Returns the number of viewers of each video, and the most that it had (`peaks`), by one request; `None` if no manager
/// answers in time.
async fn fetch_viewers(gateway: &Gateway, videos: &[VideoId], peaks: bool) -> Option<ViewersOfVideos> {
    let replicas = gateway.manager.replicas.as_ref()?;
    let request = ViewersRequest { videos: videos.to_vec(), peaks };
    let asked = replicas.post::<ViewersOfVideos>(&["viewers"], &request);
    let answer = tokio::time::timeout(VIEWERS_TIMEOUT, asked).await.ok()?.ok()?;
    gateway.manager.dependency.note_answered();
    Some(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_are_refused() {
        for (text, wants_viewers, wants_metadata) in [
            (None, false, false),
            (Some(""), false, false),
            (Some("viewers, viewers"), true, false),
            (Some("metadata"), false, true),
            (Some("metadata,viewers"), true, true),
        ] {
            assert_eq!(
                RequestedFields::parse(text),
                Ok(RequestedFields { wants_viewers, wants_metadata, ..RequestedFields::default() })
            );
        }
        let both = RequestedFields {
            wants_peak_viewers: true,
            wants_watch_time: true,
            ..RequestedFields::default()
        };
        assert_eq!(RequestedFields::parse(Some("peak_viewers,watch_time")), Ok(both));
        for wrong in ["viewer", "viewers;", "viewers,score"] {
            assert_eq!(RequestedFields::parse(Some(wrong)).unwrap_err().field, "fields", "{wrong}");
        }
    }
}
