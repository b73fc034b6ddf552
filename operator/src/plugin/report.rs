//! The output of `report`: everything that a bug report needs, in one YAML file that may be shown to others. No Secret
//! is read. What could still be secret (a literal in the environment of a user's sidecar, a password in an address, a
//! token in a log) is removed.

use serde::Serialize;
use serde_json::{Map, Value, json};

/// Everything that was read from the API server and the managers for a report.
#[derive(Debug, Clone, Default)]
pub struct GatheredState {
    /// The circumstances of the report: its time, the plugin's version, the Kubernetes version.
    pub circumstances: Map<String, Value>,
    /// The things that could not be read, each with the reason.
    pub missing: Vec<String>,
    /// The `RankingCluster` as JSON.
    pub cluster: Value,
    /// The load as a manager reports it; `None` if no manager could be queried.
    pub load: Option<Value>,
    /// The objects that were made from the resource, by kind.
    pub objects: Vec<(String, Vec<Value>)>,
    /// The pods of the cluster.
    pub pods: Vec<Value>,
    /// The events about the resource and the objects that are named after it.
    pub events: Vec<Value>,
    /// The operator's pods, each with the last lines of its log.
    pub operators: Vec<(Value, String)>,
}

/// The content of the report file.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SupportReport {
    /// The circumstances of the report: its time, the plugin's version, the Kubernetes version.
    about: Map<String, Value>,
    /// The things that could not be read, each with the reason.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    missing: Vec<String>,
    ranking_cluster: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    load: Option<Value>,
    events: Vec<Value>,
    pods: Vec<Value>,
    objects: Map<String, Value>,
    operators: Vec<Value>,
}

/// The text that replaces everything that was removed from a report.
const REMOVED_TEXT: &str = "(removed)";

/// Makes the report from what was read: events are sorted by time, the oldest first, and secrets are removed.
pub fn assemble_report(gathered: GatheredState) -> SupportReport {
    let clean = |mut value: Value| {
        strip_secrets(&mut value);
        value
    };
    let mut events: Vec<Value> = gathered.events.iter().map(event_line).map(clean).collect();
    events.sort_by_key(|event| event["time"].as_str().unwrap_or_default().to_owned());
    let operators = gathered.operators.into_iter().map(|(pod, log)| {
        let mut pod = clean(pod_summary(&pod));
        pod["log"] = json!(scrub_secrets(&log));
        pod
    });
    SupportReport {
        about: gathered.circumstances,
        missing: gathered.missing,
        ranking_cluster: clean(gathered.cluster),
        load: gathered.load.map(clean),
        events,
        pods: gathered.pods.iter().map(pod_summary).map(clean).collect(),
        objects: gathered
            .objects
            .into_iter()
            .map(|(kind, all)| (kind, all.into_iter().map(clean).collect()))
            .collect(),
        operators: operators.collect(),
    }
}

/// Returns the parts of a pod that describe its state.
fn pod_summary(pod: &Value) -> Value {
    let kept = |of: &Value, keys: &[&str]| -> Value {
        let members = keys.iter().filter(|key| !of[**key].is_null());
        members.map(|key| ((*key).to_owned(), of[*key].clone())).collect::<Map<_, _>>().into()
    };
    let containers: Vec<Value> = pod["status"]["containerStatuses"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|c| {
            kept(c, &["name", "image", "imageID", "ready", "started", "restartCount", "state", "lastState"])
        })
        .collect();
    json!({
        "name": pod["metadata"]["name"],
        "namespace": pod["metadata"]["namespace"],
        "created": pod["metadata"]["creationTimestamp"],
        "deleted": pod["metadata"]["deletionTimestamp"],
        "labels": pod["metadata"]["labels"],
        "annotations": pod["metadata"]["annotations"],
        "node": pod["spec"]["nodeName"],
        "status": kept(&pod["status"], &["phase", "reason", "message", "podIP", "startTime", "conditions"]),
        "containers": containers,
    })
}

/// Returns the summary of an event, which may be of either of Kubernetes' two APIs for events.
fn event_line(event: &Value) -> Value {
    let first = |pointers: &[&str]| {
        pointers.iter().find_map(|at| event.pointer(at).filter(|found| !found.is_null())).cloned()
    };
    let object = first(&["/regarding", "/involvedObject"]).unwrap_or_default();
    let word = |key: &str| object[key].as_str().unwrap_or_default();
    json!({
        "time": first(&["/series/lastObservedTime", "/deprecatedLastTimestamp", "/lastTimestamp", "/eventTime", "/metadata/creationTimestamp"]),
        "type": event["type"],
        "reason": event["reason"],
        "about": format!("{}/{}", word("kind"), word("name")),
        "message": first(&["/note", "/message"]),
        "count": first(&["/series/count", "/deprecatedCount", "/count"]),
        "by": first(&["/reportingController", "/reportingComponent", "/deprecatedSource/component", "/source/component"]),
    })
}

/// Removes managed fields, nulls, secret literals in environments, and anything in a text that looks like a secret.
fn strip_secrets(value: &mut Value) {
    match value {
        Value::String(text) => *text = scrub_secrets(text),
        Value::Array(items) => items.iter_mut().for_each(strip_secrets),
        Value::Object(members) => {
            members.remove("managedFields");
            members.remove("kubectl.kubernetes.io/last-applied-configuration");
            members.retain(|_, member| !member.is_null());
            if let Some(Value::Array(variables)) = members.get_mut("env") {
                variables.iter_mut().for_each(strip_variable);
            }
            members.values_mut().for_each(strip_secrets);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Removes the literal value of an environment variable if its name contains a word such as `TOKEN` or `PASSWORD`.
fn strip_variable(variable: &mut Value) {
    const SECRET_NAME_PARTS: [&str; 8] =
        ["TOKEN", "PASSWORD", "PASSWD", "SECRET", "KEY", "CREDENTIAL", "AUTH", "DSN"];
    let name = variable["name"].as_str().unwrap_or_default().to_ascii_uppercase();
    if SECRET_NAME_PARTS.iter().any(|word| name.contains(word)) && variable.get("value").is_some() {
        variable["value"] = json!(REMOVED_TEXT);
    }
}

/// Returns `text` with the credentials between `://` and `@` in addresses, and the tokens after `Bearer`, replaced.
pub fn scrub_secrets(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((at, mark)) = next_secret_position(rest) {
        let (before, after) = rest.split_at(at + mark.len());
        out.push_str(before);
        let end = after.find(is_end_of_word).unwrap_or(after.len());
        let word = &after[..end];
        rest = if mark == "://" {
            // The last `@` before the path: a password may have one, too.
            let host = &word[..word.find('/').unwrap_or(word.len())];
            match host.rfind('@').or_else(|| word.rfind('@')) {
                Some(at) => {
                    out.push_str(REMOVED_TEXT);
                    &after[at..]
                }
                None => after,
            }
        } else {
            out.push_str(REMOVED_TEXT);
            &after[end..]
        };
    }
    out.push_str(rest);
    out
}

fn is_end_of_word(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '<' | '>' | '`' | '\\')
}

/// Returns the position of the next marker in `text` that a secret may follow, and the marker itself; `None` if there
/// is none.
fn next_secret_position(text: &str) -> Option<(usize, &'static str)> {
    let found = ["://", "Bearer ", "bearer "].into_iter().filter_map(|mark| Some((text.find(mark)?, mark)));
    found.min()
}

#[cfg(test)]
mod tests;
