//! Formats numbers, durations and tables for people.

use jiff::Timestamp;

/// Formats a number with commas between thousands, such as `1,234,567`.
pub fn with_commas(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// Formats a duration in seconds as kubectl formats an age, such as `12s`, `3m`, `5h` or `2d`; with a second unit if
/// the first is below 10.
pub fn short_duration(seconds: i64) -> String {
    let seconds = seconds.max(0);
    let two = |big: i64, unit: char, small: i64, part: char| {
        if big < 10 && small > 0 { format!("{big}{unit}{small}{part}") } else { format!("{big}{unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => two(seconds / 60, 'm', seconds % 60, 's'),
        7200..172_800 => two(seconds / 3600, 'h', seconds % 3600 / 60, 'm'),
        _ => two(seconds / 86_400, 'd', seconds % 86_400 / 3600, 'h'),
    }
}

/// Formats the time between `then` and `now`, such as `3m ago`.
pub fn time_ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", short_duration(now.as_second() - then.as_second()))
}

/// A text table. Each column is as wide as its widest cell; columns of numbers are aligned to the right.
#[derive(Debug)]
pub struct TextTable {
    right_aligned: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// Creates a table with these column heads; a head that begins with `>` marks a column of numbers.
    pub fn new(heads: &[&str]) -> Self {
        Self {
            right_aligned: heads.iter().map(|head| head.starts_with('>')).collect(),
            rows: vec![heads.iter().map(|head| head.trim_start_matches('>').to_owned()).collect()],
        }
    }

    /// Appends a row; missing cells are empty.
    pub fn add_row(&mut self, cells: impl IntoIterator<Item = String>) {
        let mut row: Vec<String> = cells.into_iter().collect();
        row.resize(self.right_aligned.len(), String::new());
        self.rows.push(row);
    }

    /// Returns the table's lines, each preceded by `indent`.
    pub fn render(&self, indent: &str) -> String {
        let width =
            |column: usize| self.rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..self.right_aligned.len()).map(width).collect();
        let mut out = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right_aligned).map(|((cell, &width), right)| {
                if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
            });
            let line = cells.collect::<Vec<_>>().join("  ");
            out.push_str(format!("{indent}{line}").trim_end());
            out.push('\n');
        }
        out
    }
}

/// Wraps `text` into lines of at most `width` characters; all lines but the first begin with `indent`.
pub fn wrap_lines(text: &str, indent: &str, width: usize) -> String {
    let mut out = String::new();
    let mut length = 0;
    for word in text.split_whitespace() {
        let more = word.chars().count();
        if length > 0 && length + 1 + more > width {
            out.push('\n');
            out.push_str(indent);
            length = 0;
        } else if length > 0 {
            out.push(' ');
            length += 1;
        }
        out.push_str(word);
        length += more;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::{TextTable, short_duration, with_commas, wrap_lines};

    #[test]
    fn thousands_are_separated_by_commas() {
        let all = [0, 999, 1000, 12_345, 1_234_567].map(with_commas);
        assert_eq!(all, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }

    #[test]
    fn durations_are_written_short() {
        let all = [-5, 0, 119, 120, 185, 3600, 7200, 9000, 172_800, 180_000, 2_000_000].map(short_duration);
        assert_eq!(all, ["0s", "0s", "119s", "2m", "3m5s", "60m", "2h", "2h30m", "2d", "2d2h", "23d"]);
    }

    #[test]
    fn columns_are_aligned() {
        let mut table = TextTable::new(&["NAME", ">VIEWERS", "WHY"]);
        table.add_row(["a".into(), "12,000".into()]);
        table.add_row(["longer".into(), "5".into(), "so".into()]);
        assert_eq!(table.render("  "), "  NAME    VIEWERS  WHY\n  a        12,000\n  longer        5  so\n");
    }

    #[test]
    fn long_lines_are_wrapped() {
        assert_eq!(wrap_lines("one two three four", "    ", 9), "one two\n    three\n    four");
        assert_eq!(wrap_lines("", "  ", 9), "");
    }
}
