//! The name that was probably meant by one that does not exist.

/// Returns the known name that is nearest to `name`; `None` if none is near. A third of the letters may differ.
pub(super) fn nearest_name<'a, T: AsRef<str>>(
    name: &str,
    known: impl Iterator<Item = &'a T>,
) -> Option<&'a T> {
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate.as_ref()), candidate))
        .filter(|(distance, _)| *distance <= name.len() / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}
