//! How commands print what they found: as a table for people, as JSON or YAML for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
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
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
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
        if self.json { OutputArgs { output: OutputFormat::Json } } else { self.args }
    }
}

impl OutputArgs {
    /// Prints `value`, or what `table` makes of it.
    ///
    /// # Errors
    /// Nobody reads it any more.
    pub fn print_value(self, value: &Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        self.write_value(&mut io::stdout(), value, table)
    }

    /// Writes `value`, or what `table` makes of it, to `out`.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write_value(
        self,
        out: &mut impl Write,
        value: &Value,
        table: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        let text = match self.output {
            OutputFormat::Table => table(),
            OutputFormat::Json => format!("{value:#}\n"),
            OutputFormat::Yaml => serde_yaml::to_string(value)?,
        };
        out.write_all(text.as_bytes())?;
        Ok(())
    }
}

/// A list whose items are written one by one: there may be more of them than memory holds. For programs it is one value.
#[derive(Debug)]
pub struct ItemWriter {
    format: OutputFormat,
    item_count: u64,
}

impl ItemWriter {
    /// None yet.
    pub const fn new(format: OutputFormat) -> Self {
        Self { format, item_count: 0 }
    }

    /// Writes the next one, or what `line` makes of it.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn write_item(
        &mut self,
        out: &mut impl Write,
        item: &impl Serialize,
        line: impl FnOnce() -> String,
    ) -> anyhow::Result<()> {
        match self.format {
            OutputFormat::Table => writeln!(out, "{}", line())?,
            OutputFormat::Json => {
                let open = if self.item_count == 0 { "[" } else { "," };
                write!(out, "{open}\n  {}", serde_json::to_string(item)?)?;
            }
            OutputFormat::Yaml => write!(out, "{}", serde_yaml::to_string(&[item])?)?,
        }
        self.item_count += 1;
        Ok(())
    }

    /// Ends the list, for people with the line that `last` makes of how many there were.
    ///
    /// # Errors
    /// `out` takes no more.
    pub fn end_list(self, out: &mut impl Write, last: impl FnOnce(u64) -> String) -> anyhow::Result<()> {
        match (self.format, self.item_count) {
            (OutputFormat::Table, count) => writeln!(out, "{}", last(count))?,
            (OutputFormat::Json | OutputFormat::Yaml, 0) => writeln!(out, "[]")?,
            (OutputFormat::Json, _) => writeln!(out, "\n]")?,
            (OutputFormat::Yaml, _) => {}
        }
        Ok(())
    }
}

/// Rows below a head, each column as wide as it needs.
pub fn format_table(head: &[&str], rows: &[Vec<String>]) -> String {
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
        assert_eq!(format_table(&["id", "viewers"], &rows), "ID        VIEWERS\nreader-1  5\nä\n");
    }
}
