//! The schema of v1beta1, made from the schema of v1alpha1 by the table of changes.

use serde_json::{Map, Value, json};

use super::convert::{changes_at, field_path, value_to_v1beta1};
use super::duration::{Unit, write_duration};
use super::table::{FieldChange, Form, GROUPS, RULES};
use crate::crd::schema::VALIDATIONS;

/// The largest length of a duration's text, in characters: four parts of seven digits and a unit.
const MAX_DURATION_LENGTH: u32 = 36;

/// Returns the schema of a resource of v1beta1, made from the schema of v1alpha1.
pub(super) fn schema_of_v1beta1(v1alpha1: &Value) -> Value {
    let mut root = v1alpha1.clone();
    let spec = &mut root["properties"]["spec"];
    *spec = reshape(spec, "");
    root
}

/// Returns the schema in v1beta1 of the value at a path of v1alpha1.
fn reshape(schema: &Value, at: &str) -> Value {
    let mut shaped = schema.clone();
    let Value::Object(members) = &mut shaped else { return shaped };
    if let Some(default @ Value::Object(_)) = members.get_mut("default") {
        *default = value_to_v1beta1(default, at, at).expect("a default is valid");
    }
    if let Some(Value::Array(rules)) = members.get_mut(VALIDATIONS) {
        rules.iter_mut().for_each(replace_changed_rule);
    }
    if let Some(items) = members.get_mut("items") {
        *items = reshape(items, &format!("{at}[]"));
    }
    if let Some(Value::Array(required)) = members.get_mut("required") {
        for name in required {
            if let Some(change) = changes_at(at).find(|change| name == change.old) {
                *name = json!(change.group());
            }
        }
    }
    if let Some(Value::Object(properties)) = members.get_mut("properties") {
        *properties = reshape_properties(properties, at);
    }
    shaped
}

fn reshape_properties(properties: &Map<String, Value>, at: &str) -> Map<String, Value> {
    let mut shaped = Map::new();
    for (name, property) in properties {
        let property = reshape(property, &field_path(at, name));
        let Some(change) = changes_at(at).find(|change| change.old == name) else {
            shaped.insert(name.clone(), property);
            continue;
        };
        let property = field_schema_in_v1beta1(property, change);
        match change.new.split_once('.') {
            None => shaped.insert(change.new.to_owned(), property),
            Some((name, inner)) => {
                let group = shaped.entry(name).or_insert_with(|| new_group(name));
                // With a default of its own, a group that is not given shows the defaults of its fields.
                if property.get("default").is_some() {
                    group["default"] = json!({});
                }
                group["properties"].as_object_mut().and_then(|it| it.insert(inner.to_owned(), property))
            }
        };
    }
    shaped
}

/// Returns the schema of a group without fields.
fn new_group(name: &str) -> Value {
    let words = GROUPS.iter().find(|(group, _)| *group == name).map_or("", |(_, words)| words);
    json!({ "type": "object", "description": words, "properties": {} })
}

/// Returns a field's schema with the form and the description of v1beta1.
fn field_schema_in_v1beta1(mut schema: Value, change: &FieldChange) -> Value {
    match change.form {
        Form::Same => {}
        Form::Word { yes, no } => {
            let default = schema.get("default").and_then(Value::as_bool);
            let words = schema["description"].take();
            schema = json!({ "type": "string", "enum": [yes, no], "description": words });
            if let Some(default) = default {
                schema["default"] = json!(if default { yes } else { no });
            }
        }
        Form::Duration(unit) => schema = duration_schema(&schema, unit),
    }
    if !change.description.is_empty() {
        schema["description"] = json!(change.description);
    }
    schema
}

/// Returns the schema of a duration that has the bounds and the default of a number of this unit.
fn duration_schema(number: &Value, unit: Unit) -> Value {
    let written = |name: &str| {
        let bound = &number[name];
        let whole = bound.as_u64().or_else(|| bound.as_f64().map(|float| float as u64));
        whole.map(|count| write_duration(count, unit))
    };
    let (least, most) = (written("minimum").unwrap_or_default(), written("maximum").unwrap_or_default());
    let mut schema = json!({
        "type": "string",
        "maxLength": MAX_DURATION_LENGTH,
        "pattern": unit.pattern(),
        "description": number["description"],
        VALIDATIONS: [{
            "rule": format!("duration(self) >= duration('{least}') && duration(self) <= duration('{most}')"),
            "message": format!("write a duration from {least} to {most}"),
        }],
    });
    if let Some(default) = written("default") {
        schema["default"] = json!(default);
    }
    schema
}

/// Replaces a validation rule that names a changed field by the rule of v1beta1.
fn replace_changed_rule(rule: &mut Value) {
    if let Some(change) = RULES.iter().find(|change| rule["rule"] == change.old) {
        rule["rule"] = json!(change.new);
        rule["message"] = json!(change.message);
    }
}
