//! Compares the `OpenAPI` document with the routes of the gateway.

use std::collections::{BTreeMap, BTreeSet};

use liverank_core::Kind;
use liverank_protocol::access::{Access, CalledService, ENDPOINTS, endpoints_of};
use liverank_runtime::identity::local::KeyRing;
use serde_json::Value;

use crate::support::System;

type MethodsByPath = BTreeMap<String, BTreeSet<String>>;

/// Returns the paths that the document has for the gateway, with their methods.
fn documented_methods(document: &Value) -> MethodsByPath {
    let here = |item: &&Value| {
        item.get("servers").is_none_or(|servers| servers[0]["url"] == document["servers"][0]["url"])
    };
    document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, item)| here(item))
        .map(|(path, item)| {
            let methods = ["get", "post", "put", "delete", "patch"];
            let methods = methods.iter().filter(|method| item.get(**method).is_some());
            (path.clone(), methods.map(|method| method.to_uppercase()).collect())
        })
        .collect()
}

#[tokio::test]
async fn every_route_is_in_the_document_and_the_other_way_round() {
    let system = System::start(&[]).await;
    let documented = documented_methods(&system.json("/openapi-internal.json").await);
    let mut served = MethodsByPath::new();
    for path in liverank_gateway::router::documented_paths() {
        let example = path.replace(['{', '}'], "x");
        let refused = system.http.request(reqwest::Method::TRACE, system.url(&example)).send().await.unwrap();
        assert_eq!(refused.status(), 405, "{path}");
        let allow = refused.headers()["allow"].to_str().unwrap().to_owned();
        let methods = allow.split(',').filter(|method| *method != "HEAD").map(ToOwned::to_owned);
        served.insert(path.to_owned(), methods.collect());
    }
    assert_eq!(served, documented);
}

#[tokio::test]
async fn the_document_has_every_type_of_interaction() {
    let document = System::start(&[]).await.json("/openapi.json").await;
    let types = &document["components"]["schemas"]["Interaction"]["properties"]["type"]["enum"];
    assert_eq!(*types, serde_json::json!(Kind::ALL.map(Kind::name)), "the type in openapi/openapi.yaml");
    for (file, text, line) in [
        ("README.md", include_str!("../../../../README.md"), "# An interaction: "),
        (
            "clients/js/src/types.ts",
            include_str!("../../../../clients/js/src/types.ts"),
            "/** The type of an interaction: ",
        ),
    ] {
        let line = text
            .lines()
            .find_map(|it| it.strip_prefix(line))
            .unwrap_or_else(|| panic!("{file}: no line {line:?}"));
        let words: Vec<&str> =
            line.split(|letter: char| !letter.is_alphanumeric() && letter != '_').collect();
        for kind in Kind::ALL {
            assert!(words.contains(&kind.name()), "{file} does not name the type {}: {line}", kind.name());
        }
    }
}

/// Endpoints for our own processes are at their own ports: none of them is reached through the front door, by any
/// caller.
#[tokio::test]
async fn the_front_door_leads_to_what_the_table_calls_public() {
    let system = System::start(&[]).await;
    let table: BTreeSet<&str> = endpoints_of(CalledService::Gateway).map(|row| row.path).collect();
    for path in liverank_gateway::router::documented_paths() {
        let is_page = liverank_gateway::router::is_page_file_path(path);
        assert!(is_page || table.contains(path), "{path} has no row in the table");
    }
    let keys = KeyRing::from_secret(&[b't'; 32]).unwrap();
    let is_open = |access| {
        matches!(
            access,
            Access::Public
                | Access::Viewers
                | Access::Moderator
                | Access::Operators
                | Access::PartlyPublic(_)
        )
    };
    for row in ENDPOINTS.iter().filter(|row| !is_open(row.access)) {
        assert!(!table.contains(row.path), "{}", row.path);
        let path = row.path.replace(['{', '}'], "x");
        let token = keys.token_source(&"operator".parse().unwrap()).unwrap().sign_token(
            row.service,
            1_000_000_000,
            60,
        );
        for shown in [None, Some(token)] {
            let mut request = system.http.request(row.method.parse().unwrap(), system.url(&path));
            if let Some(shown) = shown {
                request = request.bearer_auth(shown);
            }
            assert_eq!(request.send().await.unwrap().status(), 404, "{} {path}", row.method);
        }
    }
}

#[tokio::test]
async fn the_gateway_is_healthy() {
    let system = System::start(&[]).await;
    assert_eq!(
        system.json("/health").await,
        serde_json::json!({ "status": "healthy", "service": "gateway" })
    );
}
