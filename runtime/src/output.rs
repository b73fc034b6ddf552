//! How commands print what they found: as a table for people, as JSON or YAML for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
}

/// The flag of every command that prints what it found.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// How the answer is written.
    #[arg(short, long, value_enum, default_value_t = Format::Table)]
    pub output: Format,
}

/// [`OutputArgs`] of a command that was told to write JSON by a switch of its own before.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputOrJsonArgs {
    #[command(flatten)]
    args: OutputArgs,
    /// The same as `--output json`.
    #[arg(long, hide = true, conflicts_with = "output")]
    json: bool,
}

impl OutputOrJsonArgs {
    /// As what it is written.
    pub const fn args(&self) -> OutputArgs {
        if self.json { OutputArgs { output: Format::Json } } else { self.args }
    }
}

impl OutputArgs {
    /// Prints `value`, or what `table` makes of it.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn print(self, value: &Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        self.write(&mut io::stdout(), value, table)
    }

    /// Writes `value`, or what `table` makes of it, to `out`.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write(
        self,
        out: &mut impl Write,
        value: &Value,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        let text = match self.output {
            Format::Table => table(),
            Format::Json => format!("{value:#}\n"),
            Format::Yaml => serde_yaml::to_string(value)?,
        };
        out.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// A list whose items are written one by one: there may be more of them than memory holds. For programs it is one value.
#[derive(Debug)]
pub struct Items {
    format: Format,
    count: u64,
}

impl Items {
    /// None yet.
    pub const fn new(format: Format) -> Self {
        Self { format, count: 0 }
    }

    /// Writes the next one, or what `line` makes of it.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn next(
        &mut self,
        out: &mut impl Write,
        item: &impl Serialize,
        line: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            Format::Table => writeln!(out, "{}", line())?,
            Format::Json => {
                let open = if self.count == 0 { "[" } else { "," };
                write!(out, "{open}\n  {}", serde_json::to_string(item)?)?;
            }
            Format::Yaml => write!(out, "{}", serde_yaml::to_string(&[item])?)?,
        }
        self.count += 1;
        Ok(())
    }

    /// Ends the list, for people with the line that `last` makes of how many there were.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn end(self, out: &mut impl Write, last: impl FnOnce(u64) -> String) -> anyhow::Result<()> {
        match (self.format, self.count) {
            (Format::Table, count) => writeln!(out, "{}", last(count))?,
            (Format::Json | Format::Yaml, 0) => writeln!(out, "[]")?,
            (Format::Json, _) => writeln!(out, "\n]")?,
            (Format::Yaml, _) => {}
        }
        Ok(())
    }
}

/// Rows below a head, each column as wide as it needs.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let cell = |row: &[String], at: usize| row.get(at).cloned().unwrap_or_default();
    let head: Vec<String> = head.iter().map(|name| name.to_uppercase()).collect();
    let all: Vec<&[String]> = std::iter::once(&head[..]).chain(rows.iter().map(Vec::as_slice)).collect();
    let width = |at: usize| all.iter().map(|row| cell(row, at).chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for row in all {
        let mut line = String::new();
        for (at, width) in widths.iter().copied().enumerate() {
            let _ = write!(line, "{:width$}  ", cell(row, at));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = [vec!["reader-1".to_owned(), "5".to_owned()], vec!["ä".to_owned(), String::new()]];
        assert_eq!(table(&["id", "viewers"], &rows), "ID        VIEWERS\nreader-1  5\nä\n");
    }
}
