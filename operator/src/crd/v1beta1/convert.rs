//! The conversion of a resource from one version into the other. Nothing is lost either way: what has no place in the other
//! version is refused by its path.

use serde_json::{Map, Value, json};

use super::duration::{read_duration, write_duration};
use super::table::{CHANGES, FieldChange, Form};

/// A version of the resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// The version that is stored.
    V1alpha1,
    /// The version with the names that Kubernetes users expect.
    V1beta1,
}

impl Version {
    /// All versions, the oldest first.
    pub const ALL: [Self; 2] = [Self::V1alpha1, Self::V1beta1];

    /// Returns the version's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::V1alpha1 => "v1alpha1",
            Self::V1beta1 => "v1beta1",
        }
    }

    /// Returns the `apiVersion` of resources of this version.
    pub fn api_version(self) -> String {
        format!("liverank.dev/{}", self.name())
    }

    /// Returns the version with this `apiVersion`; `None` if there is none.
    pub fn of_api_version(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.api_version() == text)
    }
}

/// The error for a field that cannot be converted to the other version.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct ConversionError {
    /// The field's path in the resource that was to be converted, such as `spec.readers.drain.timeout`.
    pub path: String,
    /// The reason why the field cannot be converted.
    pub message: String,
}

fn conversion_error<T>(path: &str, message: impl Into<String>) -> Result<T, ConversionError> {
    Err(ConversionError { path: path.to_owned(), message: message.into() })
}

/// Converts a whole resource. Everything but `apiVersion` and `spec` stays as it is.
///
/// # Errors
/// The resource is no `RankingCluster` of a known version, or one of its fields cannot be converted.
pub fn convert_object(object: &Value, wanted: Version) -> Result<Value, ConversionError> {
    let given = object["apiVersion"].as_str().unwrap_or_default();
    let Some(version) = Version::of_api_version(given) else {
        return conversion_error(
            "apiVersion",
            format!("{given:?} is neither liverank.dev/v1alpha1 nor /v1beta1"),
        );
    };
    let mut converted = object.clone();
    converted["apiVersion"] = json!(wanted.api_version());
    if version != wanted
        && let Some(spec) = converted.get_mut("spec")
    {
        *spec = match wanted {
            Version::V1alpha1 => to_v1alpha1(spec)?,
            Version::V1beta1 => to_v1beta1(spec)?,
        };
    }
    Ok(converted)
}

/// Converts a spec of v1alpha1 into one of v1beta1.
///
/// # Errors
/// A field has a value of a wrong type, or a name of v1beta1.
pub fn to_v1beta1(spec: &Value) -> Result<Value, ConversionError> {
    value_to_v1beta1(spec, "", "spec")
}

/// Converts a spec of v1beta1 into one of v1alpha1.
///
/// # Errors
/// A field has a value of a wrong type, such as a duration that is none, a name of v1alpha1, or no place in v1alpha1.
pub fn to_v1alpha1(spec: &Value) -> Result<Value, ConversionError> {
    value_to_v1alpha1(spec, "", "spec")
}

/// Returns the changes of an object's fields; `at` is the object's path in a spec of v1alpha1.
pub(super) fn changes_at(at: &str) -> impl Iterator<Item = &'static FieldChange> + Clone {
    CHANGES.iter().filter(move |change| change.parents.contains(&at))
}

/// Returns the path of a field of the object at `at`.
pub(super) fn field_path(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// Converts a value of v1alpha1; `at` is its path in any spec of v1alpha1, `path` the one in this resource.
pub(super) fn value_to_v1beta1(value: &Value, at: &str, path: &str) -> Result<Value, ConversionError> {
    let members = match value {
        Value::Object(members) => members,
        Value::Array(items) => return convert_items(items, at, path, value_to_v1beta1),
        other => return Ok(other.clone()),
    };
    let mut converted = Map::new();
    for (name, member) in members {
        let path = format!("{path}.{name}");
        let inner = value_to_v1beta1(member, &field_path(at, name), &path)?;
        let known = changes_at(at).find(|change| change.old == name);
        let Some(change) = known else {
            if let Some(change) = changes_at(at).find(|change| change.group() == name) {
                return conversion_error(
                    &path,
                    format!("a field of v1beta1; in v1alpha1 it is {}", change.old),
                );
            }
            converted.insert(name.clone(), inner);
            continue;
        };
        put_at_path(&mut converted, change.new, to_v1beta1_form(change.form, inner, &path)?);
    }
    Ok(Value::Object(converted))
}

/// Converts a value of v1beta1; `at` is its path in any spec of v1alpha1, `path` the one in this resource.
fn value_to_v1alpha1(value: &Value, at: &str, path: &str) -> Result<Value, ConversionError> {
    let members = match value {
        Value::Object(members) => members,
        Value::Array(items) => return convert_items(items, at, path, value_to_v1alpha1),
        other => return Ok(other.clone()),
    };
    let mut left = members.clone();
    let mut converted = Map::new();
    for change in changes_at(at) {
        let Some(member) = take_at_path(&mut left, change.new) else { continue };
        let path = format!("{path}.{}", change.new);
        let inner = value_to_v1alpha1(
            &to_v1alpha1_form(change.form, member, &path)?,
            &field_path(at, change.old),
            &path,
        )?;
        converted.insert(change.old.to_owned(), inner);
    }
    for (name, member) in left {
        let path = format!("{path}.{name}");
        if changes_at(at).any(|change| change.is_grouped() && change.group() == name) {
            expect_empty_group(&member, &path)?;
        } else if let Some(change) = changes_at(at).find(|change| change.old == name) {
            return conversion_error(&path, format!("a field of v1alpha1; in v1beta1 it is {}", change.new));
        } else {
            let inner = value_to_v1alpha1(&member, &field_path(at, &name), &path)?;
            converted.insert(name, inner);
        }
    }
    Ok(Value::Object(converted))
}

fn convert_items(
    items: &[Value],
    at: &str,
    path: &str,
    convert: fn(&Value, &str, &str) -> Result<Value, ConversionError>,
) -> Result<Value, ConversionError> {
    let at = format!("{at}[]");
    let numbered = items.iter().enumerate();
    numbered.map(|(nth, item)| convert(item, &at, &format!("{path}[{nth}]"))).collect()
}

/// Checks that nothing is left in a group after all its fields were taken out.
fn expect_empty_group(group: &Value, path: &str) -> Result<(), ConversionError> {
    match group {
        Value::Null => Ok(()),
        Value::Object(members) => match members.keys().next() {
            Some(name) => conversion_error(&format!("{path}.{name}"), "there is no such field"),
            None => Ok(()),
        },
        _ => conversion_error(path, "an object is needed"),
    }
}

/// Puts a value at a dotted path, and makes the objects that lead there.
fn put_at_path(members: &mut Map<String, Value>, path: &str, value: Value) {
    match path.split_once('.') {
        None => {
            members.insert(path.to_owned(), value);
        }
        Some((group, rest)) => {
            let group = members.entry(group).or_insert_with(|| json!({}));
            if let Value::Object(inner) = group {
                put_at_path(inner, rest, value);
            }
        }
    }
}

/// Takes the value at a dotted path out; `None` if there is none.
fn take_at_path(members: &mut Map<String, Value>, path: &str) -> Option<Value> {
    match path.split_once('.') {
        None => members.remove(path),
        Some((group, rest)) => take_at_path(members.get_mut(group)?.as_object_mut()?, rest),
    }
}

/// Returns a value of v1alpha1 in the form that v1beta1 has.
fn to_v1beta1_form(form: Form, value: Value, path: &str) -> Result<Value, ConversionError> {
    match (form, &value) {
        (Form::Same, _) | (_, Value::Null) => Ok(value),
        (Form::Word { yes, no }, Value::Bool(set)) => Ok(json!(if *set { yes } else { no })),
        (Form::Word { .. }, _) => conversion_error(path, "true or false is needed"),
        (Form::Duration(unit), _) => match value.as_u64() {
            Some(count) => Ok(json!(write_duration(count, unit))),
            None => conversion_error(path, format!("a whole number of {} is needed", unit.name())),
        },
    }
}

/// Returns a value of v1beta1 in the form that v1alpha1 has.
fn to_v1alpha1_form(form: Form, value: Value, path: &str) -> Result<Value, ConversionError> {
    match (form, &value) {
        (Form::Same, _) | (_, Value::Null) => Ok(value),
        (Form::Word { yes, .. }, Value::String(word)) if word == yes => Ok(json!(true)),
        (Form::Word { no, .. }, Value::String(word)) if word == no => Ok(json!(false)),
        (Form::Word { yes, no }, _) => conversion_error(path, format!("{yes} or {no} is needed")),
        (Form::Duration(unit), Value::String(text)) => match read_duration(text, unit) {
            Ok(count) => Ok(json!(count)),
            Err(message) => conversion_error(path, message),
        },
        (Form::Duration(_), _) => conversion_error(path, "a duration such as 30s, 5m or 1h30m is needed"),
    }
}
