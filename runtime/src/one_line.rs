//! JSON on one line, for consumers that split text into lines at any Unicode line break.
//!
//! JSON leaves U+0085, U+2028 and U+2029 unescaped, and many libraries take these for the end of a line (Python's
//! `splitlines`, and with it clients of server-sent events). Escaped, these characters mean the same in JSON.

use serde::Serialize;

/// The characters that some libraries take for a line break and that JSON allows in a string unescaped.
const LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// Returns `value` as JSON text in which these line breaks are escaped.
pub fn to_json_line(value: &impl Serialize) -> String {
    let json = serde_json::to_string(value).expect("strings and numbers always serialise");
    if !json.contains(LINE_BREAKS) {
        return json;
    }
    let mut line = String::with_capacity(json.len() + 16);
    for part in json.split_inclusive(LINE_BREAKS) {
        let (text, escape) = match part.char_indices().next_back() {
            Some((at, '\u{85}')) => (&part[..at], "\\u0085"),
            Some((at, '\u{2028}')) => (&part[..at], "\\u2028"),
            Some((at, '\u{2029}')) => (&part[..at], "\\u2029"),
            _ => (part, ""),
        };
        line.push_str(text);
        line.push_str(escape);
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_breaks_are_escaped_and_the_json_is_equal() {
        let text = "a\u{2028}b\u{2029}\u{85}ü\n\u{b}\u{c}\r\u{1e}";
        let line = to_json_line(&text);
        assert_eq!(line, r#""a\u2028b\u2029\u0085ü\n\u000b\f\r\u001e""#);
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), text);
        assert_eq!(to_json_line(&"plain"), "\"plain\"");
    }
}
