//! Fixtures of stored and sent formats: two files per format.
//!
//! `fixtures/<name>.json` is a snapshot of what today's code writes: a change of it is noticed, and has to be intended.
//! `fixtures/previous/<name>.json` is what the release before wrote; no program writes it anew, and it is replaced with
//! each release (`docs/formats.md`). With the snapshot of today's code and that of the release before, [`check`]
//! verifies what two releases that run side by side rely on.

#![allow(clippy::disallowed_methods, reason = "a test reads files; core itself does not")]

use std::fmt::Debug;
use std::path::PathBuf;

use serde_json::{Value, json};

/// Objects that are maps or the app's own, or have one member by definition: a later release adds no member to them.
/// If a later release adds a comment rule, its records get a later version, because a rule must not be ignored. A weight
/// that is added makes scores that this release cannot compute, so whoever reads weights must see it.
const CLOSED_OBJECTS: [&str; 11] = [
    "counts",
    "rates",
    "weights",
    "commentsByVideo",
    "topicSubscribers",
    "videoMappings",
    "scope",
    "outside_writes",
    "metadata",
    "rules",
    "keys",
];

/// A format with fixtures: where they are, and how the format is written and read.
pub struct Format<W, R> {
    /// The path of the directory `fixtures`.
    pub directory: &'static str,
    /// The name of the two files, without `.json`.
    pub name: &'static str,
    /// Writes a value as today's code does.
    pub write: W,
    /// Reads a value as today's code does; an error if it cannot.
    pub read: R,
}

/// Checks a format, with `today` as the value that is written:
///
/// 1. the written JSON equals the snapshot (`UPDATE_FIXTURES=1` writes the snapshot anew), and is read back;
/// 2. the fixture of the release before is read;
/// 3. members that a later release adds are ignored, wherever they are;
/// 4. everything that the release before needs is still written: every member, with the same type.
pub fn check<T: PartialEq + Debug, E: Debug>(
    format: &Format<impl Fn(&T) -> Value, impl Fn(&Value) -> Result<T, E>>,
    today: &T,
) {
    let Format { directory, name, write, read } = format;
    let file = |sub: &str| -> PathBuf { [*directory, sub, &format!("{name}.json")].iter().collect() };
    let stored = |sub: &str| -> Value {
        let file = file(sub);
        let text =
            std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
    };
    let written = write(today);
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        let text = serde_json::to_string_pretty(&with_sorted_members(&written)).expect("a value serialises");
        std::fs::write(file(""), text + "\n").expect("the snapshot is written");
        return;
    }
    assert_eq!(
        stored(""),
        written,
        "{name}: what is written has changed. May the release before read it? Then UPDATE_FIXTURES=1, and CHANGELOG.md \
         says what changed"
    );
    let read = |what: &str, value: &Value| -> T {
        read(value).unwrap_or_else(|error| panic!("{name}: {what} is not read: {error:?}\n{value:#}"))
    };
    assert_eq!(read("what is written today", &written), *today, "{name}: is not read back");
    let previous = stored("previous");
    let before = read("what the release before wrote (a member that it lacks needs a default)", &previous);
    for (value, meant) in [(&previous, &before), (&written, today)] {
        let later = read("what a later release adds to", &with_unknown_members(value));
        assert_eq!(later, *meant, "{name}: a member of a later release changes what is read");
    }
    let lost = lost_members(&previous, &written, name);
    assert!(lost.is_empty(), "{name}: the release before needs {lost:?}");
}

/// Returns the value with its members sorted by name: `serde_json` keeps another order if a crate asks for that.
fn with_sorted_members(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let mut members: Vec<_> =
                members.iter().map(|(name, value)| (name.clone(), with_sorted_members(value))).collect();
            members.sort_by(|one, other| one.0.cmp(&other.0));
            Value::Object(members.into_iter().collect())
        }
        Value::Array(items) => items.iter().map(with_sorted_members).collect(),
        other => other.clone(),
    }
}

/// Returns the value with one more member in each object that may have one.
fn with_unknown_members(value: &Value) -> Value {
    match value {
        // Such an object is a value in MongoDB's extended JSON: {"$numberLong": "7"}.
        Value::Object(members) if members.keys().any(|name| name.starts_with('$')) => value.clone(),
        Value::Object(members) => {
            let within = |(name, value): (&String, &Value)| {
                let value = if CLOSED_OBJECTS.contains(&name.as_str()) {
                    value.clone()
                } else {
                    with_unknown_members(value)
                };
                (name.clone(), value)
            };
            let mut members: serde_json::Map<String, Value> = members.iter().map(within).collect();
            members.insert("of_a_later_release".to_owned(), json!({"of": ["any", 1, null]}));
            Value::Object(members)
        }
        Value::Array(items) => items.iter().map(with_unknown_members).collect(),
        other => other.clone(),
    }
}

/// Returns the paths of members of `before` that are missing in `now` or have another type there. Of lists, the first
/// items are compared.
fn lost_members(before: &Value, now: &Value, path: &str) -> Vec<String> {
    match (before, now) {
        // This is an id that MongoDB made: no release ever read one.
        (Value::Object(before), _) if before.contains_key("$oid") => Vec::new(),
        (Value::Object(before), Value::Object(now)) => {
            let lost = before.iter().flat_map(|(name, value)| {
                let path = format!("{path}.{name}");
                now.get(name).map_or_else(|| vec![path.clone()], |now| lost_members(value, now, &path))
            });
            lost.collect()
        }
        (Value::Array(before), Value::Array(now)) => match (before.first(), now.first()) {
            (Some(before), Some(now)) => lost_members(before, now, &format!("{path}[0]")),
            _ => Vec::new(),
        },
        (Value::Null, _) => Vec::new(),
        _ if std::mem::discriminant(before) == std::mem::discriminant(now) => Vec::new(),
        _ => vec![path.to_owned()],
    }
}
