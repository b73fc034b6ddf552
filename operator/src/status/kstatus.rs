//! The verdict of Flux, Argo CD and `helm --wait` on a status, by the published rules of kstatus, through whole
//! roll-outs.

use std::sync::Arc;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::tests::StatusCase;
use super::*;
use crate::build::{self, Input, Kind, Object, OperatorFacts, Reader, WantedObject};
use crate::readers::ConditionFact;
use crate::run::cache::LiveObject;
use crate::run::held::HeldDeployments;
use crate::run::rollout;

/// Returns the verdict as `sigs.k8s.io/cli-utils/pkg/kstatus` does: `checkGenericProperties`, then
/// `checkReadyCondition`.
fn kstatus(object: &Value) -> &'static str {
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return "Terminating";
    }
    let observed = object.pointer("/status/observedGeneration").and_then(Value::as_i64);
    if observed.is_some_and(|observed| Some(observed) != object["metadata"]["generation"].as_i64()) {
        return "InProgress";
    }
    let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    for condition in &conditions {
        match (condition["type"].as_str(), condition["status"].as_str()) {
            (Some("Reconciling"), Some("True")) => return "InProgress",
            (Some("Stalled"), Some("True")) => return "Failed",
            _ => {}
        }
    }
    match conditions.iter().find(|it| it["type"] == "Ready").map(|it| it["status"] == "True") {
        Some(false) => "InProgress",
        Some(true) | None => "Current",
    }
}

fn kstatus_of(status: &RankingClusterStatus, generation: i64) -> &'static str {
    kstatus(&json!({"metadata": {"generation": generation}, "status": status}))
}

#[test]
fn a_new_resource_is_in_progress_before_any_operator_has_looked() {
    let schema = serde_json::to_value(crd::definition()).unwrap();
    let status = schema.pointer("/spec/versions/0/schema/openAPIV3Schema/properties/status/default");
    let object = json!({"metadata": {"generation": 1}, "status": status.unwrap()});
    assert_eq!(kstatus(&object), "InProgress");
}

#[test]
fn kstatus_is_failed_when_a_person_is_needed_else_in_progress() {
    let read_of = |given: &StatusCase| kstatus_of(&given.status(&RankingClusterStatus::default()), 3);
    let refused = |needs_action| ReportedProblem {
        reason: "R".into(),
        message: "m".into(),
        needs_action,
        is_failed_write: true,
    };
    assert_eq!(read_of(&StatusCase::default()), "Current");
    assert_eq!(read_of(&StatusCase { troubles: vec![refused(true)], ..StatusCase::default() }), "Failed");
    assert_eq!(
        read_of(&StatusCase { troubles: vec![refused(false)], ..StatusCase::default() }),
        "InProgress"
    );
    assert_eq!(read_of(&StatusCase { unwritten: true, ..StatusCase::default() }), "InProgress");
    let mut given = StatusCase::default();
    given.states[1].failure = Some(("RolloutFailed", "deadline".into()));
    given.states[1].is_rolled_out = false;
    assert_eq!(read_of(&given), "Failed", "although it is being rolled out, too");
    let mut paused = StatusCase::default();
    paused.cluster.spec.paused = true;
    assert_eq!(read_of(&paused), "Current");
    paused.states[0].is_rolled_out = false;
    assert_eq!(read_of(&paused), "InProgress", "a change that nobody carries out is not done");
}

#[test]
fn a_hibernating_cluster_is_current_once_no_pod_is_left() {
    let read_of = |given: &StatusCase| kstatus_of(&given.status(&RankingClusterStatus::default()), 3);
    let said = |given: &StatusCase| -> Vec<String> {
        let status = given.status(&RankingClusterStatus::default());
        status
            .conditions
            .iter()
            .take(2)
            .map(|it| format!("{} {} {}", it.type_, it.status, it.reason))
            .collect()
    };
    let mut given = StatusCase::default();
    given.cluster.spec.hibernate = true;
    assert_eq!(read_of(&given), "InProgress");
    assert_eq!(said(&given), ["Ready False Hibernating", "Reconciling True Hibernating"]);
    given.awake.clear();
    given.states[0].is_rolled_out = false;
    assert_eq!(read_of(&given), "InProgress", "a Deployment still asks for pods");
    given.states[0].is_rolled_out = true;
    assert_eq!(read_of(&given), "Current");
    assert_eq!(said(&given), ["Ready True Hibernated", "Reconciling False Done"]);
    given.problems.push(FieldProblem { path: "spec.image".into(), message: "m".into() });
    assert_eq!(read_of(&given), "Failed");
}

proptest! {
    /// Whatever is observed: a resource is current only if everything is as the spec says and nothing is wrong.
    #[test]
    fn kstatus_is_current_only_when_all_is_rolled_out(
        rolled in prop::collection::vec(any::<bool>(), 7), available in prop::collection::vec(any::<bool>(), 7),
        desired in 0_u32..4, ready in 0_u32..4, progressing in any::<bool>(),
        trouble in prop::option::of(any::<(bool, bool)>()), generation in 2_i64..5, paused in any::<bool>(),
    ) {
        let mut given = StatusCase::default();
        for (state, (rolled, available)) in given.states.iter_mut().zip(rolled.iter().zip(&available)) {
            (state.is_rolled_out, state.available) = (*rolled, *available);
        }
        given.cluster.spec.paused = paused;
        (given.facts.desired, given.facts.ready) = (desired, ready);
        if progressing {
            given.facts.progressing.push(ConditionFact { ok: true, reason: "Draining".into(), message: "x".into() });
        }
        given.troubles.extend(trouble.map(|(needs_action, is_failed_write)| ReportedProblem {
            reason: "R".into(), message: "m".into(), needs_action, is_failed_write,
        }));
        let done = rolled.iter().all(|it| *it) && !progressing && desired == 2 && generation == 3
            && !trouble.is_some_and(|(stalled, write)| stalled || write);
        let status = given.status(&RankingClusterStatus::default());
        prop_assert!(kstatus_of(&status, generation) != "Current" || done, "{status:?}");
    }
}

proptest! {
    // A case builds all objects up to a hundred times: 16 cases take two seconds.
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// A new image, or another number of pods, is rolled out by the operator's own functions and a Deployment
    /// controller that does one thing at a time, in any order: the resource is never current before the last pod is,
    /// and is current in the end.
    #[test]
    fn kstatus_is_never_current_before_the_last_pod_is_new(order in prop::collection::vec(0_usize..12, 240), scale in 1_i32..5) {
        let mut world = FakeCluster::new();
        prop_assert_eq!(world.write_status_and_read(), "Current");
        world.cluster.spec.image = "registry.example.org/liverank:2".into();
        world.cluster.spec.gateway.replicas = Some(scale);
        world.cluster.metadata.generation = Some(4);
        prop_assert_eq!(kstatus_of(&world.status, 4), "InProgress", "before the operator has looked");
        for at in order {
            match at {
                0 => drop(world.write_status_and_read()),
                at => world.step_controllers(at - 1),
            }
            let told = kstatus_of(&world.status, 4);
            prop_assert!(told != "Current" || world.is_done(), "current, and {:?}", world.deployments);
            prop_assert!(told != "Failed");
        }
        // The rest of the roll-out.
        for _ in 0..80 {
            if world.write_status_and_read() == "Current" {
                break;
            }
            (0..30).for_each(|at| world.step_controllers(at));
        }
        prop_assert_eq!(world.write_status_and_read(), "Current");
        prop_assert!(world.is_done());
    }
}

/// A simulated Deployment and its pods: for each pod its image, and whether it is ready.
#[derive(Debug)]
struct FakeDeployment {
    object: Object,
    generation: i64,
    observed_generation: i64,
    pods: Vec<(String, bool)>,
}

impl FakeDeployment {
    fn current_image(&self) -> String {
        self.object.body["spec"]["template"]["spec"]["containers"][0]["image"].as_str().unwrap().to_owned()
    }

    fn replicas(&self) -> usize {
        self.object.body["spec"]["replicas"].as_u64().unwrap() as usize
    }

    /// Does one step of the controller or of a pod; `at` chooses the step if several are possible.
    fn step_controller(&mut self, at: usize) {
        let (image, replicas) = (self.current_image(), self.replicas());
        if self.observed_generation != self.generation {
            self.observed_generation = self.generation;
            return;
        }
        if let Some(pod) = self.pods.iter_mut().filter(|(_, ready)| !ready).nth(at % 2) {
            pod.1 = true;
            return;
        }
        let new = self.pods.iter().filter(|(of, _)| *of == image).count();
        let ready = self.pods.iter().filter(|(_, ready)| *ready).count();
        if new < replicas && self.pods.len() <= replicas {
            self.pods.push((image, false));
        } else if self.pods.len() > replicas && ready > replicas {
            let old = self.pods.iter().position(|(of, _)| *of != image).unwrap_or(0);
            self.pods.remove(old);
        } else if let Some(pod) = self.pods.iter_mut().find(|(_, ready)| !ready) {
            pod.1 = true;
        }
    }

    fn live_object(&self) -> Arc<LiveObject> {
        let mut object = self.object.body.clone();
        let updated = self.pods.iter().filter(|(of, _)| *of == self.current_image()).count();
        let ready = self.pods.iter().filter(|(_, ready)| *ready).count();
        object["metadata"]["uid"] = json!("u");
        object["metadata"]["resourceVersion"] = json!("1");
        object["metadata"]["generation"] = json!(self.generation);
        let available = if ready > 0 { "True" } else { "False" };
        object["status"] = json!({
            "observedGeneration": self.observed_generation, "replicas": self.pods.len(), "updatedReplicas": updated,
            "readyReplicas": ready, "availableReplicas": ready,
            "conditions": [{"type": "Available", "status": available}],
        });
        Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }
}

struct FakeCluster {
    cluster: RankingCluster,
    deployments: Vec<FakeDeployment>,
    readers: Vec<Reader>,
    status: RankingClusterStatus,
}

impl FakeCluster {
    fn new() -> Self {
        let given = StatusCase::default();
        let reader = |at| Reader { name: names::reader_name("live", at), drain: None };
        let readers = vec![reader(0), reader(1)];
        let status = RankingClusterStatus::default();
        let mut world = Self { cluster: given.cluster, deployments: Vec::new(), readers, status };
        world.cluster.spec.gateway.replicas = Some(2);
        for object in world.wanted_objects() {
            let mut deployed =
                FakeDeployment { object, generation: 1, observed_generation: 1, pods: Vec::new() };
            deployed.pods = vec![(deployed.current_image(), true); deployed.replicas()];
            world.deployments.push(deployed);
        }
        world
    }

    fn wanted_objects(&self) -> Vec<Object> {
        let operator = OperatorFacts::default();
        let input =
            Input { cluster: &self.cluster, revision: 1, readers: &self.readers, operator: &operator };
        build::desired_objects(&input).into_iter().filter(|object| object.kind == Kind::Deployment).collect()
    }

    /// Does one look of the operator: writes what may be written, and makes the status. Returns the verdict on it.
    fn write_status_and_read(&mut self) -> &'static str {
        let live: Vec<_> = self.deployments.iter().map(FakeDeployment::live_object).collect();
        let wanted = self.wanted_objects();
        let kept: Vec<_> = wanted.iter().map(|object| Arc::new(WantedObject::of(object))).collect();
        let states = rollout::component_states(&kept, &live);
        let turn = rollout::next_component(&states).map(|state| state.component);
        // A reader that is added or removed is written by the next look.
        for (object, kept) in wanted.into_iter().zip(kept) {
            let at = self.deployments.iter().position(|it| it.object.name == object.name);
            let Some(at) = at else {
                self.deployments.push(FakeDeployment {
                    object,
                    generation: 1,
                    observed_generation: 0,
                    pods: Vec::new(),
                });
                continue;
            };
            let admitted = HeldDeployments::default().object_for_turn(&kept, live.get(at), turn).to_object();
            let deployed = &mut self.deployments[at];
            let spec = |object: &Object| object.body["spec"].clone();
            // Fields that the API server adds to the status are no part of the object.
            let changed = spec(&admitted) != spec(&deployed.object);
            deployed.generation += i64::from(changed);
            deployed.object = admitted;
        }
        if turn == Some(Component::Reader) {
            self.replace_a_reader();
        }
        let given = StatusCase { cluster: self.cluster.clone(), states, ..StatusCase::default() };
        self.status = given.status(&self.status);
        kstatus_of(&self.status, self.cluster.generation())
    }

    /// Adds a new reader first; when it is ready, an old one is removed.
    fn replace_a_reader(&mut self) {
        let wanted = self.cluster.spec.image.clone();
        let readers = || self.deployments.iter().filter(|it| it.object.reader.is_some());
        let old = readers().find(|it| it.current_image() != wanted).map(|it| it.object.name.clone());
        let Some(old) = old else { return };
        if readers().count() <= 2 {
            let next = 2 + readers().filter(|it| it.current_image() == wanted).count() as u32;
            self.readers.push(Reader { name: names::reader_name("live", next), drain: None });
        } else if readers().all(|it| it.pods.iter().all(|(_, ready)| *ready) && !it.pods.is_empty()) {
            self.readers.retain(|reader| reader.name != old);
            self.deployments.retain(|it| it.object.name != old);
        }
    }

    fn step_controllers(&mut self, at: usize) {
        let count = self.deployments.len();
        self.deployments[at % count].step_controller(at);
    }

    /// Returns whether every pod has the new image and is ready, and there are as many pods as wanted.
    fn is_done(&self) -> bool {
        let image = &self.cluster.spec.image;
        self.deployments.iter().all(|it| {
            it.pods.iter().all(|(of, ready)| of == image && *ready) && it.pods.len() == it.replicas()
        }) && self.readers.len() == 2
    }
}
