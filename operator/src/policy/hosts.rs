//! The host names that routes may have.

use std::fmt;

use serde::Deserialize;

/// A list of permitted host names: `live.example.org`, `*.example.org` for all below it, or `*` for all. A star
/// elsewhere is refused: `live.*` would permit `live.example.org.elsewhere.net`, too.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "Vec<String>")]
pub struct HostPatterns(Vec<String>);

impl TryFrom<Vec<String>> for HostPatterns {
    type Error = String;

    fn try_from(patterns: Vec<String>) -> Result<Self, String> {
        let rest = |pattern: &str| pattern.strip_prefix("*.").unwrap_or(pattern).to_owned();
        match patterns.iter().find(|pattern| *pattern != "*" && rest(pattern).contains('*')) {
            Some(pattern) => Err(format!(
                "hosts: {pattern:?}: a star may only stand for the first labels of a name (\"*.example.org\"), or alone"
            )),
            None => Ok(Self(patterns.iter().map(|pattern| pattern.to_ascii_lowercase()).collect())),
        }
    }
}

impl HostPatterns {
    /// Returns the list that permits every host.
    pub(super) fn allow_all() -> Self {
        Self(vec!["*".to_owned()])
    }

    /// Returns whether one pattern permits all of `hosts`. Hosts that differ in a number only are all permitted if two
    /// of them are: a pattern that permits both does not contain the number.
    pub(super) fn permits_together(&self, hosts: &[&str]) -> bool {
        self.0.iter().any(|pattern| hosts.iter().all(|host| matches(pattern, &host.to_ascii_lowercase())))
    }
}

fn matches(pattern: &str, host: &str) -> bool {
    match pattern.strip_prefix('*') {
        Some("") => true,
        // The domain itself is not below itself.
        Some(domain) => host.strip_suffix(domain).is_some_and(|labels| !labels.is_empty()),
        None => host == pattern,
    }
}

impl fmt::Display for HostPatterns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() { f.write_str("none") } else { f.write_str(&self.0.join(", ")) }
    }
}
