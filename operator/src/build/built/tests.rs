//! Compares what is kept with what the builder makes of the same input, after each of many random changes.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::*;

use super::*;
use crate::build::{CURRENT_REVISION, Drain, object};
use crate::crd::RankingClusterStatus;

/// Resources that differ in most fields of the spec.
const RESOURCES: [&str; 4] = [
    include_str!("../../../tests/build/clusters/full.yaml"),
    include_str!("../../../tests/build/clusters/no-comment.yaml"),
    include_str!("../../../tests/build/clusters/per-reader.yaml"),
    include_str!("../../../tests/build/clusters/tls.yaml"),
];

fn resource(at: usize) -> RankingCluster {
    let value: serde_json::Value = serde_yaml::from_str(RESOURCES[at % RESOURCES.len()]).unwrap();
    serde_json::from_value(value).unwrap()
}

fn reader(number: u32) -> Reader {
    Reader { name: super::super::names::reader_name("live", number), drain: None }
}

/// Everything that the builder is given.
struct World {
    cluster: RankingCluster,
    revision: u32,
    readers: Vec<Reader>,
    operator: OperatorFacts,
}

impl World {
    fn new(at: usize, readers: u32) -> Self {
        let readers = (0..readers).map(reader).collect();
        Self {
            cluster: resource(at),
            revision: CURRENT_REVISION,
            readers,
            operator: OperatorFacts::default(),
        }
    }

    fn input(&self) -> Input<'_> {
        Input {
            cluster: &self.cluster,
            revision: self.revision,
            readers: &self.readers,
            operator: &self.operator,
        }
    }

    /// Makes one change, `what`; `number` chooses its value. Returns whether objects may come out otherwise.
    fn change(&mut self, what: u8, number: u8) -> bool {
        let (text, at) = (format!("value-{number}"), usize::from(number));
        let spec = &mut self.cluster.spec;
        let metadata = &mut self.cluster.metadata;
        match what {
            // What the builder reads of the resource.
            0 => spec.image = format!("liverank:{number}"),
            1 => spec.gateway.replicas = Some(number.into()),
            2 => spec.comment.enabled = number.is_multiple_of(2),
            3 => spec.statistics.enabled = number.is_multiple_of(2),
            4 => spec.network_policy.enabled = number.is_multiple_of(2),
            5 => spec.monitoring.service_monitor = number.is_multiple_of(2),
            6 => {
                let at = Timestamp::from_second(number.into()).unwrap();
                spec.restart_at = number.is_multiple_of(2).then_some(Time(at));
            }
            7 => spec.readers.viewers_per_reader = 1_000 + i32::from(number),
            8 => self.cluster.spec = resource(at).spec,
            9 => metadata.uid = Some(text),
            10 => metadata.namespace = Some(text),
            11 => metadata.name = Some(text),
            12 => self.revision = 1 + u32::from(number) % CURRENT_REVISION,
            // Facts about the operator.
            13 => self.operator.public_keys = text,
            14 => self.operator.namespace = text,
            15 => self.operator.service_account = text,
            16 => drop(self.operator.labels.insert("a".to_owned(), text)),
            17 => self.operator.platform_assigns_user_ids = number.is_multiple_of(2),
            // Readers.
            18 | 19 => {
                let next = reader(number.into());
                if self.readers.iter().all(|it| it.name != next.name) {
                    self.readers.push(next);
                }
            }
            20 if !self.readers.is_empty() => {
                let at = at % self.readers.len();
                self.readers.remove(at);
            }
            21 if !self.readers.is_empty() => {
                let drain = Drain { reason: text, since: "2026-03-01T12:30:00Z".to_owned() };
                let at = at % self.readers.len();
                self.readers[at].drain = number.is_multiple_of(3).then_some(drain);
            }
            22 if !self.readers.is_empty() => {
                let at = at % self.readers.len();
                self.readers.rotate_left(at);
            }
            // What the builder does not read.
            23 => metadata.generation = Some(number.into()),
            24 => drop(metadata.labels.get_or_insert_default().insert("a".to_owned(), text)),
            25 => drop(metadata.annotations.get_or_insert_default().insert("a".to_owned(), text)),
            26 => metadata.resource_version = Some(text),
            27 => {
                let status = RankingClusterStatus {
                    observed_generation: Some(number.into()),
                    ..RankingClusterStatus::default()
                };
                self.cluster.status = Some(status);
            }
            _ => {}
        }
        what <= 22
    }
}

/// Compares everything that is kept with what the builder makes.
fn check(built: &mut BuiltObjects, world: &World, newest: u32) -> Result<(), TestCaseError> {
    let input = world.input();
    let wanted = super::super::desired_objects(&input);
    let kept = built.objects(&input);
    let objects: Vec<Object> = kept.iter().map(|it| it.to_object()).collect();
    let differs = |at: &usize| objects.get(*at) != wanted.get(*at);
    let first = (0..objects.len().max(wanted.len())).find(differs);
    prop_assert_eq!(first.map(|at| (objects.get(at), wanted.get(at))), None);
    for (kept, wanted) in kept.iter().zip(&wanted) {
        prop_assert_eq!(&*kept.hash, object::hash(&wanted.body));
        prop_assert_eq!(kept.template_hash.as_deref(), wanted.template_hash());
        prop_assert_eq!(kept.replicas, wanted.body["spec"]["replicas"].as_i64());
    }
    prop_assert_eq!(built.reader_template_hash(&input), super::super::reader_template_hash(&input));
    let restarted = super::super::components_restarted_by_revision(
        &world.cluster,
        world.revision,
        newest,
        &world.operator,
    );
    prop_assert_eq!(built.components_restarted_by_revision(&input, newest), &restarted);
    Ok(())
}

proptest! {
    // A case builds all objects some twenty times: 24 cases take three seconds.
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever changes, in whichever order: what is kept is what the builder makes of everything.
    #[test]
    fn what_is_kept_is_what_would_be_built(
        first in 0_usize..RESOURCES.len(),
        changes in prop::collection::vec((0_u8..28, 0_u8..20, 1..=CURRENT_REVISION), 1..20),
    ) {
        let (mut built, mut world) = (BuiltObjects::default(), World::new(first, 3));
        check(&mut built, &world, CURRENT_REVISION)?;
        for (what, number, newest) in changes {
            let before = built.build_count();
            let may_build = world.change(what, number);
            check(&mut built, &world, newest)?;
            prop_assert!(may_build || built.build_count() == before, "change {what} is none to the builder");
            let before = built.build_count();
            check(&mut built, &world, newest)?;
            prop_assert_eq!(built.build_count(), before, "nothing has changed");
        }
    }
}

#[test]
fn a_change_of_one_reader_builds_its_objects_alone() {
    let (mut built, mut world) = (BuiltObjects::default(), World::new(2, 500));
    let mut count = |world: &World| {
        let before = built.build_count();
        let objects = built.objects(&world.input()).len() as u64;
        (objects, built.build_count() - before)
    };
    let (all, first) = count(&world);
    assert!(all > 2_000 && first == all, "{first} of {all}: all are built once");
    assert_eq!(count(&world), (all, 0), "a pod's event changes none");
    // An account, a Service, a Deployment and an Ingress; and the budget of all readers.
    world.readers.push(reader(500));
    assert_eq!(count(&world), (all + 4, 5));
    world.readers[7].drain = Some(Drain { reason: "scale-down".to_owned(), since: String::new() });
    assert_eq!(count(&world), (all + 4, 4));
    world.readers.remove(7);
    assert_eq!(count(&world), (all, 1));
    world.cluster.spec.image = "liverank:next".to_owned();
    assert_eq!(count(&world), (all, all));
}
