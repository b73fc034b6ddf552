//! The flags by which consumers, gateways and WebSocket services are told which boards are declared.

use std::path::PathBuf;

use anyhow::Context;
use liverank_core::boards::DeclaredBoards;
use serde_json::Value;

/// The flags that declare the boards beside `global` and `trending`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct BoardsArgs {
    /// Boards beside global and trending: a list, as JSON or YAML (docs/rankings.md). The same for consumers, gateways and
    /// WebSocket services.
    #[arg(
        long,
        env = "LIVERANK_BOARDS",
        help_heading = "Boards",
        value_name = "BOARDS",
        conflicts_with = "boards_file"
    )]
    pub boards: Option<String>,
    /// A file with the same list as --boards. It is read at the start.
    #[arg(long, env = "LIVERANK_BOARDS_FILE", help_heading = "Boards", value_name = "FILE")]
    pub boards_file: Option<PathBuf>,
}

impl BoardsArgs {
    /// Reads the declared boards from the flag or the file; returns no boards if neither is set.
    ///
    /// # Errors
    /// The file cannot be read, or a declaration is wrong: the error names the board and the member.
    pub fn read_declarations(&self) -> anyhow::Result<DeclaredBoards> {
        match (&self.boards, &self.boards_file) {
            // Docker Compose passes a variable that nobody has set as an empty text.
            (Some(text), _) if !text.trim().is_empty() => parse_declarations(text).context("--boards"),
            (_, Some(file)) if !file.as_os_str().is_empty() => {
                let text = std::fs::read_to_string(file);
                let text = text.with_context(|| format!("reading --boards-file {}", file.display()))?;
                parse_declarations(&text).with_context(|| format!("--boards-file {}", file.display()))
            }
            _ => Ok(DeclaredBoards::default()),
        }
    }
}

fn parse_declarations(text: &str) -> anyhow::Result<DeclaredBoards> {
    // JSON is YAML, too, so one parser reads both.
    let value: Value = serde_yaml::from_str(text).context("is no YAML")?;
    Ok(DeclaredBoards::from_json(&value)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(args: &BoardsArgs) -> Vec<String> {
        args.read_declarations().unwrap().iter().map(|board| board.name().to_owned()).collect()
    }

    #[test]
    fn boards_are_read_from_a_text_and_from_a_file() {
        assert!(BoardsArgs::default().read_declarations().unwrap().is_empty());
        let empty = BoardsArgs { boards: Some(String::new()), boards_file: Some(PathBuf::new()) };
        assert!(empty.read_declarations().unwrap().is_empty());
        let text = r#"[{"name": "cats", "category": "cats"}]"#;
        assert_eq!(names(&BoardsArgs { boards: Some(text.into()), boards_file: None }), ["cats"]);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "- name: liked\n  weights: {like: 1}\n- {name: b, order: trending}\n")
            .unwrap();
        let of_file = BoardsArgs { boards: None, boards_file: Some(file.path().to_owned()) };
        assert_eq!(names(&of_file), ["liked", "b"]);
        std::fs::write(file.path(), "- name: liked\n  weights: {likes: 1}\n").unwrap();
        let error = format!("{:#}", of_file.read_declarations().unwrap_err());
        assert!(error.contains("--boards-file") && error.contains("weights of board 1"), "{error}");
    }
}
