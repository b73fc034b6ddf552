//! Tests of the definition of both versions.

use std::collections::BTreeSet;

use liverank_operator::crd::MAX_PROBE_TIME;
use liverank_operator::crd::v1beta1::table::{CHANGES, Form, GROUPS, RULES};
use liverank_operator::crd::v1beta1::{Version, WebhookService, definition_of_both_yaml, to_v1beta1};
use serde_json::{Value, json};

use super::{both, spec_schema};

/// The limit for the definition's size in bytes: `kubectl apply` can annotate 262,144 bytes, of which the labels and
/// annotations of whoever installs the definition take some.
const MAX_BYTES: usize = 256_000;

/// Numbers of a unit that stay: pods have a field of the first name, and the second one is a decimal like the weights.
const NUMBERS_THAT_STAY: [&str; 2] =
    ["readers.terminationGracePeriodSeconds", "scoring.watchTimeThresholdSeconds"];

/// Calls `see` with the path (`[]` for a list's items) and the schema of each object and field.
pub fn visit(schema: &Value, path: &str, see: &mut dyn FnMut(&str, &Value)) {
    see(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
        visit(property, &path, see);
    }
    if schema["items"].is_object() {
        visit(&schema["items"], &format!("{path}[]"), see);
    }
}

#[test]
fn the_definition_of_both_versions_is_small_enough_to_apply() {
    let bytes = both().to_string().len();
    assert!(bytes < MAX_BYTES, "{bytes} bytes");
}

#[test]
fn the_definition_of_both_versions_is_what_the_command_prints() {
    // The Service is that of the kustomize base.
    let service = WebhookService { namespace: "liverank".to_owned(), name: "liverank-operator".to_owned() };
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../crds/v1beta1/rankingcluster.yaml");
    let printed = definition_of_both_yaml(&service);
    if std::env::var_os("UPDATE_SNAPSHOTS").is_some() {
        std::fs::write(file, &printed).unwrap();
    }
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(
        written == printed,
        "liverank-operator crd --with-v1beta1 liverank/liverank-operator > crds/v1beta1/rankingcluster.yaml"
    );
}

#[test]
fn v1alpha1_is_stored_and_both_are_served() {
    let definition = both();
    let versions = definition["spec"]["versions"].as_array().unwrap();
    let told: Vec<_> = versions.iter().map(|it| (&it["name"], &it["served"], &it["storage"])).collect();
    let yes = &json!(true);
    assert_eq!(told, [(&json!("v1alpha1"), yes, yes), (&json!("v1beta1"), yes, &json!(false))]);
    for part in ["additionalPrinterColumns", "subresources"] {
        assert!(!versions[0][part].is_null(), "{part}");
        assert_eq!(versions[0][part], versions[1][part], "{part}");
    }
    let selectable = |nth: usize| versions[nth]["selectableFields"].as_array().unwrap().clone();
    let mut more = selectable(0);
    more.push(json!({ "jsonPath": ".spec.reconciliation" }));
    assert_eq!(selectable(1), more);
    let service = &definition["spec"]["conversion"]["webhook"]["clientConfig"]["service"];
    assert_eq!(
        service,
        &json!({"namespace": "liverank", "name": "operator", "path": "/convert", "port": 443})
    );
    // What columns, selectors and /scale read is called the same in both versions.
    for path in ["readers.replicas", "readers.scaling.mode", "operatorClass", "image"] {
        let pointer = format!("/properties/{}", path.replace('.', "/properties/"));
        assert!(spec_schema(Version::V1beta1).pointer(&pointer).is_some(), "{path}");
    }
}

#[test]
fn each_change_is_of_a_field_that_is_there() {
    let mut fields = BTreeSet::new();
    visit(spec_schema(Version::V1alpha1), "", &mut |path, _| {
        fields.insert(path.to_owned());
    });
    let of = |parent: &str, name: &str| {
        if parent.is_empty() { name.to_owned() } else { format!("{parent}.{name}") }
    };
    for change in CHANGES {
        for parent in change.parents {
            assert!(fields.contains(&of(parent, change.old)), "{parent}.{}: no such field", change.old);
            // A field that is called otherwise itself leaves its name.
            let is_left = CHANGES.iter().any(|it| it.parents.contains(parent) && it.old == change.group());
            let taken = fields.contains(&of(parent, change.group())) && !is_left;
            assert!(!taken, "{parent}.{} is there under that name", change.new);
        }
        if change.is_grouped() {
            assert!(
                GROUPS.iter().any(|(group, _)| *group == change.group()),
                "{} is not described",
                change.new
            );
        }
    }
}

#[test]
fn each_number_of_a_unit_is_a_duration() {
    let is_changed = |path: &str| {
        let (parent, name) = path.rsplit_once('.').unwrap_or(("", path));
        CHANGES
            .iter()
            .any(|it| it.parents.contains(&parent) && it.old == name && matches!(it.form, Form::Duration(_)))
    };
    let mut numbers = 0;
    visit(spec_schema(Version::V1alpha1), "", &mut |path, field| {
        let of_a_unit =
            ["Seconds", "Minutes", "Milliseconds", "Hours", "Days"].iter().any(|unit| path.ends_with(unit));
        // Kubernetes' own fields keep their names.
        let is_ours = field["description"].is_string();
        if of_a_unit && is_ours && !NUMBERS_THAT_STAY.contains(&path) {
            numbers += 1;
            assert!(is_changed(path), "{path}: a number of a unit that is not in the table");
        }
    });
    assert!(numbers > 8, "only {numbers} numbers were looked at");
}

#[test]
fn times_of_probes_are_bounded_whole_numbers_in_every_schema() {
    // Elsewhere a number in quotes would be taken, and the types cannot read it: the whole resource would be unreadable.
    let both = both();
    let of_both =
        |nth: usize| both["spec"]["versions"][nth]["schema"]["openAPIV3Schema"]["properties"]["spec"].clone();
    for (spec, container) in [
        (spec_schema(Version::V1alpha1).clone(), "/properties/pod"),
        (of_both(0), "/properties/pod"),
        (of_both(1), "/properties/podTemplate/properties/container"),
    ] {
        let mut times = 0;
        let components = spec["properties"].as_object().unwrap().values();
        for container in components.filter_map(|component| component.pointer(container)) {
            for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
                for name in ["periodSeconds", "timeoutSeconds", "failureThreshold"] {
                    let time = &container["properties"][probe]["properties"][name];
                    let bounds = (time["minimum"].as_f64(), time["maximum"].as_f64());
                    assert_eq!(time["type"], "integer", "{probe}.{name}");
                    assert_eq!(bounds, (Some(1.0), Some(f64::from(MAX_PROBE_TIME))), "{probe}.{name}");
                    times += 1;
                }
            }
        }
        assert_eq!(times, 63, "nine of each of seven components");
    }
}

#[test]
fn v1beta1_has_the_defaults_of_v1alpha1() {
    let defaults = |version| {
        let schema = spec_schema(version);
        let mut object = json!({});
        // One level at a time.
        loop {
            let more = kube::core::cel::apply_defaults(schema, &object);
            if more == object {
                return object;
            }
            object = more;
        }
    };
    let mut v1beta1 = defaults(Version::V1beta1);
    super::without_empty_groups(&mut v1beta1, "");
    assert_eq!(to_v1beta1(&defaults(Version::V1alpha1)).unwrap(), v1beta1);
    assert_eq!(v1beta1["readers"]["scaling"]["scaleDownStabilizationWindow"], "5m");
    assert_eq!(v1beta1["monitoring"]["serviceMonitor"]["mode"], "None");
}

#[test]
fn each_field_of_v1beta1_is_explained_without_former_names() {
    // A name that stays, and is in a group now, may be spoken of.
    let renamed = || CHANGES.iter().filter(|it| it.new.rsplit('.').next() != Some(it.old));
    let mut former: Vec<String> = renamed().map(|it| format!("`{}`", it.old)).collect();
    former.extend(
        renamed().flat_map(|it| it.parents.iter().map(move |parent| format!("`{parent}.{}`", it.old))),
    );
    visit(spec_schema(Version::V1beta1), "", &mut |path, field| {
        let Some(words) = field["description"].as_str() else { return };
        assert!(words.len() > 4, "{path}: {words}");
        let spoken_of = former.iter().find(|name| words.contains(name.as_str()));
        assert_eq!(spoken_of, None, "{path}: {words}");
    });
}

/// Returns the members that a rule reads of `self`, as paths.
fn members_read(rule: &str) -> Vec<Vec<&str>> {
    let is_word = |letter: char| letter.is_ascii_alphanumeric() || letter == '.';
    let words = rule.split(|letter| !is_word(letter));
    words
        .filter_map(|word| word.strip_prefix("self.").or_else(|| word.strip_prefix("oldSelf.")))
        .map(|path| path.split('.').collect())
        .collect()
}

#[test]
fn rules_of_v1beta1_read_fields_of_v1beta1() {
    let methods = ["all", "matches", "startsWith", "contains", "replace", "exists"];
    let mut read = 0;
    visit(spec_schema(Version::V1beta1), "", &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            for members in members_read(rule["rule"].as_str().unwrap()) {
                let mut at = schema;
                for name in members.into_iter().take_while(|name| !methods.contains(name)) {
                    at = &at["properties"][name];
                    assert!(!at.is_null(), "{path}: there is no {name}, which a rule reads: {rule}");
                    read += 1;
                }
            }
        }
    });
    assert!(read > 50, "only {read} names were looked at");
}

#[test]
fn each_reworded_rule_is_one_of_v1alpha1() {
    let mut rules = BTreeSet::new();
    visit(spec_schema(Version::V1alpha1), "", &mut |_, schema| {
        let all = schema["x-kubernetes-validations"].as_array();
        rules.extend(all.into_iter().flatten().map(|rule| rule["rule"].as_str().unwrap().to_owned()));
    });
    for change in RULES {
        assert!(rules.contains(change.old), "no rule: {}", change.old);
    }
}
