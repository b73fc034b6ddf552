//! Keys of labels and annotations.

use std::collections::BTreeMap;

use super::ProblemList;
use crate::build::names;

/// What Kubernetes lets all annotations of an object be, in bytes.
const MAX_ANNOTATIONS_BYTES: usize = 256 * 1024;
/// What of it we leave for our own and for others'.
const RESERVED_ANNOTATIONS_BYTES: usize = 16 * 1024;

/// Names each key that the definition does not have.
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

/// Keys, and whether there is room for all of it.
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

/// Names each key that is the operator's.
pub(super) fn check_not_ours<'a>(
    path: &str,
    keys: impl Iterator<Item = &'a String>,
    problems: &mut ProblemList,
) {
    for key in keys.filter(|key| key.starts_with(names::OUR_PREFIX)) {
        problems.add(path, format!("choose another key than {key}: liverank.dev/ is the operator's"));
    }
}

/// `name` or `prefix/name`, as Kubernetes' `IsQualifiedName` has it.
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
