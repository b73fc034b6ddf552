//! The archive's meta data: how they are stored, read and changed.

use liverank_core::Millis;
use liverank_core::comment::CommentEpoch;
use liverank_core::counting::{CountingRules, UniqueKinds};
use liverank_core::decays::CountedDecay;
use liverank_core::score::Weights;
use liverank_core::windows::{CountedWindowKind, WindowKind};
use redb::{Database, ReadableTable, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::super::ArchiveMeta;
use super::rows::{damaged_row, parse_decay};
use super::tables::Tables;
use crate::redb_file::{FileFailure, begin_durable};

#[derive(Serialize, Deserialize)]
struct StoredMeta {
    /// The comment epoch to which the sequence numbers of the archive's comments belong.
    numbering: CommentEpoch,
    generation: u64,
    weights: Weights,
    half_life_ms: u64,
    /// The types that count once per user. This field is absent if no type counts once, and in files of earlier
    /// releases.
    #[serde(default, skip_serializing_if = "is_no_kind")]
    unique: UniqueKinds,
    /// The windows that are counted. This field is absent if no windows are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    windows: Vec<StoredWindows>,
    /// The decays that are counted. This field is absent if no decays are counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    decays: Vec<StoredDecay>,
}

/// A decay that is counted, as stored.
#[derive(Serialize, Deserialize)]
struct StoredDecay {
    decay: String,
    run: u32,
    /// The time after which the scores are complete; absent if they contain everything that was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

/// A kind of windows that is counted, as stored.
#[derive(Serialize, Deserialize)]
struct StoredWindows {
    kind: String,
    /// The time after which windows are complete; absent if all windows are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    whole_after: Option<Millis>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde wants it so")]
fn is_no_kind(unique: &UniqueKinds) -> bool {
    unique.is_empty()
}

/// Reads the meta data; `None` if the archive was never opened.
pub fn read_meta(table: &impl ReadableTable<(), &'static str>) -> Result<Option<ArchiveMeta>, FileFailure> {
    table.get(())?.map(|text| decode_meta(text.value())).transpose()
}

fn decode_meta(text: &str) -> Result<ArchiveMeta, FileFailure> {
    let stored: StoredMeta = serde_json::from_str(text).map_err(|error| damaged_row("meta", error))?;
    let StoredMeta { weights, half_life_ms, unique, windows, decays, .. } = stored;
    let rules = CountingRules { weights, half_life_ms, unique };
    let counted = |StoredWindows { kind, whole_after: complete_after }: StoredWindows| {
        let kind = WindowKind::parse(&kind).map_err(|error| FileFailure::Damaged(error.to_string()))?;
        Ok(CountedWindowKind { kind, complete_after })
    };
    let windows = windows.into_iter().map(counted).collect::<Result<_, FileFailure>>()?;
    let counted = |StoredDecay { decay, run, whole_after: complete_after }: StoredDecay| {
        Ok(CountedDecay { decay: parse_decay(&decay)?, run, complete_after })
    };
    let decays = decays.into_iter().map(counted).collect::<Result<_, FileFailure>>()?;
    Ok(ArchiveMeta {
        comment_epoch: stored.numbering,
        generation: stored.generation,
        counting_rules: rules,
        windows,
        decays,
    })
}

pub fn encode_meta(meta: &ArchiveMeta) -> String {
    let ArchiveMeta { comment_epoch: numbering, generation, counting_rules: rules, windows, decays } =
        meta.clone();
    let CountingRules { weights, half_life_ms, unique } = rules;
    let stored = |counted: &CountedWindowKind| StoredWindows {
        kind: counted.kind.to_string(),
        whole_after: counted.complete_after,
    };
    let windows = windows.iter().map(stored).collect();
    let stored = |counted: &CountedDecay| StoredDecay {
        decay: counted.decay.to_string(),
        run: counted.run,
        whole_after: counted.complete_after,
    };
    let decays = decays.iter().map(stored).collect();
    let stored = StoredMeta { numbering, generation, weights, half_life_ms, unique, windows, decays };
    serde_json::to_string(&stored).expect("text and numbers always serialise")
}

/// Returns the failure for a file without meta data.
pub fn not_opened_failure() -> FileFailure {
    FileFailure::Damaged("it was never opened as an archive".to_owned())
}

/// Changes the meta data in one durable transaction, and returns those in force after it.
pub fn change_meta(
    database: &Database,
    tables: &Tables,
    change: impl FnOnce(&WriteTransaction, &ArchiveMeta) -> Result<ArchiveMeta, FileFailure>,
) -> Result<ArchiveMeta, FileFailure> {
    let transaction = begin_durable(database)?;
    let before = read_meta(&transaction.open_table(tables.meta)?)?.ok_or_else(not_opened_failure)?;
    let after = change(&transaction, &before)?;
    transaction.open_table(tables.meta)?.insert((), encode_meta(&after).as_str())?;
    transaction.commit()?;
    Ok(after)
}

#[cfg(test)]
mod fixtures {
    use super::*;
    use crate::fixtures::{DISTINCT_WEIGHTS, check_json_fixture, decays, parse_json, windows};

    #[test]
    fn stored_meta_has_fixtures() {
        let unique = "like,share".parse().expect("types");
        let rules = CountingRules { weights: DISTINCT_WEIGHTS, half_life_ms: 60_000, unique };
        let (windows, decays) = (windows(), decays());
        let today = ArchiveMeta {
            comment_epoch: CommentEpoch::from_bits(7),
            generation: 5,
            counting_rules: rules,
            windows,
            decays,
        };
        let write = |meta: &ArchiveMeta| parse_json(encode_meta(meta).as_bytes());
        check_json_fixture("embedded-meta", &today, write, |value| decode_meta(&value.to_string()));
    }
}
