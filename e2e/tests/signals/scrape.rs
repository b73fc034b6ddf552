//! One scrape of a process's metrics, and the reference docs/metrics.md.

use std::collections::{BTreeMap, BTreeSet};

use liverank_runtime::metrics_reference::{
    OPERATOR_HEADING, REFERENCE_INTRODUCTION, reference_tables, sample_name,
};

/// The path of the reference of all metrics.
pub const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");

/// Returns the two parts of the reference file: the system's metrics and the operator's.
pub fn document() -> (String, String) {
    let text = std::fs::read_to_string(DOCUMENT).unwrap_or_default();
    let (system, operator) = text.split_once(OPERATOR_HEADING).unwrap_or((&text, ""));
    (system.to_owned(), operator.to_owned())
}

/// The metrics of a process at one moment.
pub struct Scrape {
    text: String,
    /// The kind and the description of each family, by its name in the text.
    families: BTreeMap<String, (String, String)>,
    /// The value of each series, by its name with labels.
    samples: BTreeMap<String, f64>,
}

impl Scrape {
    /// Scrapes the process with this admin address (`host:port`).
    pub async fn fetch(admin: &str) -> Self {
        let answer = reqwest::get(format!("http://{admin}/metrics")).await.expect("the metrics");
        Self::parse_text(&answer.text().await.expect("the metrics as text"))
    }

    fn parse_text(text: &str) -> Self {
        let (mut families, mut samples) = (BTreeMap::<String, (String, String)>::new(), BTreeMap::new());
        for line in text.lines().filter(|line| *line != "# EOF") {
            if let Some((name, help)) =
                line.strip_prefix("# HELP ").and_then(|described| described.split_once(' '))
            {
                let help = help.trim_end_matches('.').to_owned();
                let twice = families.insert(name.to_owned(), (String::new(), help));
                assert!(twice.is_none(), "{name} comes twice");
            } else if let Some((name, kind)) =
                line.strip_prefix("# TYPE ").and_then(|described| described.split_once(' '))
            {
                kind.clone_into(&mut families.get_mut(name).expect("help comes first").0);
            } else if let Some((series, value)) =
                line.split(" # {").next().and_then(|line| line.rsplit_once(' '))
            {
                samples.insert(series.to_owned(), value.parse().expect("a number"));
            }
        }
        Self { text: text.to_owned(), families, samples }
    }

    /// Returns the system's part of the reference, made from this scrape.
    pub fn document(&self) -> String {
        format!("{REFERENCE_INTRODUCTION}{}", reference_tables(&self.text))
    }

    /// Writes the system's part of the reference anew; the operator's part stays.
    pub fn write(&self) {
        let (_, operator) = document();
        let text = format!("{}{OPERATOR_HEADING}{operator}", self.document());
        std::fs::write(DOCUMENT, text).expect("writing docs/metrics.md");
    }

    /// Whether a metric has this name.
    pub fn has_metric(&self, name: &str) -> bool {
        self.families.iter().any(|(family, (kind, _))| sample_name(family, kind) == name)
    }

    /// Returns the gauges without a sample, and the counters and histograms that have not grown since `before`.
    pub fn unchanged_since(&self, before: &Self) -> Vec<String> {
        let sum = |scrape: &Self, name: &str| {
            let own = scrape.samples.iter().filter(|(series, _)| series.split('{').next() == Some(name));
            own.map(|(_, value)| *value).reduce(|sum, value| sum + value)
        };
        let still = |family: &str, kind: &str| {
            if kind == "gauge" {
                sum(self, family).is_none()
            } else {
                let sample = if kind == "counter" { "_total" } else { "_count" };
                let name = format!("{family}{sample}");
                sum(self, &name).unwrap_or(0.0) <= sum(before, &name).unwrap_or(0.0)
            }
        };
        let families = self.families.iter().filter(|(family, (kind, _))| still(family, kind));
        families.map(|(family, (kind, _))| sample_name(family, kind)).collect()
    }

    /// Returns the value of a series, named with its labels as in the text; `None` if it does not exist.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.samples.get(series).copied()
    }

    /// Returns the number of series.
    pub fn count(&self) -> usize {
        self.samples.len()
    }

    /// Returns the series that `before` does not have.
    pub fn series_beside(&self, before: &Self) -> BTreeSet<String> {
        self.samples.keys().filter(|series| !before.samples.contains_key(*series)).cloned().collect()
    }
}
