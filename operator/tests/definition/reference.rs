//! Tests the reference of the resource, `docs/resource.md`, which is made from the installed schema.

use std::fmt::Write;

use serde_json::{Map, Value};

use super::{FOREIGN_FIELDS, printed_schema};

const INTRODUCTION: &str = "\
# The resource: RankingCluster

Made from the schema in [crds/rankingcluster.yaml](../crds/rankingcluster.yaml); a test compares this file with it (`UPDATE_DOCS=1 cargo
test -p liverank-operator --test definition` writes it anew). `kubectl explain rankingcluster.spec` prints the same of an installed one.
Where there is no default, the table has a dash. What each condition and event means: [operations](operations.md#conditions).

";

/// Blocks that components share. Each is shown once if it is the same in all of them.
const SHARED_BLOCKS: [&str; 5] = ["autoscaling", "pdb", "pod", "service", "serviceAccount"];

/// A table of fields, and the rules by which the API server checks them.
#[derive(Default)]
struct Section {
    rows: String,
    rules: String,
}

impl Section {
    /// Adds the field `path` and all fields below it, without blocks that `is_shown_elsewhere` names.
    fn add(
        &mut self,
        path: &str,
        field: &Value,
        required: bool,
        is_shown_elsewhere: &dyn Fn(&str, &Value) -> bool,
    ) {
        let name = path.rsplit('.').next().unwrap_or(path).trim_end_matches("[]");
        let elsewhere = is_shown_elsewhere(name, field);
        let meaning = cell(field["description"].as_str().unwrap_or_default());
        let link =
            if elsewhere { format!(" [Its fields](#{}).", name.to_lowercase()) } else { String::new() };
        let required = if required { " Required." } else { "" };
        let _ = writeln!(
            self.rows,
            "| `{path}` | {} | {} | {meaning}{required}{} {link}|",
            type_of(field),
            default_of(field),
            bounds_of(field)
        );
        for rule in field["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let _ =
                writeln!(self.rules, "- `{path}`: {}", cell(rule["message"].as_str().unwrap_or_default()));
        }
        if !elsewhere && !FOREIGN_FIELDS.contains(&name) {
            self.add_below(path, field, is_shown_elsewhere);
            if field["items"]["properties"].is_object() {
                self.add_below(&format!("{path}[]"), &field["items"], is_shown_elsewhere);
            }
        }
    }

    fn add_below(&mut self, path: &str, field: &Value, is_shown_elsewhere: &dyn Fn(&str, &Value) -> bool) {
        for (name, below) in properties(field) {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            self.add(&path, below, is_required(field, name), is_shown_elsewhere);
        }
    }

    fn write(&self, text: &mut String) {
        let _ = writeln!(text, "| field | type | default | meaning |\n|---|---|---|---|\n{}", self.rows);
        if !self.rules.is_empty() {
            let _ = writeln!(text, "What the API server refuses:\n\n{}", self.rules);
        }
    }
}

fn properties(field: &Value) -> impl Iterator<Item = (&String, &Value)> {
    field["properties"].as_object().into_iter().flat_map(Map::iter)
}

fn is_required(parent: &Value, name: &str) -> bool {
    parent["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name))
}

fn type_of(field: &Value) -> String {
    match field["type"].as_str() {
        Some("array") => format!("list of {}", field["items"]["type"].as_str().unwrap_or("object")),
        Some("object") if field["additionalProperties"].is_object() => "map".to_owned(),
        Some(name) => name.to_owned(),
        None => "integer or string".to_owned(),
    }
}

fn default_of(field: &Value) -> String {
    let default = &field["default"];
    let is_plain =
        !default.is_null() && *default != serde_json::json!({}) && *default != serde_json::json!([]);
    if is_plain {
        format!("`{}`", default.as_str().map_or_else(|| default.to_string(), str::to_owned))
    } else {
        "–".to_owned()
    }
}

/// Returns the values that a field allows, in words: the words of a list, or the numbers from and to.
fn bounds_of(field: &Value) -> String {
    if let Some(words) = field["enum"].as_array() {
        let words: Vec<String> =
            words.iter().filter_map(Value::as_str).map(|word| format!("`{word}`")).collect();
        return format!(" One of {}.", words.join(", "));
    }
    match (&field["minimum"], &field["maximum"]) {
        (Value::Number(least), Value::Number(most)) => format!(" {least} to {most}."),
        (Value::Number(least), _) => format!(" {least} or more."),
        _ => String::new(),
    }
}

/// Returns the text of a table's cell: on one line, and without characters that Markdown takes for the end of a cell or
/// for a tag.
fn cell(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('<', "&lt;")
}

fn reference() -> String {
    let schema = printed_schema();
    let spec = &schema["properties"]["spec"];
    let components: Vec<(&String, &Value)> =
        properties(spec).filter(|(_, field)| field["properties"]["pod"].is_object()).collect();
    let shared_block = |name: &str| {
        let mut found = components
            .iter()
            .map(|(_, component)| &component["properties"][name])
            .filter(|it| it.is_object());
        let first = found.next()?;
        found.all(|other| other["properties"] == first["properties"]).then_some(first)
    };
    let is_shared = |name: &str, _: &Value| SHARED_BLOCKS.contains(&name) && shared_block(name).is_some();
    let mut text = String::from(INTRODUCTION);

    let mut plain = Section::default();
    let has_own_section =
        |field: &Value| field["properties"].is_object() || field["items"]["properties"].is_object();
    for (name, field) in properties(spec).filter(|(_, field)| !has_own_section(field)) {
        plain.add(name, field, is_required(spec, name), &is_shared);
    }
    text.push_str("## spec\n\n");
    plain.write(&mut text);
    for (name, field) in properties(spec).filter(|(_, field)| has_own_section(field)) {
        let _ = writeln!(text, "## spec.{name}\n");
        let mut section = Section::default();
        section.add(name, field, is_required(spec, name), &is_shared);
        section.write(&mut text);
    }
    text.push_str("# What components share\n\n");
    for name in SHARED_BLOCKS {
        if let Some(block) = shared_block(name) {
            let _ = writeln!(text, "## {name}\n");
            let mut section = Section::default();
            section.add_below("", block, &|_, _| false);
            section.write(&mut text);
        }
    }
    text.push_str("# What the operator says\n\n## status\n\n");
    let mut section = Section::default();
    section.add_below("", &schema["properties"]["status"], &|_, _| false);
    section.write(&mut text);
    text.trim_end().replace("  |", " |") + "\n"
}

#[test]
fn the_reference_of_the_resource_is_that_of_the_schema() {
    let text = reference();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/resource.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == text, "docs/resource.md differs: UPDATE_DOCS=1 writes it anew");
    for field in ["`kafka.bootstrapServers`", "`readers.maxReplicas`", "## pod", "## status"] {
        assert!(text.contains(field), "{field} is missing");
    }
}
