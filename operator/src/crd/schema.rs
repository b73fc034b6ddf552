//! Schemas of types that are not ours, and of a few shapes that schemars cannot express. Kubernetes' own types are
//! included without their descriptions: with them the definition would exceed the size that `kubectl apply` can store
//! in an annotation (262,144 bytes). For the same reason a text has no minimal length where its pattern asks for a character.

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, HostAlias, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
    TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rules;

/// The schema keyword of validation rules.
pub(super) const VALIDATIONS: &str = "x-kubernetes-validations";

/// The greatest number that each of the times of a probe of ours may be. Kubernetes takes any from 1; the bound keeps a pod that
/// hangs from being taken for well for hours.
pub const MAX_PROBE_TIME: i32 = 1000;

/// Returns the schema of a foreign type without descriptions.
pub(super) fn foreign<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>().to_value();
    without_descriptions(&mut schema);
    Schema::try_from(schema).expect("a schema without its descriptions is one")
}

/// Returns the schema of a list of a foreign type with at most `max` items.
fn bounded_foreign_list<T: JsonSchema>(generator: &mut SchemaGenerator, max: u32) -> Schema {
    json_schema!({ "type": "array", "maxItems": max, "items": foreign::<T>(generator) })
}

/// Removes every description from a schema, but keeps a property whose name is `description`.
pub(super) fn without_descriptions(schema: &mut Value) {
    let Value::Object(members) = schema else { return };
    if members.get("description").is_some_and(Value::is_string) {
        members.remove("description");
    }
    for (key, value) in members.iter_mut() {
        match (key.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(without_descriptions);
            }
            ("anyOf" | "allOf" | "oneOf", Value::Array(list)) => {
                list.iter_mut().for_each(without_descriptions);
            }
            ("items" | "additionalProperties" | "not", value) => without_descriptions(value),
            _ => {}
        }
    }
}

/// Returns the schema of `ResourceRequirements`.
pub(super) fn resources(generator: &mut SchemaGenerator) -> Schema {
    foreign::<ResourceRequirements>(generator)
}

/// Returns the schema of a list of at most 16 tolerations.
pub(super) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<Toleration>(generator, 16)
}

/// Returns the schema of a list of at most 4 topology spread constraints.
pub(super) fn topology_spread(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<TopologySpreadConstraint>(generator, 4)
}

/// Returns the schema of `PodSecurityContext` without the options for Windows.
pub(super) fn pod_security(generator: &mut SchemaGenerator) -> Schema {
    without_member(foreign::<PodSecurityContext>(generator), WINDOWS)
}

/// Returns the schema of `SecurityContext` without the options for Windows.
pub(super) fn container_security(generator: &mut SchemaGenerator) -> Schema {
    without_member(foreign::<SecurityContext>(generator), WINDOWS)
}

/// The member of security contexts that only Windows uses.
const WINDOWS: &str = "windowsOptions";

fn without_member(mut schema: Schema, member: &str) -> Schema {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove(member);
    }
    schema
}

/// Returns the schema of an object of Kubernetes' own type that only the operator parses. Seven components would each
/// contain the full schema, and the definition would exceed the size that `kubectl apply` can store in an annotation.
/// Errors in such an object are reported by a condition: values that cannot be parsed by [`crate::run::unreadable`],
/// unknown fields by [`crate::validate`].
pub(super) fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// Returns the schema of the times of a probe of ours. The members have no descriptions, which each of seven components would
/// repeat: the descriptions of the probes name them.
pub(super) fn probe_times(_: &mut SchemaGenerator) -> Schema {
    let number = json!({ "type": "integer", "minimum": 1, "maximum": MAX_PROBE_TIME });
    json_schema!({
        "type": "object",
        "properties": {
            "failureThreshold": number,
            "periodSeconds": number,
            "timeoutSeconds": number,
        },
    })
}

/// Returns the schema of a list of at most 64 objects that only the operator parses.
pub(super) fn opaque_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 64, "items": opaque(generator) })
}

/// Returns the schema of a list of at most 16 relabelings of a `ServiceMonitor`. Its own definition checks them.
pub(super) fn relabelings(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 16, "items": opaque(generator) })
}

/// Returns the schema of a list of at most 8 metrics of a `HorizontalPodAutoscaler`. The API server checks them when the
/// autoscaler is written.
pub(super) fn metrics(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 8, "items": opaque(generator) })
}

/// Returns the schema of a list of at most 32 lines of `/etc/hosts`.
pub(super) fn host_aliases(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<HostAlias>(generator, 32)
}

/// Returns the schema of `envFrom`: a list of at most 16 items.
pub(super) fn env_from(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<EnvFromSource>(generator, 16)
}

/// Returns the schema of at most 64 environment variables of liverank's own container.
pub(super) fn own_env(generator: &mut SchemaGenerator) -> Schema {
    let mut list = bounded_foreign_list::<EnvVar>(generator, 64);
    if let Some(items) = list.get_mut("items") {
        items["properties"]["valueFrom"] = opaque(generator).to_value();
    }
    with_item_rules(list, "name", 253, rules::own_env())
}

/// Returns the schema of a list of at most 16 volume mounts.
pub(super) fn mounts(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<VolumeMount>(generator, 16)
}

/// Returns the schema of the volume mounts of liverank's own container.
pub(super) fn own_mounts(generator: &mut SchemaGenerator) -> Schema {
    with_item_rules(mounts(generator), "mountPath", 1024, rules::own_mounts())
}

/// Adds rules on one member of a list's items, and a maximal length of that member, because the API server prices rules
/// by it.
fn with_item_rules(mut list: Schema, member: &str, max: u32, rules: Value) -> Schema {
    if let Some(items) = list.get_mut("items") {
        items["properties"][member]["maxLength"] = json!(max);
    }
    list.insert(VALIDATIONS.into(), rules);
    list
}

/// Returns the schema of at most 32 networks from which a load balancer accepts connections; [`crate::validate`] checks
/// them.
pub(super) fn source_ranges(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 32, "items": { "type": "string", "maxLength": 64 } })
}

/// Returns the schema of a list of at most 16 peers of a network policy.
pub(super) fn peers(generator: &mut SchemaGenerator) -> Schema {
    let mut peer = foreign::<NetworkPolicyPeer>(generator);
    peer.insert(VALIDATIONS.into(), rules::peer());
    json_schema!({ "type": "array", "maxItems": 16, "items": peer })
}

/// Returns the schema of a list of at most 32 networks, each once.
pub(super) fn cidrs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 64, VALIDATIONS: rules::cidr() },
    })
}

/// Returns the schema of a list of conditions with one condition for each type, at most 16.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = bounded_foreign_list::<Condition>(generator, 16);
    schema.insert("x-kubernetes-list-type".into(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    schema
}

/// Returns the schema of at most 32 labels that a node must have.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": 32, "additionalProperties": label_value() })
}

/// Returns the schema of at most 32 labels of pods.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": label_value(),
        VALIDATIONS: rules::labels(),
    })
}

/// Returns the schema of a label's value, by Kubernetes' rules.
fn label_value() -> Value {
    json!({ "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$" })
}

/// Returns the schema of at most 32 annotations, with the rules for their keys.
pub(super) fn annotations(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = plain_annotations(generator);
    schema.insert(VALIDATIONS.into(), rules::annotations());
    schema
}

/// Returns the schema of at most 32 annotations without rules; [`crate::validate`] checks them.
pub(super) fn plain_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 8192 },
    })
}

/// Returns the schema of a time in RFC 3339.
pub(super) fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "maxLength": 64 })
}

/// Returns the schema of a number from 0 to 500, or a percentage.
pub(super) fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maximum": 500,
        "maxLength": 4,
        "pattern": "^(100|[0-9]{1,2})%$",
    })
}
