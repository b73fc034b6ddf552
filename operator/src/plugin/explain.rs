//! The output of `explain`: the conditions, the current readers as Kubernetes and the managers see them, and the last
//! decision with its reason.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use liverank_protocol::{ClusterLoad, ReaderState};
use serde::Serialize;
use serde_json::{Value, json};

use super::words::{TextTable, short_duration, time_ago, with_commas, wrap_lines};
use crate::build::names;
use crate::crd::{LastDecision, RankingCluster, ReadersStatus};

/// Maximal width of the output's lines, in characters.
const TEXT_WIDTH: usize = 96;

/// A reader as its Deployment describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct DeployedReader {
    /// The reader's name.
    pub name: String,
    /// Whether the reader's pod is ready.
    pub ready: bool,
    /// The reason why the reader is being emptied; `None` if it is not.
    pub drain: Option<String>,
    /// The time at which the reader's drain began; `None` if it is not being emptied.
    pub since: Option<Timestamp>,
}

impl DeployedReader {
    /// Reads the state of a reader from its Deployment.
    pub fn of(deployment: &Deployment) -> Self {
        let annotation = |key: &str| deployment.metadata.annotations.as_ref()?.get(key).cloned();
        let status = deployment.status.as_ref();
        Self {
            name: deployment.metadata.name.clone().unwrap_or_default(),
            ready: status.and_then(|status| status.ready_replicas).unwrap_or(0) > 0,
            drain: annotation(names::DRAIN_ANNOTATION),
            since: annotation(names::DRAIN_SINCE_ANNOTATION).and_then(|text| text.parse().ok()),
        }
    }
}

/// Returns the explanation as JSON for programs: the resource's status, the readers' Deployments, and the load as a
/// manager reports it.
pub fn explanation_value(
    cluster: &RankingCluster,
    readers: &[DeployedReader],
    load: &Result<ClusterLoad, String>,
) -> Value {
    json!({
        "namespace": cluster.namespace(),
        "name": cluster.name(),
        "generation": cluster.generation(),
        "paused": cluster.spec.paused,
        "status": cluster.status,
        "readers": readers,
        "load": load.as_ref().ok(),
        "loadError": load.as_ref().err(),
    })
}

/// Renders the whole explanation as text. `load` is a manager's answer, or the reason why no manager could be queried.
pub fn render_explanation(
    cluster: &RankingCluster,
    readers: &[DeployedReader],
    load: &Result<ClusterLoad, String>,
    now: Timestamp,
) -> String {
    let mut out = String::new();
    render_head(&mut out, cluster);
    render_conditions(&mut out, cluster, now);
    let status = cluster.status.as_ref();
    if !cluster.spec.comments() {
        out.push_str("\nReaders\n  none: comment.enabled is false\n");
        return out;
    }
    out.push_str("\nReaders\n");
    if let Some(readers) = status.and_then(|status| status.readers.as_ref()) {
        render_summary(&mut out, readers, now);
    }
    render_readers_table(&mut out, cluster.name(), readers, load, now);
    out.push_str("\nLast decision\n");
    match status.and_then(|status| status.last_decision.as_ref()) {
        Some(last) => render_last_decision(&mut out, last, now),
        None => out.push_str("  none yet\n"),
    }
    out
}

fn render_head(out: &mut String, cluster: &RankingCluster) {
    let _ = writeln!(out, "RankingCluster {}/{}", cluster.namespace(), cluster.name());
    let status = cluster.status.as_ref();
    if let Some(operator) = status.and_then(|status| status.operator.as_ref()) {
        let _ = writeln!(out, "  written by {} {}", operator.identity, operator.version);
    }
    let observed = status.and_then(|status| status.observed_generation);
    match observed {
        None => out.push_str("  no operator has looked at it yet: is one running for its operatorClass?\n"),
        Some(observed) if observed != cluster.generation() => {
            let _ = writeln!(
                out,
                "  all this is of generation {observed}: the operator has not seen generation {} yet",
                cluster.generation()
            );
        }
        Some(_) => {}
    }
    if cluster.spec.paused {
        out.push_str("  paused: the operator writes nothing but status\n");
    }
}

fn render_conditions(out: &mut String, cluster: &RankingCluster, now: Timestamp) {
    out.push_str("\nConditions\n");
    let conditions = cluster.status.as_ref().map(|status| status.conditions.as_slice()).unwrap_or_default();
    if conditions.is_empty() {
        out.push_str("  none yet\n");
        return;
    }
    let mut table = TextTable::new(&["TYPE", "STATUS", "REASON", ">FOR"]);
    let mut said = String::new();
    for condition in conditions {
        let age = short_duration(now.as_second() - condition.last_transition_time.0.as_second());
        table.add_row([condition.type_.clone(), condition.status.clone(), condition.reason.clone(), age]);
        if !condition.message.is_empty() {
            let indent = "    ";
            let text = wrap_lines(&format!("{}: {}", condition.type_, condition.message), indent, TEXT_WIDTH);
            let _ = writeln!(said, "  {text}");
        }
    }
    out.push_str(&table.render("  "));
    out.push_str(&said);
}

fn render_summary(out: &mut String, readers: &ReadersStatus, now: Timestamp) {
    let _ = write!(out, "  {} wanted, {} ready", readers.desired, readers.ready);
    if readers.draining > 0 {
        let _ = write!(out, ", {} being emptied", readers.draining);
    }
    if let Some(viewers) = readers.viewers {
        let _ = write!(out, "; {} viewers", with_commas(viewers.max(0) as u64));
    }
    if let Some(imbalance) = readers.imbalance_percent {
        let _ = write!(out, ", the fullest {imbalance}% above the mean");
    }
    if let Some(at) = &readers.load_as_of {
        let _ = write!(out, ", {}", time_ago(at.0, now));
    }
    out.push('\n');
    for zone in &readers.zones {
        let number = |viewers: i64| with_commas(viewers.max(0) as u64);
        let (viewers, other) = (number(zone.viewers), number(zone.other_zone_viewers));
        let _ = writeln!(
            out,
            "  zone {}: {} readers; {viewers} viewers, {other} of them by gateways of other zones",
            zone.name, zone.readers
        );
    }
}

fn render_readers_table(
    out: &mut String,
    cluster: &str,
    deployed: &[DeployedReader],
    load: &Result<ClusterLoad, String>,
    now: Timestamp,
) {
    let seen: BTreeMap<&str, &ReaderState> = match load {
        Ok(load) => load.readers.iter().map(|reader| (reader.id.as_str(), reader)).collect(),
        Err(_) => BTreeMap::new(),
    };
    let made: BTreeMap<&str, &DeployedReader> =
        deployed.iter().map(|reader| (reader.name.as_str(), reader)).collect();
    let mut known: Vec<&str> =
        seen.keys().chain(made.keys()).copied().collect::<BTreeSet<_>>().into_iter().collect();
    // By number; readers that are not named by the operator's scheme come last.
    known.sort_by_key(|name| (names::reader_number(cluster, name).unwrap_or(u32::MAX), *name));
    let mut heads = vec!["READER", "POD", "MANAGERS SAY", ">VIEWERS", ">OF", ">VIDEOS", ">SILENT", "NOTE"];
    // Most clusters of one zone know none: their table has no empty columns.
    let has_zones = seen.values().any(|reader| reader.zone.is_some());
    if has_zones {
        heads.insert(1, "ZONE");
        heads.insert(5, ">BY OTHER ZONES");
    }
    let mut table = TextTable::new(&heads);
    for name in &known {
        let (made, seen) = (made.get(name), seen.get(name));
        let pod = match made {
            None => "no Deployment",
            Some(reader) if reader.ready => "ready",
            Some(_) => "not ready",
        };
        let dash = || "-".to_owned();
        let number = |of: fn(&ReaderState) -> u64| seen.map_or_else(dash, |reader| with_commas(of(reader)));
        let mut cells = vec![
            (*name).to_owned(),
            pod.to_owned(),
            seen.map_or_else(dash, |reader| reader.state.to_string()),
            number(|reader| reader.viewers),
            number(|reader| reader.capacity),
            number(|reader| reader.assigned),
            seen.map_or_else(dash, |reader| short_duration(reader.silent_ms as i64 / 1000)),
            reader_note(made.copied(), seen.copied(), now),
        ];
        if has_zones {
            let zone = seen.and_then(|reader| reader.zone.as_ref());
            cells.insert(1, zone.map_or_else(dash, ToString::to_string));
            cells.insert(5, number(|reader| reader.viewers_by_zone.other));
        }
        table.add_row(cells);
    }
    if !known.is_empty() {
        out.push_str(&table.render("  "));
    }
    match load {
        Err(why) => {
            let text = wrap_lines(&format!("no manager could be asked: {why}"), "  ", TEXT_WIDTH);
            let _ = writeln!(out, "  {text}");
        }
        Ok(load) => render_managers_view(out, load),
    }
}

/// Returns the table's note on a reader: its drain, its cordon, and the reconnecting viewers who missed something.
fn reader_note(made: Option<&DeployedReader>, seen: Option<&ReaderState>, now: Timestamp) -> String {
    let mut notes = Vec::new();
    if let Some(why) = made.and_then(|reader| reader.drain.as_ref()) {
        let since = made.and_then(|reader| reader.since);
        let since =
            since.map(|since| format!(" for {}", short_duration(now.as_second() - since.as_second())));
        notes.push(format!("being emptied: {why}{}", since.unwrap_or_default()));
    }
    if let Some(cordon) = seen.and_then(|reader| reader.cordon.as_ref()) {
        notes.push(format!("cordoned: {cordon}"));
    }
    if seen.is_some_and(|reader| reader.reconnect_errors > 0) {
        let errors = seen.map_or(0, |reader| reader.reconnect_errors);
        let all = seen.map_or(0, |reader| reader.reconnects);
        notes.push(format!("{} of {} who came back missed something", with_commas(errors), with_commas(all)));
    }
    notes.join("; ")
}

/// Appends what the managers report about all readers together.
fn render_managers_view(out: &mut String, load: &ClusterLoad) {
    let _ = write!(out, "  {} videos assigned", with_commas(load.videos));
    if load.in_flight > 0 {
        let _ = write!(
            out,
            "; {} viewers on their way, at most {} a minute",
            with_commas(load.in_flight),
            with_commas(load.viewers_per_minute)
        );
    }
    if let Some(term) = load.term.as_ref().filter(|term| !term.holder.is_empty()) {
        let _ = write!(out, "; planned by {} (term {})", term.holder, term.term);
    }
    out.push('\n');
    if !load.fresh {
        out.push_str("  the manager that was asked does not see Redis: this is what it last saw\n");
    }
    if let Some(hold) = &load.hold {
        let _ = writeln!(out, "  nothing is moved: {hold}");
    }
}

fn render_last_decision(out: &mut String, last: &LastDecision, now: Timestamp) {
    let when = last.time.as_ref().map(|time| format!(" {}", time_ago(time.0, now))).unwrap_or_default();
    let _ = writeln!(out, "  {}{when}  ({})", last.action, last.id);
    let mut line = |label: &str, text: &str| {
        let indent = " ".repeat(14);
        let text = wrap_lines(text, &indent, TEXT_WIDTH - 14);
        let _ = writeln!(out, "  {label:<10}  {text}");
    };
    line("why", &last.reason);
    if let Some(inputs) = &last.inputs {
        let viewers = |viewers: i64| with_commas(viewers.max(0) as u64);
        let mut text = format!("{} readers, {} of them heard", inputs.readers, inputs.fresh);
        if inputs.draining > 0 {
            let _ = write!(text, ", {} being emptied", inputs.draining);
        }
        let _ = write!(
            text,
            "; {} viewers, {} expected; these ask for {} readers; decided on {}",
            viewers(inputs.viewers),
            viewers(inputs.expected_viewers),
            inputs.raw,
            inputs.desired
        );
        line("from", &text);
    }
    for (label, all) in [("bound by", &last.bound_by), ("chosen", &last.chosen), ("rejected", &last.rejected)]
    {
        for (at, text) in all.iter().enumerate() {
            line(if at == 0 { label } else { "" }, text);
        }
    }
    if !last.inputs_hash.is_empty() {
        line("inputs", &format!("hash {}", last.inputs_hash));
    }
}

#[cfg(test)]
mod tests;
