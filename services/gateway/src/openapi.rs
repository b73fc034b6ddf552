//! The document of all HTTP endpoints, of the gateway and of every other service: `OpenAPI` 3.1, written by hand in
//! `openapi/openapi.yaml`.

use std::sync::LazyLock;

use axum::http::{HeaderName, header};
use serde_json::Value;

/// The document's source.
const SOURCE: &str = include_str!("../openapi/openapi.yaml");

static JSON: LazyLock<String> = LazyLock::new(|| document().to_string());

/// The document.
pub fn document() -> Value {
    let mut source: serde_yaml::Value =
        serde_yaml::from_str(SOURCE).expect("a test reads the document that is built in");
    source.apply_merge().expect("merged parts are mappings");
    serde_json::to_value(source).expect("its keys are strings")
}

/// `GET /openapi.json`.
pub(crate) async fn serve() -> ([(HeaderName, &'static str); 2], &'static str) {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-cache")];
    (headers, JSON.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every `$ref` in the document, and where it stands.
    fn references<'a>(value: &'a Value, at: &str, found: &mut Vec<(String, &'a str)>) {
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if let ("$ref", Some(target)) = (name.as_str(), member.as_str()) {
                        found.push((at.to_owned(), target));
                    }
                    references(member, &format!("{at}/{name}"), found);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    references(item, &format!("{at}/{index}"), found);
                }
            }
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let mut found = Vec::new();
        references(&document, "", &mut found);
        assert!(found.len() > 50, "{}", found.len());
        for (at, target) in found {
            let pointer = target.strip_prefix('#').expect("references stay in the document");
            assert!(document.pointer(pointer).is_some(), "{at}: {target} leads nowhere");
        }
    }

    #[test]
    fn every_operation_is_named_once_and_says_what_it_does() {
        let document = document();
        let mut names = std::collections::BTreeSet::new();
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
}
