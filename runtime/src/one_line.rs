//! JSON on one line, for readers that split text into lines by every rule there is.
//!
//! JSON leaves U+0085, U+2028 and U+2029 as they are, and many a reader of lines takes them for the end of one (Python's
//! `splitlines`, and with it clients of server-sent events). Escaped they mean the same.

use serde::Serialize;

/// What ends a line for some, and may stand in a JSON string.
const LINE_BREAKS: [char; 3] = ['\u{85}', '\u{2028}', '\u{2029}'];

/// `value` as JSON that no reader breaks into lines.
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
