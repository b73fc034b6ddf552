//! Tests what a look at a cluster costs in which nothing, or little, has changed.

use super::*;
use crate::build::{Input, Reader, WantedObject, names};
use crate::run::apply::APPLIED_HASH_ANNOTATION;

const NAMESPACE: &str = "well";
const READERS: u32 = 500;

/// Returns an object as the watch shows it after it was applied.
fn applied(object: &WantedObject, status: &Value) -> LiveObject {
    let mut body = object.body();
    body["metadata"]["annotations"][APPLIED_HASH_ANNOTATION] = json!(object.hash);
    body["metadata"]["uid"] = json!("u");
    body["metadata"]["resourceVersion"] = json!("1");
    body["status"] = status.clone();
    LiveObject::from_watched(serde_json::from_value(body).unwrap()).unwrap()
}

/// A cluster with everything applied, and the actor that looks at it.
struct World {
    context: Arc<OperatorContext>,
    key: ClusterKey,
    cluster: Arc<RankingCluster>,
    actor: Actor,
    log: SharedLog,
}

impl World {
    fn new() -> Self {
        let log = SharedLog::default();
        let client = client_of(&log);
        let context = Arc::new(world(&client, String::new(), std::iter::once(NAMESPACE.to_owned())));
        let key = context.clusters.clusters().remove(0);
        let cluster = context.cluster(&key).unwrap();
        let readers: Vec<Reader> = (0..READERS)
            .map(|at| Reader { name: names::reader_name(cluster.name(), at), drain: None })
            .collect();
        let facts = context.operator_facts();
        let input =
            Input { cluster: &cluster, revision: CURRENT_REVISION, readers: &readers, operator: &facts };
        let mut by_kind: BTreeMap<Kind, Vec<LiveObject>> = BTreeMap::new();
        for object in build::desired_objects(&input) {
            let live = applied(&WantedObject::of(&object), &Value::Null);
            by_kind.entry(object.kind).or_default().push(live);
        }
        for (kind, objects) in by_kind {
            context.stores[&kind].replace_part("", objects, "1");
        }
        let actor = Actor::new(&context, &leadership(&client, context.metrics.clone()), &key, &cluster);
        Self { context, key, cluster, actor, log }
    }

    /// Looks at everything and writes what differs. Returns how many objects were built, how many were parsed and
    /// compared, and how many were written.
    async fn look(&mut self) -> (u64, u64, u32) {
        let Self { context, key, cluster, actor, log } = self;
        let counts =
            |actor: &Actor| (actor.object_memory.built.build_count(), actor.applier.comparison_count());
        let before = counts(actor);
        let deployments = own_deployments(cluster, context.stores[&Kind::Deployment].objects_of(key));
        let found = actor.gather_findings(cluster, &deployments, &[]);
        assert_eq!((&found.spec_problems, found.active_reader_count), (&Vec::new(), READERS));
        let writer = RoundWriter {
            context,
            key,
            cluster,
            operator_facts: &actor.operator_facts,
            revision: found.revision,
            rollout_states: &found.rollout_states,
            deployments: &deployments,
            pods: &[],
        };
        let (memory, pacer) = (&mut actor.object_memory, &mut actor.scale_down_pacer);
        writer.carry_out(Vec::new(), memory, &mut actor.applier, pacer).await;
        let after = counts(actor);
        let written = locked(log).applied.remove(NAMESPACE).unwrap_or_default();
        (after.0 - before.0, after.1 - before.1, written)
    }

    /// Shows a change of one object of the cluster, as its watch does.
    fn show(&self, kind: Kind, name: &str, change: impl FnOnce(&mut Value)) {
        let store = &self.context.stores[&kind];
        let mut body = store.get(&self.key, name).unwrap().to_value();
        body["metadata"]["uid"] = json!("u");
        body["metadata"]["resourceVersion"] = json!("2");
        change(&mut body);
        store.insert_seen("", LiveObject::from_watched(serde_json::from_value(body).unwrap()).unwrap(), "2");
    }
}

#[tokio::test]
async fn a_pod_event_of_500_readers_builds_nothing_and_compares_one_object() {
    let mut world = World::new();
    let (built, compared, written) = world.look().await;
    assert!(built > 2_000 && compared == built && written == 0, "{built}, {compared}, {written}");
    assert_eq!(world.look().await, (0, 0, 0), "nothing has changed");
    // A pod that is ready or not is seen in its Deployment's status.
    world.show(Kind::Deployment, "live-reader-7", |it| it["status"] = json!({"readyReplicas": 1}));
    assert_eq!(world.look().await, (0, 1, 0));
    assert_eq!(world.look().await, (0, 0, 0));
}

#[tokio::test]
async fn what_somebody_changes_in_a_cluster_at_rest_is_still_repaired() {
    let mut world = World::new();
    world.look().await;
    world.show(Kind::Service, "live-reader-7", |it| it["spec"]["selector"] = json!({"app": "theirs"}));
    assert_eq!(world.look().await, (0, 1, 1), "the Service would lead elsewhere");
    let (changed, other) = ("live-reader-8", json!({"app": "theirs"}));
    world.show(Kind::Deployment, changed, |it| it["spec"]["template"]["metadata"]["labels"] = other);
    assert_eq!(world.look().await, (0, 1, 1));
}
