//! Tests `docs/rollouts.md`: its table is made from the builder and the schema, so that it cannot differ from the real
//! behaviour. `UPDATE_SNAPSHOTS=1` writes it anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use liverank_operator::build::{self, Component};
use liverank_operator::crd::{RankingClusterSpec, definition};
use serde_json::{Value, json};

use crate::fixtures::{cluster, path};

const TABLE_BEGIN: &str = "<!-- table: written by the builder's test -->\n";
const TABLE_END: &str = "<!-- end of table -->\n";

/// Our fields whose value is of Kubernetes' own type: the fields below them are not distinguished.
const FOREIGN_FIELDS: [&str; 4] = ["resources", "affinity", "securityContext", "containerSecurityContext"];

type RestartedComponents = BTreeSet<Component>;

#[test]
fn the_table_of_what_restarts_is_what_the_builder_does() {
    let table = effects_table(&collapse_equal_rows(&effects_of_all_fields()));
    let file = path("../docs/rollouts.md");
    let text = std::fs::read_to_string(&file).unwrap();
    let (before, rest) = text.split_once(TABLE_BEGIN).unwrap();
    let (stored, after) = rest.split_once(TABLE_END).unwrap();
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(&file, format!("{before}{TABLE_BEGIN}{table}{TABLE_END}{after}")).unwrap();
    } else {
        assert_eq!(
            stored, table,
            "docs/rollouts.md: UPDATE_SNAPSHOTS=1, and read the difference before committing"
        );
    }
}

#[test]
fn the_order_of_roll_out_in_the_text_is_the_builders() {
    let text = std::fs::read_to_string(path("../docs/rollouts.md")).unwrap();
    assert!(
        text.contains(&component_names(&Component::ROLL_OUT_ORDER.into())),
        "in the order {:?}",
        Component::ROLL_OUT_ORDER
    );
}

/// Returns the components that a change of each field of the spec restarts.
fn effects_of_all_fields() -> BTreeMap<String, RestartedComponents> {
    let schema = serde_json::to_value(definition()).unwrap();
    let spec = schema.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/spec").unwrap();
    let mut fields = Vec::new();
    collect_leaf_fields(spec, String::new(), &mut fields);
    let base = serde_json::to_value(cluster("full").spec).unwrap();
    fields
        .into_iter()
        .map(|(field, schema)| (field.clone(), effect_of_field(&base, &field, &schema)))
        .collect()
}

fn collect_leaf_fields(schema: &Value, at: String, found: &mut Vec<(String, Value)>) {
    let foreign = FOREIGN_FIELDS.iter().any(|name| at.ends_with(&format!(".{name}")));
    match schema.get("properties").and_then(Value::as_object) {
        Some(properties) if !foreign => {
            for (name, schema) in properties {
                let at = if at.is_empty() { name.clone() } else { format!("{at}.{name}") };
                collect_leaf_fields(schema, at, found);
            }
        }
        _ => found.push((at, schema.clone())),
    }
}

/// Returns the components that restart when `field` of `base` gets any other value or is removed.
fn effect_of_field(base: &Value, field: &str, schema: &Value) -> RestartedComponents {
    let old = spec(base).unwrap_or_else(|error| panic!("{field}: {error}"));
    let mut changed = base.clone();
    let mut others = other_values(value_at(&mut changed, field), field, schema);
    others.push(Value::Null);
    let mut restarted = RestartedComponents::new();
    for (at, other) in others.iter().enumerate() {
        *value_at(&mut changed, field) = other.clone();
        let new = match spec(&changed) {
            Ok(new) => new,
            // A required field cannot be removed.
            Err(_) if other.is_null() => continue,
            Err(error) => panic!("{field}: {other}: {error}"),
        };
        assert!(at > 0 || new != old, "{field} reaches the types");
        let once = build::restarted_components(&old, &new);
        assert_eq!(build::restarted_components(&new, &old), once, "{field}, back again");
        restarted.extend(once);
    }
    restarted
}

fn value_at<'a>(spec: &'a mut Value, field: &str) -> &'a mut Value {
    field.split('.').fold(spec, |at, part| &mut at[part])
}

/// Parses a spec as the API server returns it: nulls are absent.
fn spec(value: &Value) -> serde_json::Result<RankingClusterSpec> {
    fn without_nulls(value: &Value) -> Value {
        match value {
            Value::Object(fields) => {
                let set = fields.iter().filter(|(_, value)| !value.is_null());
                set.map(|(name, value)| (name.clone(), without_nulls(value))).collect()
            }
            other => other.clone(),
        }
    }
    serde_json::from_value(without_nulls(value))
}

/// Returns other values than `now` for a field.
fn other_values(now: &Value, field: &str, schema: &Value) -> Vec<Value> {
    if let Some(values) = schema.get("enum").and_then(Value::as_array) {
        return values.iter().filter(|value| *value != now && !value.is_null()).cloned().collect();
    }
    let last = field.rsplit('.').next().unwrap();
    let other = match (last, now) {
        ("restartAt", _) => json!("2026-03-02T12:00:00Z"),
        ("resources", _) => json!({"limits": {"cpu": "3"}}),
        ("affinity", _) => json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 1, "podAffinityTerm": {"topologyKey": "zone"}}]}}),
        ("securityContext" | "containerSecurityContext", _) => json!({"runAsUser": 7}),
        ("hostAliases", _) => json!([{"ip": "192.0.2.8", "hostnames": ["a"]}]),
        ("extraArgs", _) => json!(["--another"]),
        ("env", _) => json!([{"name": "ANOTHER", "value": "one"}]),
        ("envFrom", _) => json!([{"secretRef": {"name": "another"}}]),
        ("volumes", _) => json!([{"name": "another", "emptyDir": {}}]),
        ("volumeMounts", _) => json!([{"name": "extra-ca", "mountPath": "/another"}]),
        ("initContainers" | "sidecars", _) => json!([{"name": "another", "image": "another"}]),
        ("behavior", _) => json!({"scaleUp": {"stabilizationWindowSeconds": 7}}),
        ("metrics", _) => json!([{"type": "Resource", "resource": {"name": "memory",
            "target": {"type": "Utilization", "averageUtilization": 70}}}]),
        ("serviceMonitorLabels", _) => json!({"another": "one"}),
        ("relabelings", _) => json!([{"targetLabel": "another", "replacement": "one"}]),
        ("ipFamilies", _) => json!(["IPv4"]),
        ("loadBalancerSourceRanges", _) => json!(["198.51.100.0/24"]),
        ("imagePullSecrets" | "parentRefs" | "boards", _) => json!([{"name": "another"}]),
        ("tolerations", _) => json!([{"operator": "Exists"}]),
        ("topologySpread", _) => json!([]),
        ("ingressFrom", _) => json!([{"ipBlock": {"cidr": "192.0.2.0/24"}}]),
        ("egressCIDRs", _) => json!(["192.0.2.0/24"]),
        ("maxUnavailable", _) => json!(3),
        ("unique", _) => json!(["view"]),
        ("startupProbe" | "readinessProbe" | "livenessProbe", _) => json!({"periodSeconds": 7}),
        ("allow", _) => json!(["another.example"]),
        ("words", _) => json!([{"action": "Hold", "words": ["another"]}]),
        ("patterns", _) => json!([{"action": "Hold", "pattern": "another"}]),
        ("holds", _) => json!(["ScaleIn"]),
        ("windows", _) => json!([{"from": "02:00", "to": "03:00"}]),
        (_, Value::Bool(now)) => json!(!now),
        (_, Value::Number(now)) => json!(now.as_i64().unwrap() + 1),
        // The value is a weight, in thousandths.
        (_, Value::String(now)) if schema.get("x-kubernetes-int-or-string").is_some() => {
            json!(format!("1{now}"))
        }
        (_, Value::String(now)) => json!(format!("{now}x")),
        (_, Value::Object(_)) => json!({"another": "one"}),
        (_, Value::Null) if schema["type"] == "integer" => json!(7),
        (_, Value::Null) if schema["type"] == "string" => json!("another"),
        (_, now) => panic!("{field}: how does one change {now} of {schema}?"),
    };
    vec![other]
}

/// Returns the rows of the table: if all fields below a parent have the same effect, only the parent gets a row.
fn collapse_equal_rows(
    effects: &BTreeMap<String, RestartedComponents>,
) -> BTreeMap<String, RestartedComponents> {
    let uniform = |parent: &str| {
        let below = || effects.iter().filter(|(field, _)| field.starts_with(parent)).map(|(_, it)| it);
        below().count() > 1 && below().collect::<BTreeSet<_>>().len() == 1
    };
    effects
        .iter()
        .map(|(field, restarted)| {
            let mut parents = field.match_indices('.').map(|(at, _)| &field[..=at]);
            let row =
                parents.find(|parent| uniform(parent)).map_or_else(|| field.clone(), |it| format!("{it}*"));
            (row, restarted.clone())
        })
        .collect()
}

fn effects_table(rows: &BTreeMap<String, RestartedComponents>) -> String {
    let mut table = String::from("| field of `spec` | restarts |\n|---|---|\n");
    for (field, restarted) in rows {
        writeln!(table, "| `{field}` | {} |", component_names(restarted)).unwrap();
    }
    table
}

/// Returns the components' names in the order of roll-out.
fn component_names(components: &RestartedComponents) -> String {
    if components.is_empty() {
        return "nothing".to_owned();
    }
    let name = |component: &Component| match component {
        Component::Reader => "readers",
        other => other.name(),
    };
    components.iter().map(name).collect::<Vec<_>>().join(", ")
}
