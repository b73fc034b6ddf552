//! The output of commands: a table for people, JSON or YAML for programs.

use std::fmt::Write as _;
use std::io::{self, Write};

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

/// The format in which a command writes its result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum OutputFormat {
    /// A table, for people.
    Table,
    /// One JSON value.
    Json,
    /// One YAML document.
    Yaml,
}

/// The flag `--output` of every command that prints a result.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputArgs {
    /// The format of the output.
    #[arg(short, long, value_enum, default_value_t = OutputFormat::Table)]
    pub output: OutputFormat,
}

/// [`OutputArgs`] for a command that used to have a flag `--json` instead.
#[derive(Debug, Clone, Copy, Args)]
pub struct OutputOrJsonArgs {
    #[command(flatten)]
    args: OutputArgs,
    /// The same as `--output json`.
    #[arg(long, hide = true, conflicts_with = "output")]
    json: bool,
}

impl OutputOrJsonArgs {
    /// Returns the output format that the two flags choose together.
    pub const fn args(&self) -> OutputArgs {
        if self.json { OutputArgs { output: OutputFormat::Json } } else { self.args }
    }
}

impl OutputArgs {
    /// Prints `value` as JSON or YAML, or the text that `table` returns, to standard output.
    ///
    /// # Errors
    /// Standard output is closed.
    pub fn print_value(self, value: &Value, table: impl FnOnce() -> String) -> anyhow::Result<()> {
        self.write_value(&mut io::stdout(), value, table)
    }

    /// Writes `value` as JSON or YAML, or the text that `table` returns, to `out`.
    ///
    /// # Errors
    /// Writing to `out` failed.
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

/// Writes a list item by item, because there may be more items than memory holds. In JSON and YAML the whole list is
/// one value.
#[derive(Debug)]
pub struct ItemWriter {
    format: OutputFormat,
    item_count: u64,
}

impl ItemWriter {
    /// Creates the writer of a list, before its first item.
    pub const fn new(format: OutputFormat) -> Self {
        Self { format, item_count: 0 }
    }

    /// Writes the next item as JSON or YAML, or the line that `line` returns for a table.
    ///
    /// # Errors
    /// Writing to `out` failed.
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

    /// Ends the list. In a table, writes the line that `last` returns for the number of items.
    ///
    /// # Errors
    /// Writing to `out` failed.
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

/// Formats rows below a header line in capitals; each column is as wide as its longest cell.
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
