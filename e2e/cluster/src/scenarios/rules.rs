//! The scenario `rules`: each validation rule of the custom resource definition, on a real API server. A valid
//! resource is accepted; with one field changed it is refused with exactly the promised field and message; and without
//! its rule exactly that change is accepted.
//!
//! To take each rule out by itself would need a definition for each rule, and an API server needs most of a second to
//! serve one. So about half of the rules are taken out at a time (group testing): each rule in as many of the rounds as any
//! other, and no two rules in the same rounds. A fixture that one rule alone refuses is accepted in exactly the rounds of
//! that rule. A fixture that two rules refuse is accepted only where both are out, which is in fewer rounds than any rule
//! has, so it is never taken for a fixture of one rule.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, ensure};
use reqwest::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::kube::{DEFINITION_KIND, KubeAnswer, NAMESPACE_KIND, RANKING_CLUSTER_KIND};
use crate::wait::{Look, wait_and_watch, wait_until_true};
use crate::world::{ClusterWorld, SETTLE_TIMEOUT};

const NAMESPACE_NAME: &str = "liverank-e2e-rules";
const DEFINITION_NAME: &str = "rankingclusters.liverank.dev";
/// The name of the resource that tells which definition is served.
const PROBE_NAME: &str = "probe";
/// The time limit until a changed definition is served.
const SERVED_TIMEOUT: Duration = Duration::from_secs(30);

/// The fixture of one validation rule: a change that the rule refuses.
#[derive(Debug, Clone, Deserialize)]
struct RuleFixture {
    name: String,
    /// The changes to the valid resource, by dotted paths; null removes the field.
    #[serde(default)]
    set: serde_json::Map<String, Value>,
    /// For a rule on updates: the changes to the resource that was stored before.
    #[serde(default)]
    update: serde_json::Map<String, Value>,
    path: String,
    message: String,
}

impl RuleFixture {
    fn is_update(&self) -> bool {
        !self.update.is_empty()
    }
}

pub async fn check_rules(world: &ClusterWorld) -> anyhow::Result<String> {
    let read = |file: &str| std::fs::read_to_string(world.path(file)).with_context(|| file.to_owned());
    let definition: Value = serde_yaml::from_str(&read("crds/rankingcluster.yaml")?)?;
    let valid: Value = serde_yaml::from_str(&read("operator/tests/fixtures/valid.yaml")?)?;
    let fixtures: Vec<RuleFixture> = serde_yaml::from_str(&read("operator/tests/fixtures/rules.yaml")?)?;
    let bench = RulesChecker { world, valid, fixtures };
    bench.prepare_namespace(&definition).await?;
    let result = bench.check_all_rules(&definition).await;
    bench.clean_up(&definition).await?;
    result
}

struct RulesChecker<'a> {
    world: &'a ClusterWorld,
    valid: Value,
    fixtures: Vec<RuleFixture>,
}

impl RulesChecker<'_> {
    async fn prepare_namespace(&self, definition: &Value) -> anyhow::Result<()> {
        self.world.create_namespace(NAMESPACE_NAME).await?;
        // A definition of before, if there is one, is served for a moment more.
        self.serve_definition(definition.clone(), "the whole definition").await?;
        // The first request after the definition was created may find no handler for it.
        let served = async || Ok(self.create_resource(&self.valid, true).await?.status.is_success());
        wait_until_true("the valid resource is taken", SERVED_TIMEOUT, served).await?;
        for fixture in self.fixtures.iter().filter(|fixture| fixture.is_update()) {
            let stored = self.fixture_resource(fixture)?;
            self.create_resource(&stored, false)
                .await?
                .expect_success()
                .with_context(|| format!("{}: storing", fixture.name))?;
        }
        Ok(())
    }

    async fn check_all_rules(&self, definition: &Value) -> anyhow::Result<String> {
        let refused = self.answers_to_fixtures().await?;
        for (fixture, answer) in self.fixtures.iter().zip(&refused) {
            expect_refusal(fixture, answer)?;
        }
        let rules = rule_pointers(definition);
        ensure!(
            rules.len() == self.fixtures.len(),
            "{} rules and {} fixtures: each rule has its own",
            rules.len(),
            self.fixtures.len()
        );
        let rounds = test_rounds(rules.len());
        let mut taken = vec![BTreeSet::new(); self.fixtures.len()];
        for (round, out) in rounds.iter().enumerate() {
            let without =
                out.iter().rev().try_fold(definition.clone(), |it, &nth| without_rule(&it, &rules[nth]))?;
            self.serve_definition(without, &format!("the definition of round {round}")).await?;
            for (rounds, answer) in taken.iter_mut().zip(self.answers_to_fixtures().await?) {
                if answer.status.is_success() {
                    rounds.insert(round);
                }
            }
        }
        let names = self.fixtures.iter().map(|fixture| fixture.name.as_str());
        expect_one_rule_each(&rules, &rounds, names.zip(taken).collect())?;
        Ok(format!("{} rules in {} definitions", rules.len(), rounds.len()))
    }

    /// Replaces the definition and waits until the API server serves it. The definition gets one more rule, which
    /// refuses one name with `message`.
    async fn serve_definition(&self, mut definition: Value, message: &str) -> anyhow::Result<()> {
        let refuse_probe =
            json!({"rule": format!("self.metadata.name != '{PROBE_NAME}'"), "message": message});
        for version in definition["spec"]["versions"].as_array_mut().context("no versions")? {
            let schema = &mut version["schema"]["openAPIV3Schema"];
            match schema["x-kubernetes-validations"].as_array_mut() {
                Some(rules) => rules.push(refuse_probe.clone()),
                None => schema["x-kubernetes-validations"] = json!([refuse_probe]),
            }
        }
        self.replace_definition(&definition).await?;
        let mut probe = self.valid.clone();
        probe["metadata"]["name"] = json!(PROBE_NAME);
        let served =
            async || Ok(self.create_resource(&probe, true).await?.body.to_string().contains(message));
        wait_until_true(message, SERVED_TIMEOUT, served).await.map(|_| ())
    }

    /// Returns the API server's answer to each fixture, in the order of the fixtures.
    async fn answers_to_fixtures(&self) -> anyhow::Result<Vec<KubeAnswer>> {
        let asked = self.fixtures.iter().map(async |fixture| {
            if !fixture.is_update() {
                return self.create_resource(&self.fixture_resource(fixture)?, true).await;
            }
            let mut changed = json!({});
            for (path, value) in &fixture.update {
                set_path(&mut changed, path, value.clone());
            }
            let path =
                format!("{}?dryRun=All", RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, &fixture.name));
            self.world
                .kube
                .send_request(Method::PATCH, &path, Some(("application/merge-patch+json", &changed)))
                .await
        });
        futures::future::try_join_all(asked).await
    }

    fn fixture_resource(&self, fixture: &RuleFixture) -> anyhow::Result<Value> {
        let mut resource = self.valid.clone();
        if fixture.is_update() {
            resource["metadata"]["name"] = json!(fixture.name);
        }
        for (path, value) in &fixture.set {
            if value.is_null() {
                remove_path(&mut resource, path)
                    .with_context(|| format!("{}: no {path} to take out", fixture.name))?;
            } else {
                set_path(&mut resource, path, value.clone());
            }
        }
        Ok(resource)
    }

    async fn create_resource(&self, resource: &Value, dry: bool) -> anyhow::Result<KubeAnswer> {
        let mut resource = resource.clone();
        resource["metadata"]["namespace"] = json!(NAMESPACE_NAME);
        let path = format!(
            "{}{}",
            RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, ""),
            if dry { "?dryRun=All" } else { "" }
        );
        self.world.kube.send_request(Method::POST, &path, Some(("application/json", &resource))).await
    }

    /// Replaces the whole definition, so that rules that are not in the new one are gone; creates it if there is none. The
    /// API server writes into its status meanwhile, and refuses what was made of an older one: then it is read again.
    async fn replace_definition(&self, definition: &Value) -> anyhow::Result<()> {
        let path = DEFINITION_KIND.object_path("", DEFINITION_NAME);
        let kube = &self.world.kube;
        let write = async || {
            let mut new = definition.clone();
            let (method, path) = match kube.get_object(&path).await? {
                None => (Method::POST, DEFINITION_KIND.object_path("", "")),
                Some(live) => {
                    new["metadata"] = live["metadata"].clone();
                    new["spec"]["conversion"] = live["spec"]["conversion"].clone();
                    (Method::PUT, path.clone())
                }
            };
            let written = kube.send_request(method, &path, Some(("application/json", &new))).await?;
            if written.status == StatusCode::CONFLICT {
                return Ok(Look::NotYet(written.body["message"].to_string()));
            }
            let refused = |error: anyhow::Error| Look::Wrong(format!("{error:#}"));
            Ok(written.expect_success().map_or_else(refused, |_| Look::Found(())))
        };
        wait_and_watch("the definition is replaced", SERVED_TIMEOUT, write).await.map(drop)
    }

    async fn clean_up(&self, definition: &Value) -> anyhow::Result<()> {
        for fixture in self.fixtures.iter().filter(|fixture| fixture.is_update()) {
            self.world
                .kube
                .delete_object(&RANKING_CLUSTER_KIND.object_path(NAMESPACE_NAME, &fixture.name))
                .await?;
        }
        // Helm adopts only what it created, so the definition is deleted and helm installs its own.
        let others = self
            .world
            .kube
            .get_object(&format!("/apis/{}/{}", RANKING_CLUSTER_KIND.api, RANKING_CLUSTER_KIND.plural))
            .await?;
        let none = others.is_none_or(|list| list["items"].as_array().is_none_or(Vec::is_empty));
        let path = DEFINITION_KIND.object_path("", DEFINITION_NAME);
        if none {
            self.world.kube.delete_object(&path).await?;
        } else {
            self.replace_definition(definition).await?;
        }
        self.world.kube.delete_object(&NAMESPACE_KIND.object_path("", NAMESPACE_NAME)).await?;
        // The API server deletes all resources of the definition first. Helm cannot install one that is being deleted.
        let gone = async || Ok(!none || self.world.kube.get_object(&path).await?.is_none());
        wait_until_true("the definition is gone", SETTLE_TIMEOUT, gone).await.map(drop)
    }
}

fn expect_refusal(fixture: &RuleFixture, answer: &KubeAnswer) -> anyhow::Result<()> {
    let RuleFixture { name, path, message, .. } = fixture;
    let causes =
        answer.body.pointer("/details/causes").and_then(Value::as_array).cloned().unwrap_or_default();
    let told: Vec<(&str, &str)> = causes
        .iter()
        .map(|cause| {
            (cause["field"].as_str().unwrap_or_default(), cause["message"].as_str().unwrap_or_default())
        })
        .collect();
    let exactly = |(field, words): (&str, &str)| {
        field == path && (words == message || words.ends_with(&format!(": {message}")))
    };
    let right = answer.status.as_u16() == 422 && told.len() == 1 && exactly(told[0]);
    ensure!(right, "{name}: expected \"{path}: {message}\", was told {} {told:?}", answer.status);
    Ok(())
}

/// Returns JSON pointers to all validation rules of a definition.
fn rule_pointers(definition: &Value) -> Vec<String> {
    fn collect_rules(value: &Value, pointer: &str, rules: &mut Vec<String>) {
        match value {
            Value::Object(members) => {
                for (name, below) in members {
                    let pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
                    if name == "x-kubernetes-validations" {
                        let count = below.as_array().map_or(0, Vec::len);
                        rules.extend((0..count).map(|nth| format!("{pointer}/{nth}")));
                    } else {
                        collect_rules(below, &pointer, rules);
                    }
                }
            }
            Value::Array(items) => {
                items
                    .iter()
                    .enumerate()
                    .for_each(|(nth, item)| collect_rules(item, &format!("{pointer}/{nth}"), rules));
            }
            _ => {}
        }
    }
    let mut rules = Vec::new();
    collect_rules(&definition["spec"], "/spec", &mut rules);
    rules
}

/// Returns the rules to take out in each round, by their numbers: see the module's documentation. Each rule has its own set
/// of rounds, of half of all, because there are the most sets of that size.
fn test_rounds(rules: usize) -> Vec<Vec<usize>> {
    let sets_of = |rounds: u32| (0..1_u32 << rounds).filter(move |set| set.count_ones() == rounds / 2);
    let rounds = (2..u32::BITS).find(|rounds| sets_of(*rounds).count() >= rules).unwrap_or(u32::BITS - 1);
    let sets: Vec<u32> = sets_of(rounds).take(rules).collect();
    let is_out = |rule: &usize, round: u32| (sets[*rule] >> round) & 1 == 1;
    (0..rounds).map(|round| (0..rules).filter(|rule| is_out(rule, round)).collect()).collect()
}

/// Checks that each fixture was accepted exactly in the rounds of one rule, and each rule has one fixture.
fn expect_one_rule_each(
    rules: &[String],
    rounds: &[Vec<usize>],
    taken: Vec<(&str, BTreeSet<usize>)>,
) -> anyhow::Result<()> {
    let rounds_of = |rule: usize| -> BTreeSet<usize> {
        rounds.iter().enumerate().filter(|(_, out)| out.contains(&rule)).map(|(round, _)| round).collect()
    };
    let mut unproven: BTreeMap<BTreeSet<usize>, &String> =
        rules.iter().enumerate().map(|(nth, rule)| (rounds_of(nth), rule)).collect();
    for (fixture, rounds) in taken {
        ensure!(
            unproven.remove(&rounds).is_some(),
            "{fixture} was taken in the rounds {rounds:?}: these are of no rule, or of one that has a fixture"
        );
    }
    ensure!(unproven.is_empty(), "no fixture shows {:?}", unproven.values());
    Ok(())
}

/// Returns the definition without the rule at a JSON pointer.
fn without_rule(definition: &Value, rule: &str) -> anyhow::Result<Value> {
    let mut definition = definition.clone();
    let (list, nth) = rule.rsplit_once('/').context("no pointer")?;
    let list = definition.pointer_mut(list).and_then(Value::as_array_mut).context("no rules there")?;
    list.remove(nth.parse()?);
    if list.is_empty() {
        let (parent, member) =
            rule.rsplit_once('/').and_then(|(list, _)| list.rsplit_once('/')).context("no pointer")?;
        let parent =
            definition.pointer_mut(parent).and_then(Value::as_object_mut).context("no schema there")?;
        parent.remove(member);
    }
    Ok(definition)
}

fn set_path(object: &mut Value, path: &str, value: Value) {
    let mut at = object;
    for step in path.split('.') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[step];
    }
    *at = value;
}

fn remove_path(object: &mut Value, path: &str) -> Option<Value> {
    let (parent, member) = path.rsplit_once('.')?;
    object.pointer_mut(&format!("/{}", parent.replace('.', "/")))?.as_object_mut()?.remove(member)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_found_and_taken_out_one_by_one() {
        let rule = |words: &str| json!({"rule": "true", "message": words});
        let definition = json!({"spec": {"a": {"x-kubernetes-validations": [rule("1"), rule("2")]},
            "b": [{"x-kubernetes-validations": [rule("3")]}]}});
        let rules = rule_pointers(&definition);
        assert_eq!(rules.len(), 3);
        let first = without_rule(&definition, &rules[0]).unwrap();
        assert_eq!(first["spec"]["a"]["x-kubernetes-validations"], json!([rule("2")]));
        let last = without_rule(&definition, &rules[2]).unwrap();
        assert_eq!(last["spec"]["b"], json!([{}]), "no empty list stays");
    }

    #[test]
    fn rules_are_out_in_as_few_rounds_as_tell_them_apart() {
        for (rules, rounds) in [(1, 2), (2, 2), (3, 3), (6, 4), (86, 9), (126, 9), (127, 10)] {
            assert_eq!(test_rounds(rules).len(), rounds, "{rules}");
        }
    }

    #[test]
    fn rounds_tell_fixtures_of_one_rule_from_all_others() {
        for count in [1, 2, 3, 86, 128] {
            let rules: Vec<String> = (0..count).map(|nth| format!("/rule/{nth}")).collect();
            let rounds = test_rounds(count);
            let taken_without = |refusing: &[usize]| -> BTreeSet<usize> {
                let out = rounds.iter().enumerate();
                out.filter(|(_, out)| refusing.iter().all(|rule| out.contains(rule)))
                    .map(|(nth, _)| nth)
                    .collect()
            };
            let good = || (0..count).map(|rule| ("f", taken_without(&[rule]))).collect::<Vec<_>>();
            assert!(expect_one_rule_each(&rules, &rounds, good()).is_ok(), "{count}");
            if count > 1 {
                for (first, second) in [(0, 1), (0, count - 1), (count / 2, count - 1)] {
                    let mut of_two = good();
                    of_two[first].1 = taken_without(&[first, second]);
                    let told = expect_one_rule_each(&rules, &rounds, of_two);
                    assert_eq!(told.is_err(), first != second, "{count}: {first} and {second}");
                    let mut of_another = good();
                    of_another[first].1 = taken_without(&[second]);
                    assert_eq!(expect_one_rule_each(&rules, &rounds, of_another).is_err(), first != second);
                }
            }
            let mut always = good();
            always[0].1 = (0..rounds.len()).collect();
            assert!(expect_one_rule_each(&rules, &rounds, always).is_err(), "{count}: refused by none");
        }
    }

    #[test]
    fn fields_are_set_and_taken_out_by_dotted_paths() {
        let mut object = json!({"spec": {"a": {"b": 1}}});
        set_path(&mut object, "spec.c.d", json!(2));
        assert_eq!(remove_path(&mut object, "spec.a.b"), Some(json!(1)));
        assert_eq!(object, json!({"spec": {"a": {}, "c": {"d": 2}}}));
        assert_eq!(remove_path(&mut object, "spec.z.b"), None);
    }

    #[test]
    fn a_refusal_has_one_cause_in_the_promised_words() {
        let fixture = RuleFixture {
            name: "f".into(),
            set: serde_json::Map::new(),
            update: serde_json::Map::new(),
            path: "spec.a".into(),
            message: "do that".into(),
        };
        let answer = |causes: Value| KubeAnswer {
            status: reqwest::StatusCode::UNPROCESSABLE_ENTITY,
            body: json!({"details": {"causes": causes}}),
        };
        let cause = |field: &str, words: &str| json!({"field": field, "message": words});
        assert!(
            expect_refusal(&fixture, &answer(json!([cause("spec.a", "Invalid value: do that")]))).is_ok()
        );
        assert!(expect_refusal(&fixture, &answer(json!([cause("spec.b", "do that")]))).is_err());
        assert!(expect_refusal(&fixture, &answer(json!([cause("spec.a", "do that not")]))).is_err());
        let two = json!([cause("spec.a", "do that"), cause("spec.c", "else")]);
        assert!(expect_refusal(&fixture, &answer(two)).is_err());
    }
}
