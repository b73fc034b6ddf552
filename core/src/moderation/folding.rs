//! The folded form of a text, in which words are looked for: the same for all characters that mean or look the same.
//!
//! Each character is folded by itself, so it is known which characters of the text a match came from:
//!
//! 1. Unicode's compatibility decomposition (of NFKD and NFKC), in canonical order;
//! 2. invisible characters and accents are removed, white space becomes one space;
//! 3. cases are folded, and look-alikes of other scripts become the letters that they look like (UTS 39);
//! 4. digits and signs that are written in place of letters become these letters; `i`, `l`, `1`, and `|` and `!`
//!    within a word, become the same letter.
//!
//! A capital letter may look like another letter than its small form: the Greek Ν like N, ν like v. So a text has two
//! folded forms, one by what its letters are and one by what they look like.

use std::ops::Range;

use unicode_normalization::char::{canonical_combining_class, decompose_compatible};
use unicode_security::confusable_detection::skeleton;

/// A folded text, with the characters of the original that each part came from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FoldedText {
    text: String,
    /// For each byte of `text`, the index of the original character that it came from.
    original_index: Vec<usize>,
}

impl FoldedText {
    /// Folds a text by the meaning of its letters.
    pub fn fold_by_letters(original: &str) -> Self {
        Self::fold_with(original, fold_char_by_meaning)
    }

    /// Folds a text by the look of its capital letters.
    pub fn fold_by_looks(original: &str) -> Self {
        Self::fold_with(original, fold_char_by_shape)
    }

    fn fold_with(original: &str, letters: fn(char, &mut dyn FnMut(char))) -> Self {
        let mut folded = Self::default();
        let all = decompose_chars(original);
        for (at, (origin, c)) in all.iter().enumerate() {
            let is_letter =
                |at: Option<usize>| at.and_then(|at| all.get(at)).is_some_and(|(_, c)| c.is_alphanumeric());
            let (before, after) = (is_letter(at.checked_sub(1)), is_letter(Some(at + 1)));
            if c.is_whitespace() {
                if !folded.text.is_empty() && !folded.text.ends_with(' ') {
                    folded.push_char(*origin, ' ');
                }
            } else if let Some(letter) = fold_single_sign(*c, before, after) {
                folded.push_char(*origin, letter);
            } else {
                letters(*c, &mut |letter| folded.push_char(*origin, letter));
            }
        }
        if folded.text.ends_with(' ') {
            folded.text.pop();
            folded.original_index.pop();
        }
        folded
    }

    fn push_char(&mut self, origin: usize, c: char) {
        self.text.push(c);
        self.original_index.resize(self.text.len(), origin);
    }

    /// Returns the folded text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the range of original characters that a range of bytes of the folded text came from.
    pub fn original_char_range(&self, bytes: Range<usize>) -> Range<usize> {
        match (self.original_index.get(bytes.start), self.original_index.get(bytes.end.wrapping_sub(1))) {
            (Some(first), Some(last)) if !bytes.is_empty() => (*first).min(*last)..(*first).max(*last) + 1,
            _ => 0..0,
        }
    }
}

/// Decomposes a text into characters, each with the index of the original character that it is a part of. Accents are
/// in canonical order; invisible characters and accents are then removed.
fn decompose_chars(original: &str) -> Vec<(usize, char)> {
    let mut all: Vec<(usize, char)> = Vec::with_capacity(original.len());
    for (origin, c) in original.chars().enumerate() {
        decompose_compatible(c, |part| all.push((origin, part)));
    }
    let class = |(_, c): &(usize, char)| canonical_combining_class(*c);
    let mut from = 0;
    while from < all.len() {
        let run = all[from..].iter().take_while(|part| class(part) != 0).count();
        all[from..from + run].sort_by_key(class);
        from += run.max(1);
    }
    all.retain(|(_, c)| !is_invisible(*c) && !is_accent(*c));
    all
}

/// Returns the letter that a sign stands for if letters are around it; `None` for a sign at the end of a word.
const fn fold_single_sign(c: char, before: bool, after: bool) -> Option<char> {
    match c {
        '!' | '|' if before && after => Some('l'),
        '@' if before && after => Some('a'),
        '$' if after => Some('s'),
        _ => None,
    }
}

fn fold_char_by_meaning(c: char, take: &mut dyn FnMut(char)) {
    fold_case(c, &mut |c| fold_to_look_alike(c, &mut |c| fold_case(c, &mut |c| take(letter_for_digit(c)))));
}

fn fold_char_by_shape(c: char, take: &mut dyn FnMut(char)) {
    fold_to_look_alike(c, &mut |c| fold_case(c, &mut |c| take(letter_for_digit(c))));
}

/// Folds the case of a character. The character is first made upper case, because some characters, such as ß, fold only
/// by way of upper case.
fn fold_case(c: char, take: &mut dyn FnMut(char)) {
    c.to_uppercase().flat_map(char::to_lowercase).filter(|c| !is_accent(*c)).for_each(take);
}

/// Folds a character to the one that it looks like. ASCII characters stay unchanged: other characters are folded to
/// them, and `m` must not become `rn`.
fn fold_to_look_alike(c: char, take: &mut dyn FnMut(char)) {
    if c.is_ascii() {
        return take(c);
    }
    skeleton(c.encode_utf8(&mut [0; 4])).filter(|c| !is_accent(*c)).for_each(take);
}

/// Returns the letter for which a digit is often written (`0` for `o`), or the letter for a small capital, which
/// look-alikes are folded to.
const fn letter_for_digit(c: char) -> char {
    match c {
        '0' => 'o',
        '1' | 'i' => 'l',
        '3' => 'e',
        '4' => 'a',
        '5' => 's',
        'ʍ' | 'ᴍ' => 'm',
        '7' | 'ᴛ' => 't',
        'ĸ' | 'ᴋ' => 'k',
        'ʜ' => 'h',
        'ʙ' => 'b',
        _ => c,
    }
}

/// Whether a character is an accent that may be on any letter. Vowel signs of scripts that are written with them are
/// no accents.
const fn is_accent(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe20}'..='\u{fe2f}')
}

/// Whether a character is invisible: zero-width ones, marks of direction, variation selectors, tags, fillers.
pub const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
        | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
        | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization;

    use super::*;

    fn folded_text(text: &str) -> String {
        FoldedText::fold_by_letters(text).text
    }

    #[test]
    fn disguised_spellings_fold_to_the_same_word() {
        for (plain, written) in [
            ("spam", "ＳＰＡＭ"),
            ("spam", "s\u{200b}p\u{ad}a\u{fe0f}m"),
            ("spam", "ѕрам"),
            ("spam", "$p4m"),
            ("spam", "s\u{336}p\u{336}a\u{336}m\u{336}"),
            ("spam", "𝕤𝓅𝖆𝗺"),
            ("kill", "K1LL"),
            ("kill", "KΙLL"),
            ("kill", "k!ll"),
            ("νερο", "ΝΕΡΟ"),
            ("strasse", "Straße"),
            ("resume", "résume\u{301}"),
            ("two words", " two \n\u{3000} words "),
            ("ПРИВЕТ", "привет"),
            ("하다", "하다"),
        ] {
            assert_eq!(folded_text(written), folded_text(plain), "{written}");
        }
        assert_eq!(
            FoldedText::fold_by_looks("ΝΑΗ, ΒΟΒ").as_str(),
            folded_text("nah, bob"),
            "by its capitals"
        );
        assert_eq!(folded_text("hi! @ann 5$"), "hl! @ann s$", "signs at an end of a word are signs");
        assert_ne!(folded_text("cat"), folded_text("cut"));
        assert_eq!(folded_text("\u{200b}\u{feff} "), "");
    }

    proptest! {
        #[test]
        fn folding_ignores_unicode_normalisation(text in "\\PC{0,20}") {
            let expected = folded_text(&text);
            prop_assert_eq!(folded_text(&text.nfc().collect::<String>()), expected.clone(), "NFC");
            prop_assert_eq!(folded_text(&text.nfkc().collect::<String>()), expected.clone(), "NFKC");
            prop_assert_eq!(folded_text(&text.nfkd().collect::<String>()), expected, "NFKD");
        }

        #[test]
        fn folding_ignores_invisible_characters(text in "[a-zA-Zа-яα-ω ]{0,20}", at in any::<prop::sample::Index>()) {
            let mut seen: Vec<char> = text.chars().collect();
            seen.insert(at.index(seen.len() + 1), '\u{200d}');
            prop_assert_eq!(folded_text(&seen.into_iter().collect::<String>()), folded_text(&text));
        }

        #[test]
        fn every_byte_has_an_origin_and_origins_do_not_go_back(text in "\\PC{0,20}") {
            let folded = FoldedText::fold_by_letters(&text);
            prop_assert_eq!(folded.original_index.len(), folded.text.len());
            prop_assert!(folded.original_index.iter().all(|origin| *origin < text.chars().count()));
        }
    }
}
