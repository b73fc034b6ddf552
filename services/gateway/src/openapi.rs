//! The documents of the API, written by hand in `openapi/`: one for all HTTP endpoints of the gateway and of every
//! other service (`OpenAPI` 3.1), and one for the messages of streams (`AsyncAPI` 3.0), which uses the same schemas.
//!
//! Clients get the public part of the first document. The messages between our own processes are in the whole document
//! only.

use std::collections::BTreeSet;
use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use serde_json::{Map, Value};

/// The source of the `OpenAPI` document, in YAML.
const OPENAPI_SOURCE: &str = include_str!("../openapi/openapi.yaml");
/// The source of the `AsyncAPI` document, in YAML.
const ASYNCAPI_SOURCE: &str = include_str!("../openapi/asyncapi.yaml");
/// Tags of operations that are not in the public part of the document.
const INTERNAL_TAGS: [&str; 2] = ["internal", "orders"];

static WHOLE_JSON: LazyLock<String> = LazyLock::new(|| whole_document().to_string());
static PUBLIC_JSON: LazyLock<String> = LazyLock::new(|| public_document().to_string());
static STREAMS_JSON: LazyLock<String> = LazyLock::new(|| streams_document().to_string());
static STREAMS_YAML: LazyLock<String> =
    LazyLock::new(|| serde_yaml::to_string(&streams_document()).expect("JSON can be written as YAML"));

/// Returns the whole `OpenAPI` document.
pub fn whole_document() -> Value {
    parse_yaml(OPENAPI_SOURCE)
}

/// Returns the public part of the `OpenAPI` document: the operations for clients, and the components that they refer
/// to.
pub fn public_document() -> Value {
    let mut document = whole_document();
    let is_internal = |tag: &Value| tag.as_str().is_some_and(|tag| INTERNAL_TAGS.contains(&tag));
    if let Some(paths) = document["paths"].as_object_mut() {
        for item in paths.values_mut().filter_map(Value::as_object_mut) {
            item.retain(|_, member| {
                !member["tags"].as_array().is_some_and(|tags| tags.iter().any(is_internal))
            });
        }
        paths.retain(|_, item| {
            item.as_object().is_some_and(|item| item.values().any(|it| it["responses"].is_object()))
        });
    }
    if let Some(tags) = document["tags"].as_array_mut() {
        tags.retain(|tag| !is_internal(&tag["name"]));
    }
    let roots = document["paths"].clone();
    keep_needed(&mut document, &roots);
    document
}

/// Returns the `AsyncAPI` document, which describes the messages of streams.
pub fn streams_document() -> Value {
    let mut streams = parse_yaml(ASYNCAPI_SOURCE);
    let messages = streams["components"]["messages"].clone();
    let schemes = streams["components"]["securitySchemes"].take();
    streams["components"]["schemas"] = whole_document()["components"]["schemas"].take();
    keep_needed(&mut streams, &messages);
    streams["components"]["messages"] = messages;
    streams["components"]["securitySchemes"] = schemes;
    streams
}

fn parse_yaml(source: &str) -> Value {
    let mut source: serde_yaml::Value = serde_yaml::from_str(source).expect("a test reads what is built in");
    source.apply_merge().expect("merged parts are mappings");
    serde_json::to_value(source).expect("its keys are strings")
}

/// Removes the components to which no reference in `roots` leads, directly or through other components.
fn keep_needed(document: &mut Value, roots: &Value) {
    let mut needed = BTreeSet::new();
    let mut todo = vec![roots.clone()];
    while let Some(value) = todo.pop() {
        let mut found = BTreeSet::new();
        collect_references(&value, &mut found);
        for name in found.difference(&needed.clone()) {
            let (kind, name) = name;
            todo.push(document["components"][kind][name].clone());
            needed.insert((kind.clone(), name.clone()));
        }
    }
    if let Some(components) = document["components"].as_object_mut() {
        for (kind, members) in components.iter_mut() {
            if let Some(members) = members.as_object_mut() {
                members.retain(|name, _| needed.contains(&(kind.clone(), name.clone())));
            }
        }
        components.retain(|_, members| members.as_object().is_some_and(|members| !members.is_empty()));
    }
}

/// Adds to `found` the components to which a value refers, as kind and name: by `$ref`, or as a scheme in `security`.
fn collect_references(value: &Value, found: &mut BTreeSet<(String, String)>) {
    match value {
        Value::Object(members) => {
            if let Some(at) = members.get("$ref").and_then(Value::as_str)
                && let Some((kind, name)) =
                    at.strip_prefix("#/components/").and_then(|rest| rest.split_once('/'))
            {
                found.insert((kind.to_owned(), name.to_owned()));
            }
            for scheme in members.get("security").and_then(Value::as_array).into_iter().flatten() {
                let names = scheme.as_object().into_iter().flat_map(Map::keys);
                found.extend(names.map(|name| ("securitySchemes".to_owned(), name.clone())));
            }
            members.values().for_each(|member| collect_references(member, found));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, found)),
        _ => {}
    }
}

type ServedText = ([(HeaderName, &'static str); 2], &'static str);

fn serve_text(kind: &'static str, text: &'static str) -> ServedText {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "no-cache")], text)
}

/// Answers `GET /openapi.json` with the public part of the `OpenAPI` document.
pub(crate) async fn serve_public_openapi() -> ServedText {
    serve_text("application/json", &PUBLIC_JSON)
}

/// Answers `GET /openapi-internal.json` with the whole `OpenAPI` document.
pub(crate) async fn serve_whole_openapi() -> ServedText {
    serve_text("application/json", &WHOLE_JSON)
}

/// Answers `GET /asyncapi.yaml` with the document of streams.
pub(crate) async fn serve_asyncapi_yaml() -> ServedText {
    serve_text("application/yaml", &STREAMS_YAML)
}

/// Answers `GET /asyncapi.json` with the document of streams, for the page at `/docs`.
pub(crate) async fn serve_asyncapi_json() -> ServedText {
    serve_text("application/json", &STREAMS_JSON)
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    /// Collects every `$ref` in the document, with the path at which it is.
    fn all_references<'a>(value: &'a Value, at: &str, found: &mut Vec<(String, &'a str)>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let ("$ref", Some(target)) = (name.as_str(), member.as_str()) {
                        found.push((at.to_owned(), target));
                    }
                    all_references(member, &format!("{at}/{name}"), found);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    all_references(item, &format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        for (document, least) in [(whole_document(), 50), (public_document(), 50), (streams_document(), 15)] {
            let mut found = Vec::new();
            all_references(&document, "", &mut found);
            assert!(found.len() > least, "{}", found.len());
            for (at, target) in found {
                let pointer = target.strip_prefix('#').expect("references stay in the document");
                assert!(document.pointer(pointer).is_some(), "{at}: {target} leads nowhere");
            }
        }
    }

    #[test]
    fn every_operation_is_named_once_and_says_what_it_does() {
        let document = whole_document();
        let mut names = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                if ["parameters", "servers"].contains(&method.as_str()) {
                    continue;
                }
                let name = operation["operationId"].as_str().unwrap_or_else(|| panic!("{method} {path}"));
                assert!(names.insert(name), "{name} is there twice");
                assert!(operation["summary"].is_string(), "{name} has no summary");
                assert!(operation["tags"][0].is_string(), "{name} belongs nowhere");
                assert!(operation["responses"].is_object(), "{name} answers nothing");
            }
        }
        assert!(names.len() > 25, "{}", names.len());
    }

    #[test]
    fn clients_are_shown_nothing_internal() {
        let public = public_document();
        assert!(public["paths"]["/interact"].is_object() && public["paths"]["/connect"].is_object());
        for path in ["/heartbeat", "/moves", "/warm", "/metrics", "/plan"] {
            assert!(whole_document()["paths"][path].is_object(), "{path}");
            assert!(public["paths"][path].is_null(), "{path}");
        }
        for scheme in ["processToken", "readerTicket"] {
            assert!(public["components"]["securitySchemes"][scheme].is_null(), "{scheme}");
        }
        assert!(public["components"]["schemas"]["ReaderRecord"].is_null());
    }

    /// Collects the paths of properties without a description.
    fn properties_without_description(value: &Value, at: &str, found: &mut Vec<String>) {
        let Value::Object(members) = value else {
            if let Value::Array(items) = value {
                for item in items {
                    properties_without_description(item, at, found);
                }
            }
            return;
        };
        for (name, member) in members {
            let here = format!("{at}/{name}");
            // Members of examples may have any name.
            if ["example", "examples"].contains(&name.as_str()) {
                continue;
            }
            if let ("properties", Some(properties)) = (name.as_str(), member.as_object()) {
                let silent = properties.iter().filter(|(_, property)| !property["description"].is_string());
                found.extend(silent.map(|(name, _)| format!("{here}/{name}")));
            }
            properties_without_description(member, &here, found);
        }
    }

    #[test]
    fn every_property_says_what_it_means() {
        for document in [public_document(), streams_document()] {
            let mut found = Vec::new();
            properties_without_description(&document, "", &mut found);
            assert_eq!(found, Vec::<String>::new());
        }
    }

    const API_INTRODUCTION: &str = "\
# API

Made from [services/gateway/openapi](../services/gateway/openapi); a test compares this file with it (`UPDATE_DOCS=1 cargo test -p
liverank-gateway the_document_of_the_api` writes it anew). A running gateway has all of it, with fields, bounds, examples and errors:

| address | what it is |
|---|---|
| `/docs` | the API as a page |
| `/openapi.json` | OpenAPI 3.1 of what is for the public; `/openapi-internal.json` has what our own processes say to each other as well |
| `/asyncapi.yaml`, `/asyncapi.json` | AsyncAPI 3.0 of the streams |

";

    /// Appends a table with one line for each operation of a tag.
    fn write_operations(text: &mut String, paths: &Value, tag: &str) {
        text.push_str("| | |\n|---|---|\n");
        for (path, item) in paths.as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap().iter().filter(|(_, it)| it["tags"][0] == tag)
            {
                let (method, summary) = (method.to_uppercase(), operation["summary"].as_str().unwrap());
                let _ = writeln!(text, "| `{method} {path}` | {} |", summary.replace('|', "\\|"));
            }
        }
        text.push('\n');
    }

    fn api_document() -> String {
        let mut text = String::from(API_INTRODUCTION);
        let public = public_document();
        for tag in public["tags"].as_array().unwrap() {
            let (name, description) = (tag["name"].as_str().unwrap(), tag["description"].as_str().unwrap());
            let _ = writeln!(text, "## {name}\n\n{description}\n");
            write_operations(&mut text, &public["paths"], name);
        }
        text.push_str("## What streams carry\n\n| address | message | |\n|---|---|---|\n");
        let streams = streams_document();
        for channel in streams["channels"].as_object().unwrap().values() {
            let address = channel["address"].as_str().unwrap();
            for message in channel["messages"].as_object().unwrap().values() {
                let name = message["$ref"].as_str().unwrap().trim_start_matches('#');
                let message = streams.pointer(name).unwrap();
                let about = message["summary"]
                    .as_str()
                    .or_else(|| message["description"].as_str())
                    .unwrap_or_default();
                let about = about.split_whitespace().collect::<Vec<_>>().join(" ").replace('|', "\\|");
                let _ = writeln!(text, "| `{address}` | {} | {about} |", message["title"].as_str().unwrap());
            }
        }
        text.trim_end().to_owned() + "\n"
    }

    #[test]
    fn the_document_of_the_api_is_made_from_it() {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
        let text = api_document();
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let stored = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(stored == text, "docs/api.md differs: UPDATE_DOCS=1 writes it anew");
    }
}
