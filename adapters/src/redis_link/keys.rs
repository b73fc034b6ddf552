//! The names of keys and channels.
//!
//! On a Redis Cluster a script may only touch keys of one slot, which is computed from the part of a key in braces
//! (its hash tag): keys that change together share a tag, and the keys of each video have a tag of their own.

use liverank_core::VideoId;
use liverank_core::comment::to_hex;

/// The names of keys and channels, for one prefix.
#[derive(Debug, Clone)]
pub(crate) struct Keys {
    prefix: String,
    is_cluster: bool,
}

impl Keys {
    /// Returns the names that begin with `prefix`; with hash tags for a cluster.
    pub(crate) fn new(prefix: String, is_cluster: bool) -> Self {
        Self { prefix, is_cluster }
    }

    /// Returns the key or channel `name` of the `group` of keys that change together.
    pub(crate) fn shared_key(&self, group: &str, name: &str) -> String {
        if self.is_cluster {
            format!("{}{{{group}}}:{name}", self.prefix)
        } else {
            format!("{}{name}", self.prefix)
        }
    }

    /// Returns the channel of a video's comments: `video:` and the video's id, which is the hash tag on a cluster.
    pub(crate) fn video_channel(&self, video: &VideoId) -> String {
        format!("{}video:{}", self.prefix, self.tagged_video(video))
    }

    /// Returns the stream of a video's last comments, which is in the same slot as the video's channel on a cluster.
    pub(crate) fn comment_stream(&self, video: &VideoId) -> String {
        format!("{}comments:{}", self.prefix, self.tagged_video(video))
    }

    fn tagged_video(&self, video: &VideoId) -> String {
        let id = video.as_str();
        if !self.is_cluster {
            id.to_owned()
        } else if id.contains('}') {
            // A tag ends at its first closing brace, so a brace in the id would give its keys different tags.
            format!("{{{}}}:{id}", to_hex(id.as_bytes()))
        } else {
            format!("{{{id}}}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(id: &str) -> VideoId {
        VideoId::parse(id).unwrap()
    }

    /// Returns the part of a key that Redis Cluster hashes.
    fn hash_tag(key: &str) -> &str {
        let Some(open) = key.find('{') else { return key };
        match key[open + 1..].find('}') {
            Some(0) | None => key,
            Some(length) => &key[open + 1..open + 1 + length],
        }
    }

    #[test]
    fn keys_of_a_single_redis_are_those_of_the_design() {
        let keys = Keys::new("p:".to_owned(), false);
        assert_eq!(keys.shared_key("boards", "global_ranking"), "p:global_ranking");
        assert_eq!(keys.video_channel(&video("a b}{")), "p:video:a b}{");
        assert_eq!(keys.comment_stream(&video("v")), "p:comments:v");
    }

    #[test]
    fn keys_that_change_together_share_a_hash_tag_on_a_cluster() {
        let keys = Keys::new(String::new(), true);
        assert_eq!(
            hash_tag(&keys.shared_key("boards", "trending")),
            hash_tag(&keys.shared_key("boards", "ranking:changes"))
        );
        for id in ["v", "7d", "a}b", "}", "{}", "{", "}{", "{x}y"] {
            let (channel, stream) = (keys.video_channel(&video(id)), keys.comment_stream(&video(id)));
            assert_eq!(hash_tag(&channel), hash_tag(&stream), "{id}");
            assert!(!hash_tag(&channel).starts_with("video"), "{id}");
        }
        assert_eq!(keys.video_channel(&video("v")), "video:{v}");
        assert_ne!(keys.video_channel(&video("a}b")), keys.video_channel(&video("a}c")));
    }
}
