//! Tests `docs/v1beta1.md`, the page that says what is called otherwise in v1beta1; it is made from the table.

use std::fmt::Write as _;

use liverank_operator::crd::v1beta1::table::{CHANGES, FieldChange, Form, RULES};
use liverank_operator::crd::v1beta1::{Version, to_v1beta1};

use super::{RESOURCES, resource, spec_schema};

const INTRODUCTION: &str = "\
# The resource in v1beta1

`liverank.dev/v1beta1` is the resource of [the reference](resource.md) under the names that Kubernetes users expect. What stands in no table here is
the same in both versions; nothing is lost from one to the other. How it is served, and what then depends on the operator:
[operations](operations.md#v1beta1). Manifests are rewritten by `kubectl liverank convert -f live.yaml` (comments are lost), or back with `--to v1alpha1`.
This page is made from the table in [table.rs](../operator/src/crd/v1beta1/table.rs); a test compares it (`UPDATE_DOCS=1 cargo test -p
liverank-operator --test versions` writes it anew).

Durations are numbers with a unit, such as `30s`, `5m`, `1h30m` or `500ms`. However they are written, they are read back in one way: the longest
units first (`90s` as `1m30s`). `kubectl explain --api-version=liverank.dev/v1beta1 rankingcluster.spec` prints every field of a served one.

";

/// Returns the form of a field in words.
fn form(change: &FieldChange) -> String {
    match change.form {
        Form::Same => String::new(),
        Form::Word { yes, no } => format!("`true` is `{yes}`, `false` is `{no}`"),
        Form::Duration(unit) => format!("a duration for a number of {}", unit.name()),
    }
}

/// Returns the path in v1beta1 of an object at a path of v1alpha1.
fn renamed(parent: &str) -> String {
    let (mut at, mut path) = (String::new(), String::new());
    for part in parent.split('.').filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]");
        let change = CHANGES.iter().find(|it| it.parents.contains(&at.as_str()) && it.old == name);
        path += change.map_or(name, |it| it.new);
        path += &part[name.len()..];
        path.push('.');
        at = if at.is_empty() { part.to_owned() } else { format!("{at}.{part}") };
    }
    path
}

/// Returns an object's name for the table: one for all components that have the same.
fn shown(parent: &str, all: usize) -> String {
    match parent.split_once('.') {
        _ if all == 1 => parent.to_owned(),
        Some((_, rest)) => format!("COMPONENT.{rest}"),
        None => "COMPONENT".to_owned(),
    }
}

fn page() -> String {
    let mut text = INTRODUCTION.to_owned();
    text.push_str("## Fields\n\n`COMPONENT` stands for each component that has the field.\n\n");
    text.push_str("| v1alpha1 | v1beta1 | |\n|---|---|---|\n");
    for change in CHANGES {
        // The components are the same; other objects with a field of one name have a line each.
        let of_components = change.parents.len() > 1 && change.parents[0].starts_with("gateway");
        let (parents, all) = if of_components { (&change.parents[..1], 2) } else { (change.parents, 1) };
        for parent in parents {
            let old = shown(parent, all);
            let old = if old.is_empty() { change.old.to_owned() } else { format!("{old}.{}", change.old) };
            let new = renamed(parent) + change.new;
            let new = if of_components { new.replacen("gateway", "COMPONENT", 1) } else { new };
            let _ = writeln!(text, "| `{old}` | `{new}` | {} |", form(change));
        }
    }
    text.push_str("\n## What the API server refuses in other words\n\n| v1alpha1 | v1beta1 |\n|---|---|\n");
    let messages = messages();
    for change in RULES {
        let former = messages.iter().find(|(rule, _)| rule == change.old).map_or("", |(_, message)| message);
        if former != change.message {
            let _ = writeln!(text, "| {former} | {} |", change.message);
        }
    }
    text.push_str("\n## An example\n\n```yaml\n");
    let mut example = resource(RESOURCES[2]);
    example["apiVersion"] = Version::V1beta1.api_version().into();
    example["spec"] = to_v1beta1(&example["spec"]).unwrap();
    for part in ["uid", "generation"] {
        example["metadata"].as_object_mut().unwrap().remove(part);
    }
    example.sort_all_objects();
    text + &serde_yaml::to_string(&example).unwrap() + "```\n"
}

/// Returns the rules of v1alpha1 with their messages.
fn messages() -> Vec<(String, String)> {
    let mut found = Vec::new();
    super::schema::visit(spec_schema(Version::V1alpha1), "", &mut |_, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
            found.push((text("rule"), text("message")));
        }
    });
    found
}

#[test]
fn the_page_of_v1beta1_is_that_of_the_table() {
    let text = page().replace("|  |", "| |");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/v1beta1.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    let stored = std::fs::read_to_string(path).unwrap_or_default();
    assert!(stored == text, "docs/v1beta1.md differs: UPDATE_DOCS=1 writes it anew");
}
