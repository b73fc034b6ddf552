//! Checks keys of labels and annotations.

use std::collections::BTreeMap;

use super::ProblemList;
use crate::build::names;

/// Maximal size of all annotations of an object, in bytes, by Kubernetes' limit.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
/// The part of `MAX_ANNOTATIONS_BYTES` that is left for annotations of the operator and of other writers, in bytes.
const RESERVED_ANNOTATIONS_BYTES: usize = 16 * 1024;

/// Adds a problem for each key that is not a valid name by Kubernetes' rules.
pub(super) fn check_keys<'a>(path: &str, keys: impl Iterator<Item = &'a String>, problems: &mut ProblemList) {
    for key in keys.filter(|key| !is_qualified_name(key)) {
        problems.add(
            path,
            format!(
                "{key:?} is no key: write name or prefix.example.org/name, the name of at most 63 letters, digits, -, _ and ."
            ),
        );
    }
}

/// Checks the keys of annotations, and the size of all of them together.
pub(super) fn check_annotations(
    path: &str,
    annotations: &BTreeMap<String, String>,
    problems: &mut ProblemList,
) {
    check_keys(path, annotations.keys(), problems);
    let bytes: usize = annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > MAX_ANNOTATIONS_BYTES - RESERVED_ANNOTATIONS_BYTES {
        problems.add(path, format!("shorten them: {bytes} bytes are more than an object can carry"));
    }
}

/// Adds a problem for each key that is reserved for the operator.
pub(super) fn check_not_ours<'a>(
    path: &str,
    keys: impl Iterator<Item = &'a String>,
    problems: &mut ProblemList,
) {
    for key in keys.filter(|key| key.starts_with(names::OUR_PREFIX)) {
        problems.add(path, format!("choose another key than {key}: liverank.dev/ is the operator's"));
    }
}

/// Returns whether a key is `name` or `prefix/name` by the rules of Kubernetes' `IsQualifiedName`.
fn is_qualified_name(key: &str) -> bool {
    let (prefix, name) = key.split_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    is_name_part(name) && prefix.is_none_or(is_subdomain)
}

fn is_name_part(name: &str) -> bool {
    let outer = |c: char| c.is_ascii_alphanumeric();
    (1..=63).contains(&name.len())
        && name.starts_with(outer)
        && name.ends_with(outer)
        && name.chars().all(|c| outer(c) || matches!(c, '-' | '_' | '.'))
}

fn is_subdomain(prefix: &str) -> bool {
    let outer = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    (1..=253).contains(&prefix.len())
        && prefix.split('.').all(|part| {
            part.starts_with(outer) && part.ends_with(outer) && part.chars().all(|c| outer(c) || c == '-')
        })
}
