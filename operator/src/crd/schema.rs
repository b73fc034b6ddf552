//! Schemas of what is not ours, and of a few shapes that schemars cannot say. Kubernetes' own types go in without their
//! descriptions: with them the definition would be past what `kubectl apply` can annotate (262,144 bytes).

use k8s_openapi::api::core::v1::{
    EnvFromSource, EnvVar, HostAlias, PodSecurityContext, ResourceRequirements, SecurityContext, Toleration,
    TopologySpreadConstraint, VolumeMount,
};
use k8s_openapi::api::networking::v1::NetworkPolicyPeer;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::rules;

/// Where rules stand in a schema.
pub(super) const VALIDATIONS: &str = "x-kubernetes-validations";

/// The schema of a foreign type, without words.
pub(super) fn foreign<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<T>().to_value();
    without_descriptions(&mut schema);
    Schema::try_from(schema).expect("a schema without its descriptions is one")
}

/// A list of a foreign type with at most `max` items.
fn bounded_foreign_list<T: JsonSchema>(generator: &mut SchemaGenerator, max: u32) -> Schema {
    json_schema!({ "type": "array", "maxItems": max, "items": foreign::<T>(generator) })
}

/// Takes every description out, but leaves a property whose name is `description`.
fn without_descriptions(schema: &mut Value) {
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

/// `ResourceRequirements`.
pub(super) fn resources(generator: &mut SchemaGenerator) -> Schema {
    foreign::<ResourceRequirements>(generator)
}

/// Tolerations, at most 16.
pub(super) fn tolerations(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<Toleration>(generator, 16)
}

/// Topology spread constraints, at most 4.
pub(super) fn topology_spread(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<TopologySpreadConstraint>(generator, 4)
}

/// `PodSecurityContext`, for Linux.
pub(super) fn pod_security(generator: &mut SchemaGenerator) -> Schema {
    without(foreign::<PodSecurityContext>(generator), WINDOWS)
}

/// `SecurityContext`, for Linux.
pub(super) fn container_security(generator: &mut SchemaGenerator) -> Schema {
    without(foreign::<SecurityContext>(generator), WINDOWS)
}

/// What only Windows has.
const WINDOWS: &str = "windowsOptions";

fn without(mut schema: Schema, member: &str) -> Schema {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.remove(member);
    }
    schema
}

/// A part of Kubernetes' own that is read by the operator alone: seven components would carry its schema, and the
/// definition would be past what `kubectl apply` can annotate. What is wrong in it is told by a condition: what cannot
/// be read by [`crate::run::unreadable`], what there is no field for by [`crate::validate`].
pub(super) fn opaque(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "x-kubernetes-preserve-unknown-fields": true })
}

/// A list of such parts, at most 64.
pub(super) fn opaque_list(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 64, "items": opaque(generator) })
}

/// Lines of `/etc/hosts`, at most 32.
pub(super) fn host_aliases(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<HostAlias>(generator, 32)
}

/// `envFrom`, at most 16.
pub(super) fn env_from(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<EnvFromSource>(generator, 16)
}

/// Variables of liverank's own container, at most 64.
pub(super) fn own_env(generator: &mut SchemaGenerator) -> Schema {
    let mut list = bounded_foreign_list::<EnvVar>(generator, 64);
    if let Some(items) = list.get_mut("items") {
        items["properties"]["valueFrom"] = opaque(generator).to_value();
    }
    ruled(list, "name", 253, rules::own_env())
}

/// Mounts, at most 16.
pub(super) fn mounts(generator: &mut SchemaGenerator) -> Schema {
    bounded_foreign_list::<VolumeMount>(generator, 16)
}

/// Mounts of liverank's own container.
pub(super) fn own_mounts(generator: &mut SchemaGenerator) -> Schema {
    ruled(mounts(generator), "mountPath", 1024, rules::own_mounts())
}

/// A list with rules on one member of its items, which gets a bound: rules are priced by it.
fn ruled(mut list: Schema, member: &str, max: u32, rules: Value) -> Schema {
    if let Some(items) = list.get_mut("items") {
        items["properties"][member]["maxLength"] = json!(max);
    }
    list.insert(VALIDATIONS.into(), rules);
    list
}

/// Networks that a load balancer takes connections from, at most 32; [`crate::validate`] says what is wrong with them.
pub(super) fn source_ranges(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "array", "maxItems": 32, "items": { "type": "string", "maxLength": 64 } })
}

/// Peers of a network policy, at most 16.
pub(super) fn peers(generator: &mut SchemaGenerator) -> Schema {
    let mut peer = foreign::<NetworkPolicyPeer>(generator);
    peer.insert(VALIDATIONS.into(), rules::peer());
    json_schema!({ "type": "array", "maxItems": 16, "items": peer })
}

/// Networks, at most 32, each once.
pub(super) fn cidrs(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "array",
        "maxItems": 32,
        "x-kubernetes-list-type": "set",
        "items": { "type": "string", "maxLength": 64, VALIDATIONS: rules::cidr() },
    })
}

/// Conditions, one of each type.
pub(super) fn conditions(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = bounded_foreign_list::<Condition>(generator, 16);
    schema.insert("x-kubernetes-list-type".into(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
    schema
}

/// Labels that a node must have, at most 32.
pub(super) fn node_selector(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "object", "maxProperties": 32, "additionalProperties": label_value() })
}

/// Labels, at most 32.
pub(super) fn labels(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": label_value(),
        VALIDATIONS: rules::labels(),
    })
}

/// What Kubernetes takes for a label's value.
fn label_value() -> Value {
    json!({ "type": "string", "maxLength": 63, "pattern": "^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$" })
}

/// Annotations, at most 32.
pub(super) fn annotations(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = plain_annotations(generator);
    schema.insert(VALIDATIONS.into(), rules::annotations());
    schema
}

/// Annotations of which [`crate::validate`] says what is wrong.
pub(super) fn plain_annotations(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "maxProperties": 32,
        "additionalProperties": { "type": "string", "maxLength": 8192 },
    })
}

/// A moment, RFC 3339.
pub(super) fn date_time(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "string", "format": "date-time", "maxLength": 64 })
}

/// A number of at least 0, or a percentage.
pub(super) fn int_or_percent(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "x-kubernetes-int-or-string": true,
        "minimum": 0,
        "maximum": 500,
        "maxLength": 4,
        "pattern": "^(100|[0-9]{1,2})%$",
    })
}
