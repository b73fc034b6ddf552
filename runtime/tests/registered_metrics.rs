//! Checks that every metric that is counted is also registered: an unregistered metric appears on no port, and nobody
//! notices.
//!
//! A metric is a field in one place and is registered in another, so this test reads the source: each field of a
//! metric's type must be named in a call of `register` in its file.

#![expect(clippy::unwrap_used, reason = "helpers of tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The types of metrics of `prometheus_client`, and our own that is one of them.
const METRIC_TYPES: [&str; 5] = ["Counter", "Gauge", "Histogram", "Family", "TracedHistogram"];

/// The metrics that are registered in another file than the one that holds them, by file and field.
const HANDED_OVER: [(&str, &str); 8] = [
    ("runtime/src/http_metrics.rs", "in_flight"),
    ("runtime/src/server/places.rs", "displaced_connections"),
    ("runtime/src/streams.rs", "open_gauge"),
    ("runtime/src/tls/listener.rs", "failed_handshakes"),
    ("services/gateway/src/freshness.rs", "histogram"),
    ("services/websocket/src/descriptions.rs", "gauge"),
    ("services/websocket/src/freshness.rs", "histogram"),
    ("services/websocket/src/published.rs", "encoded_lists"),
];

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|letter| letter.is_alphanumeric() || letter == '_')
}

fn without_visibility(text: &str) -> &str {
    let text = text.trim();
    let rest = text.strip_prefix("pub").unwrap_or(text);
    let rest = rest.strip_prefix('(').and_then(|rest| rest.split_once(')')).map_or(rest, |(_, rest)| rest);
    rest.trim()
}

/// Returns true if a written type begins with one of these names.
fn is_one_of(written: &str, types: &BTreeSet<String>) -> bool {
    types.contains(written.split(['<', ',', ')', ';']).next().unwrap_or_default().trim())
}

/// Returns the types of metrics in a file: those of the library, and the file's own types that wrap one of them.
fn metric_types(source: &str) -> BTreeSet<String> {
    let mut types: BTreeSet<String> = METRIC_TYPES.map(str::to_owned).into();
    for line in source.lines() {
        let wrapper = line.split_once("struct ").and_then(|(_, rest)| rest.split_once('('));
        if let Some((name, wrapped)) = wrapper.filter(|(name, _)| is_name(name))
            && is_one_of(without_visibility(wrapped), &types)
        {
            types.insert(name.to_owned());
        }
    }
    types
}

/// Returns the fields of structs in a file whose type is a metric.
fn metric_fields(source: &str) -> Vec<&str> {
    let types = metric_types(source);
    let field = |line: &&str| line.starts_with("    ") && !line.starts_with("     ");
    let fields = source.lines().filter(field).filter_map(|line| without_visibility(line).split_once(": "));
    fields
        .filter(|(name, written)| is_name(name) && is_one_of(written, &types))
        .map(|(name, _)| name)
        .collect()
}

/// Returns the text between the parentheses that begin here.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|letter| {
        depth += match letter {
            '(' => 1,
            ')' => -1,
            _ => 0,
        };
        depth == 0
    });
    &text[..end.unwrap_or(text.len())]
}

/// Returns the arguments of all calls of `register`, and the values of those that are names.
fn registered(source: &str) -> String {
    let mut all = String::new();
    for (_, call) in source.match_indices("register(").map(|(at, call)| (at, &source[at + call.len()..])) {
        let arguments = arguments(call);
        all.push_str(arguments);
        all.push('\n');
        let last = arguments.trim().trim_end_matches(',').rsplit(',').next().unwrap_or_default().trim();
        if is_name(last)
            && let Some((_, rest)) = source.split_once(&format!("let {last} = "))
        {
            all.push_str(rest.split(';').next().unwrap_or_default());
            all.push('\n');
        }
    }
    all
}

fn names(text: &str, field: &str) -> bool {
    let dotted = format!(".{field}");
    text.match_indices(&dotted).any(|(at, _)| {
        !text[at + dotted.len()..].starts_with(|letter: char| letter.is_alphanumeric() || letter == '_')
    })
}

/// Returns the metrics of a file that are not registered in it.
fn unregistered(source: &str) -> Vec<&str> {
    let source = source.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let registered = registered(source);
    metric_fields(source).into_iter().filter(|field| !names(&registered, field)).collect()
}

/// Collects the source files below a directory.
fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_metric_is_registered_in_its_file_or_handed_to_it() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    let services = std::fs::read_dir(root.join("services")).unwrap().map(|entry| entry.unwrap().path());
    for part in services.chain(["runtime", "adapters", "operator"].map(|part| root.join(part))) {
        sources(&part.join("src"), &mut files);
    }
    let (mut found, mut metrics) = (BTreeSet::new(), 0);
    for file in &files {
        let source = std::fs::read_to_string(file).unwrap();
        if !["prometheus_client::metrics", "TracedHistogram"].iter().any(|it| source.contains(it)) {
            continue;
        }
        metrics += metric_fields(&source).len();
        let name = file.strip_prefix(root).unwrap().to_str().unwrap();
        found.extend(unregistered(&source).into_iter().map(|field| (name.to_owned(), field.to_owned())));
    }
    let expected = HANDED_OVER.map(|(file, field)| (file.to_owned(), field.to_owned())).into();
    assert_eq!(
        found, expected,
        "metrics that no call of `register` names: register them where they are made"
    );
    assert!(metrics > 100, "the source is read wrongly: {metrics} metrics in {} files", files.len());
}

#[test]
fn an_unregistered_field_is_found_however_the_others_are_registered() {
    let source = r#"
struct Delay(Histogram);
pub struct All {
    /// One.
    pub one: Counter<u64, AtomicU64>,
    pub(crate) two: Family<Label, Counter>,
    three: Delay,
    four: Gauge,
    five: Counter,
    name: String,
}
impl All {
    fn register(&self, registry: &mut Registry) {
        registry.register("one", "One (of five)", self.one.clone());
        let second = self.two.clone();
        registry.register(
            "two",
            "Two",
            second,
        );
        registry.register("three", "Three", self.three.0.clone());
        registry.register("four", "Four", self.fourth.clone());
        self.four.set(self.five.get());
    }
}
"#;
    assert_eq!(unregistered(source), ["four", "five"]);
}
