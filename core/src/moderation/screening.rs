//! Screening: [`CommentRules`] compiled, and applied to the text of a comment.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind};
use regex::{Regex, RegexBuilder};
use unicode_normalization::UnicodeNormalization;

use super::comment_rules::{CommentRules, LinkRule, RuleConsequence};
use super::folding::{FoldedText, is_invisible};
use super::rule_name::RuleName;
use crate::Invalid;
use crate::comment::MAX_COMMENT_CHARS;

/// The most memory that one compiled pattern may take, in bytes; matching may take as much again. A pattern that needs
/// more, like `(\w{100}){100}`, is refused.
const MAX_COMPILED_PATTERN_BYTES: usize = 256 * 1024;
/// The pattern of a link: an address with a scheme, one that begins with `www.`, and a host with a path or with a
/// common ending.
const LINK_PATTERN: &str = r"(?i)(?:https?://|\bwww\.)\S+|\b(?:[\p{L}\d](?:[\p{L}\d-]*[\p{L}\d])?\.)+(?:\p{L}{2,24}(?::\d+)?/\S*|(?:com|net|org|info|biz|xyz|top|site|online|shop|club|live|app|dev|link|click|io|co|me|tv|gg|ly|to|cc|ru|cn|de|uk|fr|nl|eu|us|ca|au|in|br|jp|pl|it|es|рф)\b)";
/// The character that replaces each masked character.
const MASK_CHAR: char = '*';

/// The result of screening a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ScreeningResult {
    /// The comment is accepted, with this text; some of it may be masked.
    Accepted(String),
    /// The comment waits for a moderator because of this rule, with this text; some of it may be masked.
    Held(String, RuleName),
    /// The comment is refused by this rule.
    Refused(RuleName),
}

/// One list of words, compiled for searching.
#[derive(Debug, Clone)]
struct WordMatcher {
    consequence: RuleConsequence,
    searcher: AhoCorasick,
    /// For each word, whether it must begin and whether it must end at the edge of a word of the text.
    must_be_at_edges: Vec<(bool, bool)>,
}

/// The rule about links, compiled for searching.
#[derive(Debug, Clone)]
struct LinkMatcher {
    consequence: RuleConsequence,
    finder: Regex,
    allowed_hosts: Vec<String>,
}

/// The compiled rules of a scope that concern the text of a comment.
#[derive(Debug, Clone, Default)]
pub struct TextScreen {
    max_chars: Option<usize>,
    hold_all: bool,
    links: Option<LinkMatcher>,
    word_matchers: Vec<WordMatcher>,
    patterns: Vec<(RuleConsequence, Regex)>,
}

impl TextScreen {
    /// Compiles the rules.
    ///
    /// # Errors
    /// The error names the member that cannot be compiled.
    pub fn compile(rules: &CommentRules) -> Result<Self, Invalid> {
        let words = rules.words.iter().map(|rule| WordMatcher::compile(rule.action, &rule.words));
        let patterns = rules.patterns.iter().map(|rule| Ok((rule.action, compile_pattern(&rule.pattern)?)));
        Ok(Self {
            max_chars: rules.max_chars.map(|chars| chars as usize),
            hold_all: rules.hold_all,
            links: rules.links.as_ref().map(LinkMatcher::compile).transpose()?,
            word_matchers: words.collect::<Result<_, _>>()?,
            patterns: patterns.collect::<Result<_, _>>()?,
        })
    }

    /// Applies the rules to the text of a comment. A comment that one rule refuses is not held by another; a held
    /// comment is masked, too.
    pub fn screen_text(&self, text: &str) -> ScreeningResult {
        if self.max_chars.is_some_and(|most| text.chars().count() > most) {
            return ScreeningResult::Refused(RuleName::Length);
        }
        let mut held = self.hold_all.then_some(RuleName::HoldAll);
        let mut masked = vec![false; text.chars().count()];
        if !self.word_matchers.is_empty() {
            let (folded, seen) = (FoldedText::fold_by_letters(text), FoldedText::fold_by_looks(text));
            let forms = [Some(&folded), (seen != folded).then_some(&seen)];
            for (words, form) in self
                .word_matchers
                .iter()
                .flat_map(|words| forms.iter().flatten().map(move |form| (words, form)))
            {
                for found in words.find(form.as_str()) {
                    match words.consequence {
                        RuleConsequence::Reject => return ScreeningResult::Refused(RuleName::Words),
                        RuleConsequence::Hold => held = Some(RuleName::Words),
                        RuleConsequence::Mask => masked[form.original_char_range(found)].fill(true),
                    }
                }
            }
        }
        let mut text = mask_chars(text, &masked);
        if self.links.is_none() && self.patterns.is_empty() {
            return accepted_or_held(text, held);
        }
        // The text as it reads: without invisible characters, and with one encoding of each character.
        let mut plain: String = text.nfkc().filter(|c| !is_invisible(*c)).collect();
        let links = self
            .links
            .iter()
            .map(|links| (RuleName::Links, links.consequence, links.find_forbidden_links(&plain)));
        let found: Vec<_> = links.collect();
        let patterns = self.patterns.iter().map(|(measure, pattern)| {
            let found = pattern.find_iter(&plain).map(|found| found.range());
            (RuleName::Patterns, *measure, found.filter(|range| !range.is_empty()).collect::<Vec<_>>())
        });
        let found: Vec<_> =
            found.into_iter().chain(patterns).filter(|(.., ranges)| !ranges.is_empty()).collect();
        if let Some((rule, ..)) = found.iter().find(|(_, measure, _)| *measure == RuleConsequence::Reject) {
            return ScreeningResult::Refused(*rule);
        }
        if let Some((rule, ..)) = found.iter().find(|(_, measure, _)| *measure == RuleConsequence::Hold) {
            held = Some(*rule);
        }
        let masks = || found.iter().filter(|(_, measure, _)| *measure == RuleConsequence::Mask);
        if masks().next().is_some() {
            // One character may become many (ﷺ becomes eighteen), and the reader of the log refuses a text that is
            // longer than any comment may be.
            if plain.chars().count() > MAX_COMMENT_CHARS {
                return ScreeningResult::Refused(RuleName::Length);
            }
            let mut masked = vec![false; plain.chars().count()];
            for range in masks().flat_map(|(.., ranges)| ranges.clone()) {
                let from = plain[..range.start].chars().count();
                let chars = plain[range].chars().count();
                masked[from..from + chars].fill(true);
            }
            plain = mask_chars(&plain, &masked);
            text = plain;
        }
        accepted_or_held(text, held)
    }
}

fn accepted_or_held(text: String, held: Option<RuleName>) -> ScreeningResult {
    match held {
        Some(rule) => ScreeningResult::Held(text, rule),
        None => ScreeningResult::Accepted(text),
    }
}

impl WordMatcher {
    fn compile(consequence: RuleConsequence, words: &[String]) -> Result<Self, Invalid> {
        let wrong = |word: &str, why: &str| Invalid::new("words", format!("{word:?} {why}"));
        let (mut folded, mut must_be_at_edges) = (Vec::new(), Vec::new());
        for word in words {
            let (begins, rest) = word.strip_prefix('*').map_or((true, word.as_str()), |rest| (false, rest));
            let (ends, rest) = rest.strip_suffix('*').map_or((true, rest), |rest| (false, rest));
            if rest.contains('*') {
                return Err(wrong(word, "may have a * at its ends only"));
            }
            let letters = FoldedText::fold_by_letters(rest);
            if !letters.as_str().chars().any(|c| !c.is_whitespace()) {
                return Err(wrong(word, "has no letters"));
            }
            folded.push(letters.as_str().to_owned());
            must_be_at_edges.push((begins, ends));
        }
        let searcher = AhoCorasick::builder().kind(Some(AhoCorasickKind::ContiguousNFA)).build(&folded);
        let searcher = searcher.map_err(|error| Invalid::new("words", error.to_string()))?;
        Ok(Self { consequence, searcher, must_be_at_edges })
    }

    /// Returns the byte ranges of all listed words in a folded text.
    fn find<'a>(&'a self, text: &'a str) -> impl Iterator<Item = Range<usize>> + 'a {
        let in_word = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        self.searcher.find_overlapping_iter(text).map(|found| (found.range(), found.pattern())).filter_map(
            move |(range, word)| {
                let (begins, ends) = self.must_be_at_edges[word.as_usize()];
                let before = in_word(text[..range.start].chars().next_back());
                let after = in_word(text[range.end..].chars().next());
                let is_part = (begins && before) || (ends && after);
                (!is_part).then_some(range)
            },
        )
    }
}

impl LinkMatcher {
    fn compile(rule: &LinkRule) -> Result<Self, Invalid> {
        let is_host = |host: &str| {
            !host.is_empty() && host.chars().all(|c| c.is_alphanumeric() || matches!(c, '.' | '-'))
        };
        if let Some(wrong) = rule.allow.iter().find(|host| !is_host(host)) {
            return Err(Invalid::new("links", format!("{wrong:?} is no host, as example.org is one")));
        }
        let finder = RegexBuilder::new(LINK_PATTERN).build().expect("the pattern of links is one");
        let allowed_hosts = rule.allow.iter().map(|host| host.to_lowercase()).collect();
        Ok(Self { consequence: rule.action, finder, allowed_hosts })
    }

    /// Returns the byte ranges of all links in the text that are not allowed.
    fn find_forbidden_links(&self, text: &str) -> Vec<Range<usize>> {
        let found = self.finder.find_iter(text);
        found.filter(|link| !self.allows(link.as_str())).map(|link| link.range()).collect()
    }

    fn allows(&self, link: &str) -> bool {
        let link = link.to_lowercase();
        let rest = link.split_once("://").map_or(link.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        // The part before an @ is no host: `https://example.org@elsewhere.net` leads to elsewhere.net.
        let host = authority.rsplit('@').next().unwrap_or_default();
        let host = host.split(':').next().unwrap_or_default().trim_end_matches('.');
        self.allowed_hosts.iter().any(|allowed| {
            host.strip_suffix(allowed.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        })
    }
}

fn compile_pattern(text: &str) -> Result<Regex, Invalid> {
    let built = RegexBuilder::new(text)
        .case_insensitive(true)
        .size_limit(MAX_COMPILED_PATTERN_BYTES)
        .dfa_size_limit(MAX_COMPILED_PATTERN_BYTES)
        .nest_limit(20)
        .build();
    let built = built.map_err(|error| {
        let why = match error {
            regex::Error::CompiledTooBig(_) => "is too large once it is compiled".to_owned(),
            // The last line says what is wrong; the lines before it show the position.
            other => format!("cannot be read: {}", other.to_string().lines().last().unwrap_or_default()),
        };
        Invalid::new("patterns", format!("{text:?} {why}"))
    })?;
    if built.is_match("") {
        return Err(Invalid::new("patterns", format!("{text:?} is found in every comment")));
    }
    Ok(built)
}

/// Returns the text with a star in place of each masked character; white space stays.
fn mask_chars(text: &str, masked: &[bool]) -> String {
    let chars = text.chars().zip(masked);
    chars.map(|(c, masked)| if *masked && !c.is_whitespace() { MASK_CHAR } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::LazyLock;

    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn screen(rules: &Value) -> TextScreen {
        TextScreen::compile(&CommentRules::from_json(rules.to_string().as_bytes()).unwrap()).unwrap()
    }

    fn words(action: &str, words: &[&str]) -> TextScreen {
        screen(&json!({"words": [{"action": action, "words": words}]}))
    }

    fn taken(text: &str) -> ScreeningResult {
        ScreeningResult::Accepted(text.to_owned())
    }

    #[test]
    fn what_is_held_is_masked_too_and_what_is_refused_is_not_held() {
        let screen = screen(
            &json!({"words": [{"action": "hold", "words": ["odd"]}, {"action": "mask", "words": ["darn"]},
            {"action": "reject", "words": ["bad"]}], "links": {"action": "hold"}}),
        );
        let held = |text: &str, rule| ScreeningResult::Held(text.to_owned(), rule);
        assert_eq!(screen.screen_text("odd, darn"), held("odd, ****", RuleName::Words));
        assert_eq!(screen.screen_text("see evil.com"), held("see evil.com", RuleName::Links));
        assert_eq!(screen.screen_text("bad and odd"), ScreeningResult::Refused(RuleName::Words));
        assert_eq!(screen.screen_text("fine"), taken("fine"));
        let all = TextScreen { hold_all: true, ..screen };
        assert_eq!(all.screen_text("fine"), held("fine", RuleName::HoldAll));
        assert_eq!(all.screen_text("bad"), ScreeningResult::Refused(RuleName::Words));
    }

    #[test]
    fn what_is_masked_is_no_longer_than_a_comment_may_be() {
        let masking = screen(&json!({"links": {"action": "mask"}}));
        let with = |signs: usize| format!("{} evil.com", "\u{fdfa}".repeat(signs));
        assert!(
            matches!(masking.screen_text(&with(200)), ScreeningResult::Accepted(text) if text.ends_with(" ********"))
        );
        assert_eq!(masking.screen_text(&with(300)), ScreeningResult::Refused(RuleName::Length));
        assert_eq!(masking.screen_text(&"\u{fdfa}".repeat(300)), taken(&"\u{fdfa}".repeat(300)));
    }

    #[test]
    fn words_are_found_as_whole_words_in_any_disguise() {
        let screen = words("reject", &["spam", "buy now", "crypto*", "*coin"]);
        for refused in [
            "SPAM!",
            "this is ѕрам, no?",
            "s\u{200b}pam",
            "Buy  NOW",
            "cryptography",
            "dogecoin",
            "$PAM",
            "crypto",
            "@spam",
        ] {
            assert_eq!(screen.screen_text(refused), ScreeningResult::Refused(RuleName::Words), "{refused}");
        }
        for fine in ["spammer", "antispam", "buy it now", "coins", "sp am", "krypto", ""] {
            assert_eq!(screen.screen_text(fine), taken(fine), "{fine}");
        }
    }

    #[test]
    fn what_is_masked_is_stars_and_the_rest_as_it_was() {
        let screen = words("mask", &["darn", "go away"]);
        assert_eq!(
            screen.screen_text("Well, DÄRN it: go\taway, Ünï!"),
            taken("Well, **** it: **\t****, Ünï!")
        );
        assert_eq!(screen.screen_text("d\u{200b}arn"), taken("*****"));
    }

    #[test]
    fn links_are_found_and_allowed_by_host() {
        let screen = screen(&json!({"links": {"action": "reject", "allow": ["example.org"]}}));
        for refused in [
            "see http://evil.net/x",
            "www.evil.example",
            "evil.com",
            "ｅｖｉｌ.com",
            "ev\u{200b}il.com",
            "a.b.xx/path",
            "https://example.org@evil.net/",
            "https://example.org.evil.net",
            "notexample.org",
        ] {
            assert_eq!(screen.screen_text(refused), ScreeningResult::Refused(RuleName::Links), "{refused}");
        }
        for fine in
            ["https://example.org/a?b", "www.example.org", "so.what", "3.14", "e.g. this", "hello...ok"]
        {
            assert_eq!(screen.screen_text(fine), taken(fine), "{fine}");
        }
    }

    #[test]
    fn patterns_and_links_are_masked_and_reject_goes_before() {
        let screen = screen(&json!({"links": {"action": "mask"}, "patterns": [
            {"action": "mask", "pattern": r"\d{4,}"}, {"action": "reject", "pattern": "(?:call|ring) me"}]}));
        assert_eq!(screen.screen_text("№ 12345 or evil.com!"), taken("No ***** or ********!"));
        assert_eq!(screen.screen_text("Call me: 12345"), ScreeningResult::Refused(RuleName::Patterns));
        assert_eq!(
            screen.screen_text("№ 123"),
            taken("№ 123"),
            "a text in which nothing is found stays as it is"
        );
    }

    #[test]
    fn length_is_that_of_the_comment() {
        let screen = screen(&json!({"max_chars": 3}));
        assert_eq!(screen.screen_text("äöü"), taken("äöü"));
        assert_eq!(screen.screen_text("four"), ScreeningResult::Refused(RuleName::Length));
    }

    proptest! {
        /// For any text: its length stays the same, nothing is left to mask, and all other characters are unchanged.
        /// (Whole words are not tested here: what is left beside stars may be one.)
        #[test]
        fn a_masked_text_has_no_such_word_any_more(text in "[a-cA-C @4àс\u{200b}.]{0,30}") {
            const LIST: [&str; 4] = ["*a*", "*bc*", "*cab*", "*ab a*"];
            static MASK: LazyLock<TextScreen> = LazyLock::new(|| words("mask", &LIST));
            static REJECT: LazyLock<TextScreen> = LazyLock::new(|| words("reject", &LIST));
            let screen = &*MASK;
            let ScreeningResult::Accepted(masked) = screen.screen_text(&text) else { panic!("refused") };
            prop_assert_eq!(masked.chars().count(), text.chars().count());
            prop_assert_eq!(screen.screen_text(&masked), ScreeningResult::Accepted(masked.clone()));
            for (after, before) in masked.chars().zip(text.chars()) {
                prop_assert!(after == before || after == MASK_CHAR);
            }
            prop_assert_eq!(REJECT.screen_text(&text) == taken(&text), masked == text, "both measures find the same");
        }

        #[test]
        fn no_text_makes_it_panic(text in "\\PC{0,60}") {
            static SCREEN: LazyLock<TextScreen> = LazyLock::new(|| screen(&json!({"links": {"action": "mask"},
                "words": [{"action": "mask", "words": ["a*", "*0"]}],
                "patterns": [{"action": "mask", "pattern": r"\w\W"}]})));
            let _ = SCREEN.screen_text(&text);
        }
    }
}
