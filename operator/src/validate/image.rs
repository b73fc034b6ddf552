//! Checks references to images, as container runtimes parse them.

use super::ProblemList;

/// Checks an image reference: a registry and a repository, then `:tag`, `@digest` or both.
pub(super) fn check_image(path: &str, image: &str, problems: &mut ProblemList) {
    let (name, digest) = image.split_once('@').map_or((image, None), |(name, digest)| (name, Some(digest)));
    let (repository, tag) = match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, Some(tag)),
        _ => (name, None),
    };
    let mut parts = repository.split('/').peekable();
    // The first part is a registry only if a repository follows: a host, which may have a port and capital letters.
    if repository.contains('/')
        && parts.peek().is_some_and(|first| first.contains(['.', ':']) || *first == "localhost")
    {
        parts.next();
    }
    let lower = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let is_part = |part: &str| {
        part.starts_with(lower)
            && part.ends_with(lower)
            && part.chars().all(|c| lower(c) || matches!(c, '.' | '_' | '-'))
    };
    if !parts.all(is_part) {
        problems.add(path, "write the repository in lower case: registry.example.org/liverank:tag");
    }
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let is_tag = |tag: &str| {
        tag.starts_with(word) && tag.len() <= 128 && tag.chars().all(|c| word(c) || matches!(c, '.' | '-'))
    };
    if !tag.is_none_or(is_tag) {
        problems.add(path, "use letters, digits, dots, dashes and underscores in the tag");
    }
    let is_digest = |digest: &str| {
        digest
            .strip_prefix("sha256:")
            .is_some_and(|hex| hex.len() == 64 && hex.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    if !digest.is_none_or(is_digest) {
        problems.add(path, "write the digest as sha256: and 64 hexadecimal digits");
    }
}
