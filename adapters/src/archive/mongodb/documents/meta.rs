//! The meta document.

use liverank_core::Millis;
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::{CountingRules, UniqueKinds};
use liverank_core::decays::CountedDecays;
use liverank_core::windows::CountedWindows;
use serde::{Deserialize, Serialize};

use super::super::super::ArchiveMeta;
use super::super::PART_NAME;
use super::damaged_document;
use super::decay::CountedDecayDoc;
use super::format::{FORMAT, FORMAT_WITHOUT_MARKS, format_for_rules};
use super::rebuild::RebuildDoc;
use super::weights::WeightsDoc;
use super::windows::CountedWindowsDoc;
use crate::StoreError;

/// A request that consumers wait before they commit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct YieldRequestDoc {
    /// The token that tells this request from others.
    pub token: String,
    /// The longest time in milliseconds for which consumers wait, from when a consumer first sees the request.
    pub ms: i64,
}

/// The meta document: the settings that are fixed for the archive's life, or until a rebuild.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct MetaDoc {
    #[serde(rename = "_id")]
    id: String,
    format: i64,
    /// The comment epoch to which the sequence numbers of the archive's comments belong.
    numbering: String,
    pub generation: i64,
    weights: WeightsDoc,
    half_life_ms: i64,
    /// The types that count once per user. This field is absent in documents of earlier releases.
    #[serde(default)]
    unique: UniqueKinds,
    /// The windows that are counted. This field is absent if no windows are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<CountedWindowsDoc>,
    /// The decays that are counted. This field is absent if no decays are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decays: Vec<CountedDecayDoc>,
    /// The generation whose videos have scores by the decays in `decays`. A release that knows no decays begins
    /// generations without them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    decays_of: Option<i64>,
    /// The rebuild under way, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuild: Option<RebuildDoc>,
    /// The request that consumers wait before they commit, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub make_way: Option<YieldRequestDoc>,
    /// The identities that the log had before this time (in milliseconds since 1970) are forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identities_from: Option<Millis>,
}

impl MetaDoc {
    pub const ID: &str = "archive";

    pub fn of(meta: &ArchiveMeta) -> Self {
        Self {
            id: Self::ID.to_owned(),
            format: format_for_rules(&meta.counting_rules),
            numbering: meta.comment_epoch.as_str().to_owned(),
            generation: meta.generation as i64,
            weights: WeightsDoc::of(&meta.counting_rules.weights),
            half_life_ms: meta.counting_rules.half_life_ms as i64,
            unique: meta.counting_rules.unique,
            windows: CountedWindowsDoc::from_windows(&meta.windows),
            decays: CountedDecayDoc::from_decays(&meta.decays),
            decays_of: (!meta.decays.is_empty()).then_some(meta.generation as i64),
            rebuild: None,
            make_way: None,
            identities_from: None,
        }
    }

    pub fn for_new_archive(numbering: &CommentEpoch, rules: &CountingRules) -> Self {
        let (windows, decays) = (CountedWindows::default(), CountedDecays::default());
        Self::of(&ArchiveMeta {
            comment_epoch: numbering.clone(),
            generation: 1,
            counting_rules: *rules,
            windows,
            decays,
        })
    }

    /// Returns true if a release that knows no decays has begun this generation, so that scores may be absent in its
    /// videos.
    pub fn has_lost_decays(&self) -> bool {
        !self.decays.is_empty() && self.decays_of != Some(self.generation)
    }

    pub fn is_swapping(&self) -> bool {
        self.rebuild.as_ref().is_some_and(|rebuild| rebuild.phase == RebuildDoc::SWAPPING)
    }

    pub fn into_meta(self) -> Result<ArchiveMeta, StoreError> {
        if !(FORMAT_WITHOUT_MARKS..=FORMAT).contains(&self.format) {
            let what = format!(
                "the archive has format {}, and this release reads up to {FORMAT}: run a release that reads it, or \
                 give liverank another database",
                self.format
            );
            return Err(StoreError::unusable(PART_NAME, what));
        }
        Ok(ArchiveMeta {
            comment_epoch: CommentEpoch::parse(&self.numbering)
                .map_err(|error| damaged_document("meta", &error))?,
            generation: self.generation as u64,
            counting_rules: CountingRules {
                weights: self.weights.weights(),
                half_life_ms: self.half_life_ms as u64,
                unique: self.unique,
            },
            windows: CountedWindowsDoc::decode_all(&self.windows)?,
            decays: CountedDecayDoc::decode_all(&self.decays)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_meta_document_of_another_format_is_refused() {
        let rules = CountingRules::default();
        let numbering = CommentEpoch::from_bits(7);
        let meta = MetaDoc::for_new_archive(&numbering, &rules).into_meta().unwrap();
        assert_eq!((meta.comment_epoch, meta.generation, meta.counting_rules), (numbering.clone(), 1, rules));
        let newer = MetaDoc { format: FORMAT + 1, ..MetaDoc::for_new_archive(&numbering, &rules) };
        let error = newer.into_meta().unwrap_err();
        assert!(!error.is_transient() && error.to_string().contains("format 3"), "{error}");
    }

    #[test]
    fn only_an_archive_with_marks_has_the_format_that_former_releases_refuse() {
        let numbering = CommentEpoch::from_bits(7);
        let of = |unique: &str| {
            let rules = CountingRules { unique: unique.parse().unwrap(), ..CountingRules::default() };
            let document = MetaDoc::for_new_archive(&numbering, &rules);
            assert_eq!(document.clone().into_meta().unwrap().counting_rules, rules);
            document.format
        };
        assert_eq!((of(""), of("like")), (1, 2));
    }
}
