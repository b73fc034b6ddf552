//! How comment rules are read and checked. Checking compiles the words and patterns once, so that rules which cannot be
//! compiled are refused where they are set.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::comment_rules::{
    CommentRules, MAX_ALLOWED_HOSTS, MAX_PATTERN_CHARS, MAX_PATTERNS, MAX_REPEAT_SECONDS, MAX_RULES_BYTES,
    MAX_SLOW_SECONDS, MAX_WORD_CHARS, MAX_WORDS,
};
use super::screening::TextScreen;
use crate::Invalid;
use crate::comment::MAX_COMMENT_CHARS;

/// The names of the members of [`CommentRules`] in JSON.
const RULE_MEMBERS: [&str; 9] = [
    "slow_seconds",
    "members_only",
    "max_chars",
    "own_repeat_seconds",
    "any_repeat_seconds",
    "links",
    "hold_all",
    "words",
    "patterns",
];

impl CommentRules {
    /// Reads and checks rules from a JSON object.
    ///
    /// # Errors
    /// The error names the wrong member; an unknown member is wrong, too.
    pub fn parse(object: &Map<String, Value>) -> Result<Self, Invalid> {
        if let Some(unknown) = object.keys().find(|name| !RULE_MEMBERS.contains(&name.as_str())) {
            let known = RULE_MEMBERS.join(", ");
            return Err(Invalid::new("rules", format!("has no member {unknown:?}; it may have {known}")));
        }
        let rules = Self {
            slow_seconds: parse_member(object, "slow_seconds")?,
            members_only: parse_member(object, "members_only")?.unwrap_or(false),
            max_chars: parse_member(object, "max_chars")?,
            own_repeat_seconds: parse_member(object, "own_repeat_seconds")?,
            any_repeat_seconds: parse_member(object, "any_repeat_seconds")?,
            links: parse_member(object, "links")?,
            hold_all: parse_member(object, "hold_all")?.unwrap_or(false),
            words: parse_member(object, "words")?.unwrap_or_default(),
            patterns: parse_member(object, "patterns")?.unwrap_or_default(),
        };
        rules.check()?;
        Ok(rules)
    }

    /// Reads rules from the JSON text of a file.
    ///
    /// # Errors
    /// The errors are those of [`CommentRules::parse`].
    pub fn from_json(json: &[u8]) -> Result<Self, Invalid> {
        match crate::json::parse(json)? {
            Value::Object(object) => Self::parse(&object),
            _ => Err(Invalid::new("rules", "must be a JSON object")),
        }
    }

    /// Checks that every member is within its bounds, and that words and patterns can be compiled.
    ///
    /// # Errors
    /// The error names the wrong member.
    pub fn check(&self) -> Result<(), Invalid> {
        check_number("slow_seconds", self.slow_seconds, MAX_SLOW_SECONDS)?;
        check_number("max_chars", self.max_chars, MAX_COMMENT_CHARS as u32)?;
        check_number("own_repeat_seconds", self.own_repeat_seconds, MAX_REPEAT_SECONDS)?;
        check_number("any_repeat_seconds", self.any_repeat_seconds, MAX_REPEAT_SECONDS)?;
        let hosts = self.links.as_ref().map_or(0, |links| links.allow.len());
        check_count("links", hosts, MAX_ALLOWED_HOSTS)?;
        let words = || self.words.iter().flat_map(|rule| &rule.words);
        check_count("words", words().count(), MAX_WORDS)?;
        if self.words.iter().any(|rule| rule.words.is_empty()) {
            return Err(Invalid::new("words", "each of them must have words"));
        }
        check_count("patterns", self.patterns.len(), MAX_PATTERNS)?;
        for (field, text, chars) in words()
            .map(|word| ("words", word, MAX_WORD_CHARS))
            .chain(self.patterns.iter().map(|rule| ("patterns", &rule.pattern, MAX_PATTERN_CHARS)))
        {
            if text.chars().count() > chars {
                return Err(Invalid::new(field, format!("must be at most {chars} characters each")));
            }
        }
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |json| json.len());
        if bytes > MAX_RULES_BYTES {
            let wrong = format!("must be at most {MAX_RULES_BYTES} bytes as JSON, are {bytes}");
            return Err(Invalid::new("rules", wrong));
        }
        TextScreen::compile(self).map(drop)
    }
}

fn parse_member<T: DeserializeOwned>(
    object: &Map<String, Value>,
    name: &'static str,
) -> Result<Option<T>, Invalid> {
    match object.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let read = serde_json::from_value(value.clone());
            read.map(Some).map_err(|error| Invalid::new(name, format!("cannot be read: {error}")))
        }
    }
}

fn check_number(field: &'static str, value: Option<u32>, most: u32) -> Result<(), Invalid> {
    match value {
        Some(value) if !(1..=most).contains(&value) => {
            Err(Invalid::new(field, format!("must be a whole number from 1 to {most}")))
        }
        _ => Ok(()),
    }
}

fn check_count(field: &'static str, count: usize, most: usize) -> Result<(), Invalid> {
    if count > most {
        return Err(Invalid::new(field, format!("must be at most {most}, are {count}")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(value: Value) -> Result<CommentRules, Invalid> {
        match value {
            Value::Object(object) => CommentRules::parse(&object),
            other => panic!("not an object: {other}"),
        }
    }

    #[test]
    fn comment_rules_round_trip() {
        let json = json!({
            "slow_seconds": 5, "members_only": true, "max_chars": 200, "own_repeat_seconds": 60,
            "any_repeat_seconds": 10, "hold_all": true, "links": {"action": "reject", "allow": ["example.org"]},
            "words": [{"action": "mask", "words": ["darn*", "go away"]}],
            "patterns": [{"action": "reject", "pattern": r"(?:\d[ -]?){9,}"}],
        });
        let rules = parse(json.clone()).unwrap();
        assert_eq!(serde_json::to_value(&rules).unwrap(), json);
        assert_eq!(serde_json::from_value::<CommentRules>(json).unwrap(), rules);
        assert!(parse(json!({})).unwrap().is_empty() && !rules.is_empty());
        assert_eq!(serde_json::to_value(CommentRules::default()).unwrap(), json!({}));
    }

    #[test]
    fn every_wrong_member_is_named() {
        let many = vec!["word"; MAX_WORDS + 1];
        let reject = |words: Value| json!([{"action": "reject", "words": words}]);
        let pattern = |pattern: &str| json!([{"action": "reject", "pattern": pattern}]);
        for (field, value) in [
            ("slow_seconds", json!(0)),
            ("slow_seconds", json!("5")),
            ("slow_seconds", json!(MAX_SLOW_SECONDS + 1)),
            ("members_only", json!(1)),
            ("hold_all", json!("yes")),
            ("max_chars", json!(5000)),
            ("own_repeat_seconds", json!(-1)),
            ("any_repeat_seconds", json!(1.5)),
            ("links", json!("reject")),
            ("links", json!({"action": "explode"})),
            ("links", json!({"action": "reject", "allow": ["http://example.org/"]})),
            ("links", json!({"action": "reject", "allow": vec!["example.org"; MAX_ALLOWED_HOSTS + 1]})),
            ("words", json!(["darn"])),
            ("words", reject(json!([]))),
            ("words", reject(json!(["\u{200b}"]))),
            ("words", reject(json!(["*"]))),
            ("words", reject(json!(["a*b"]))),
            ("words", reject(json!(["w".repeat(MAX_WORD_CHARS + 1)]))),
            ("words", reject(json!(many))),
            ("patterns", pattern("(")),
            ("patterns", pattern("")),
            ("patterns", pattern("a?")),
            ("patterns", pattern(&"p".repeat(MAX_PATTERN_CHARS + 1))),
            ("patterns", pattern(r"(?:\w{100}){100}")),
            ("patterns", json!(vec![json!({"action": "mask", "pattern": "x"}); MAX_PATTERNS + 1])),
            ("rules", json!(null)),
        ] {
            let mut object = json!({});
            object[if field == "rules" { "slow" } else { field }] = value.clone();
            assert_eq!(parse(object).unwrap_err().field, field, "{value}");
        }
        let long: Vec<String> = (0..200).map(|at| format!("{at:060}")).collect();
        assert_eq!(parse(json!({ "words": reject(json!(long)) })).unwrap_err().field, "rules");
        assert_eq!(CommentRules::from_json(b"[]").unwrap_err().field, "rules");
    }

    #[test]
    fn usual_patterns_are_within_the_bounds() {
        for pattern in [r"\w+@\w+\.\w+", r"(?:\d[ -]?){9,16}", r"\b(buy|sell)\s+\w+\s+now\b", r"(.)\1"] {
            let read = parse(json!({ "patterns": [{ "action": "reject", "pattern": pattern }] }));
            // The last pattern has a back-reference, which takes more than one pass over the text.
            assert_eq!(read.is_err(), pattern.contains(r"\1"), "{pattern}: {read:?}");
        }
    }
}
