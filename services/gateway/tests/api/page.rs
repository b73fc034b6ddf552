//! The console page and its files.

use crate::support::System;

#[tokio::test]
async fn the_page_and_all_that_it_loads_is_served_with_its_type() {
    let system = System::start(&[]).await;
    let page = system.get("/").await;
    assert_eq!(page.headers()["content-type"], "text/html; charset=utf-8");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    assert!(page.headers()["content-security-policy"].to_str().unwrap().contains("default-src 'self'"));
    // The files that the page loads, and the files that these load in turn.
    let mut todo = vec![("/".to_owned(), page.text().await.unwrap())];
    let mut seen = std::collections::BTreeSet::new();
    while let Some((path, text)) = todo.pop() {
        for name in loaded_files(&text) {
            if !seen.insert(name.clone()) {
                continue;
            }
            let response = system.get(&name).await;
            assert_eq!(response.status(), 200, "{path} loads {name}");
            let expected = match name.rsplit_once('.').unwrap().1 {
                "js" => "text/javascript",
                "css" => "text/css",
                "svg" => "image/svg+xml",
                other => panic!("{name}: {other}"),
            };
            assert!(response.headers()["content-type"].to_str().unwrap().starts_with(expected), "{name}");
            todo.push((name, response.text().await.unwrap()));
        }
    }
    assert!(seen.contains("/liverank.js") && seen.contains("/console.css"), "{seen:?}");
}

/// Returns the local files named in `src="/…"`, `href="/…"` and `from './…'`.
fn loaded_files(text: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (before, after, prefix) in [("src=\"/", '"', "/"), ("href=\"/", '"', "/"), ("from './", '\'', "/")] {
        for rest in text.split(before).skip(1) {
            let name = rest.split(after).next().unwrap();
            if name.contains('.') && !name.contains(['$', '{']) {
                names.push(format!("{prefix}{name}"));
            }
        }
    }
    names
}

#[tokio::test]
async fn a_cached_page_file_is_answered_304() {
    let system = System::start(&[]).await;
    let tag = system.get("/console.js").await.headers()["etag"].clone();
    let asked = system.http.get(system.url("/console.js")).header("if-none-match", tag.clone());
    let response = asked.send().await.unwrap();
    assert_eq!((response.status().as_u16(), &response.headers()["etag"]), (304, &tag));
    assert_eq!(response.text().await.unwrap(), "");
    let other = system.http.get(system.url("/console.js")).header("if-none-match", "\"other\"");
    assert_eq!(other.send().await.unwrap().status(), 200);
}
