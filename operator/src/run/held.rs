//! Deployments that keep their live pod template for now: those whose turn in the roll-out has not come, and readers
//! that are to be replaced. Pure.
//!
//! While 500 readers are replaced, hours may pass in which most Deployments are held. So what is to be applied meanwhile
//! is kept with what it was made from, and made again only if that has changed.

use std::collections::HashMap;
use std::sync::Arc;

use super::cache::LiveObject;
use super::rollout;
use crate::build::{Component, WantedObject};

/// A Deployment with the template of the live one, and what it was made from.
struct HeldDeployment {
    wanted: Arc<WantedObject>,
    live: Arc<LiveObject>,
    held: Arc<WantedObject>,
    /// Whether the present look has asked for the Deployment.
    seen: bool,
}

/// The held Deployments of one cluster, by name.
#[derive(Default)]
pub struct HeldDeployments(HashMap<Box<str>, HeldDeployment>);

impl HeldDeployments {
    /// Returns the object as it is to be applied now: a Deployment with its own template if it is its component's turn,
    /// else with the live one's ([`rollout::keeps_live_template`]); every other object as it is.
    pub fn object_for_turn(
        &mut self,
        object: &Arc<WantedObject>,
        live: Option<&Arc<LiveObject>>,
        turn: Option<Component>,
    ) -> Arc<WantedObject> {
        let Some(live) = live.filter(|live| rollout::keeps_live_template(object, live, turn)) else {
            return Arc::clone(object);
        };
        if let Some(known) = self.0.get_mut(&object.name).filter(|known| known.is_made_from(object, live)) {
            known.seen = true;
            return Arc::clone(&known.held);
        }
        let held = Arc::new(object.with_template_of(&live.to_value()));
        let made = HeldDeployment {
            wanted: Arc::clone(object),
            live: Arc::clone(live),
            held: Arc::clone(&held),
            seen: true,
        };
        self.0.insert(object.name.clone(), made);
        held
    }

    /// Ends a look: forgets the Deployments that it did not ask for.
    pub fn finish_look(&mut self) {
        self.0.retain(|_, held| std::mem::take(&mut held.seen));
    }
}

impl HeldDeployment {
    fn is_made_from(&self, wanted: &WantedObject, live: &Arc<LiveObject>) -> bool {
        Arc::ptr_eq(&self.live, live) && *self.wanted == *wanted
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::build::{Kind, Object, names};

    fn template(at: u8) -> Value {
        json!({"spec": {"containers": [{"name": "liverank", "image": format!("image:{at}")}]}})
    }

    fn wanted(component: Component, at: u8, replicas: u8) -> Object {
        let name = format!("live-{}", component.name());
        Object {
            kind: Kind::Deployment,
            reader: (component == Component::Reader).then(|| name.clone()),
            component: Some(component),
            body: json!({
                "metadata": {"name": name, "annotations": {names::TEMPLATE_HASH_ANNOTATION: at.to_string()}},
                "spec": {"replicas": replicas, "template": template(at)},
            }),
            name,
        }
    }

    fn live(component: Component, at: u8) -> Arc<LiveObject> {
        let name = format!("live-{}", component.name());
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": name, "namespace": "tv", "uid": "u", "resourceVersion": "1",
                "labels": {names::INSTANCE_LABEL: "live"},
                "annotations": {names::TEMPLATE_HASH_ANNOTATION: at.to_string()},
            },
            "spec": {"replicas": 1, "template": template(at)},
        });
        Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    /// What [`HeldDeployments::object_for_turn`] should return, without a memory.
    fn expected(object: &Object, live: &LiveObject, turn: Option<Component>) -> Object {
        let changed = live.our_annotation(names::TEMPLATE_HASH_ANNOTATION) != object.template_hash();
        let waits = object.reader.is_some() || turn.is_some_and(|turn| object.component.unwrap() > turn);
        if changed && waits { object.with_template_of(&live.to_value()) } else { object.clone() }
    }

    proptest! {
        /// Whatever changes between looks: what is applied is what it would be without a memory of the looks before.
        #[test]
        fn what_is_held_is_what_would_be_made_now(
            looks in prop::collection::vec((0_u8..3, 0_u8..3, 0_u8..3, 0_u8..4), 1..30)
        ) {
            const COMPONENTS: [Component; 3] = [Component::Consumer, Component::Reader, Component::Gateway];
            let mut held = HeldDeployments::default();
            let mut seen: [Option<(u8, Arc<LiveObject>)>; 3] = [None, None, None];
            for (wanted_at, replicas, live_at, turn) in looks {
                let turn = [None, Some(Component::Manager), Some(Component::Reader), Some(Component::Gateway)]
                    [usize::from(turn)];
                let mut waiting = 0;
                for (component, seen) in COMPONENTS.into_iter().zip(&mut seen) {
                    let before = seen.take().filter(|(at, _)| *at == live_at);
                    let (_, live) = seen.insert(before.unwrap_or_else(|| (live_at, live(component, live_at))));
                    let object = wanted(component, wanted_at, replicas);
                    let kept = Arc::new(WantedObject::of(&object));
                    let now = held.object_for_turn(&kept, Some(live), turn);
                    prop_assert_eq!(now.to_object(), expected(&object, live, turn));
                    waiting += usize::from(now != kept);
                }
                held.finish_look();
                prop_assert_eq!(held.0.len(), waiting, "nothing else is kept");
            }
        }
    }

    #[test]
    fn what_has_not_changed_is_not_made_again() {
        let mut held = HeldDeployments::default();
        let object = Arc::new(WantedObject::of(&wanted(Component::Reader, 2, 1)));
        let mut look = |live: &Arc<LiveObject>| {
            let now = held.object_for_turn(&object, Some(live), None);
            held.finish_look();
            now
        };
        let seen = live(Component::Reader, 1);
        let first = look(&seen);
        assert!(Arc::ptr_eq(&first, &look(&seen)));
        assert!(!Arc::ptr_eq(&first, &look(&live(Component::Reader, 1))), "the watch showed it again");
    }
}
