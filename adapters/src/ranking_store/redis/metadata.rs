//! Metadata beside the boards: a hash with a text for each video, `generation revision JSON`, and one field that
//! exists if the metadata of all videos are there.

use std::sync::LazyLock;

use liverank_core::{Metadata, VideoId};
use redis::{Script, cmd};

use super::super::DescribedVideo;
use super::{RedisRanking, damaged_message};
use crate::StoreError;

static PUT_METADATA_SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("describe.lua")));

/// The key of the hash of metadata.
pub(super) const METADATA_KEY: &str = "ranking:metadata";
/// The field that exists if the metadata of all videos were written. No video has this id, because it is empty.
const COMPLETE_FIELD: &str = "";
/// The number of videos in one step: with metadata of 4 KB each a megabyte, which Redis copies within a few
/// milliseconds.
const VIDEOS_PER_STEP: usize = 250;

impl RedisRanking {
    pub(super) async fn put_metadata(
        &self,
        generation: u64,
        videos: &[DescribedVideo],
    ) -> Result<(), StoreError> {
        for videos in videos.chunks(VIDEOS_PER_STEP) {
            let mut call = PUT_METADATA_SCRIPT.key(self.key("ranking:projection"));
            call.key(self.key(METADATA_KEY)).arg(self.channel()).arg(generation);
            for DescribedVideo { video_id, revision, metadata } in videos {
                let metadata = metadata.as_ref().map_or("", Metadata::as_str);
                call.arg(video_id.as_str()).arg(*revision).arg(metadata);
            }
            self.link.run_script::<u64>(&call).await?;
        }
        Ok(())
    }

    pub(super) async fn read_metadata(
        &self,
        videos: &[VideoId],
    ) -> Result<Vec<Option<Metadata>>, StoreError> {
        let mut all = Vec::with_capacity(videos.len());
        for videos in videos.chunks(VIDEOS_PER_STEP) {
            let mut asked = cmd("HMGET");
            asked.arg(self.key(METADATA_KEY));
            for video in videos {
                asked.arg(video.as_str());
            }
            let texts: Vec<Option<String>> = self.link.query(&asked).await?;
            for text in texts {
                all.push(text.as_deref().map(parse_stored_metadata).transpose()?);
            }
        }
        Ok(all)
    }

    pub(super) async fn note_all_metadata_written(&self) -> Result<(), StoreError> {
        self.link.query::<u64>(cmd("HSET").arg(self.key(METADATA_KEY)).arg(COMPLETE_FIELD).arg("1")).await?;
        Ok(())
    }

    pub(super) async fn are_all_described(&self) -> Result<bool, StoreError> {
        self.link.query(cmd("HEXISTS").arg(self.key(METADATA_KEY)).arg(COMPLETE_FIELD)).await
    }
}

fn parse_stored_metadata(text: &str) -> Result<Metadata, StoreError> {
    let json = text.splitn(3, ' ').nth(2).ok_or_else(|| damaged_message("metadata without a revision"))?;
    Metadata::parse(json).map_err(|error| damaged_message(format!("wrong metadata ({error})")))
}
