//! The format of the archive, which the meta document names.

use liverank_core::counting::CountingRules;

/// The newest format version that this release writes and reads: a later one is refused.
pub const FORMAT: i64 = 2;

/// The format version of an archive in which every event counts. Releases that know only this version would count each
/// event of the types that count once per user, so they must refuse an archive with such types.
pub const FORMAT_WITHOUT_MARKS: i64 = 1;

pub const fn format_for_rules(rules: &CountingRules) -> i64 {
    if rules.unique.is_empty() { FORMAT_WITHOUT_MARKS } else { FORMAT }
}
