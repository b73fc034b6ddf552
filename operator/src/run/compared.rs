//! The comparisons of live objects with wanted ones that found nothing to write. Pure.
//!
//! A comparison parses the live object's text, which costs more than all else in a look at rest. The result stays true as
//! long as both sides are the same: the wanted object by the hash of its text, the live one by being the same object in
//! memory. The store makes another one of each event, and of each object that a watch lists anew.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::Arc;

use super::cache::LiveObject;

/// The objects of one cluster that had nothing to be written when they were last compared: the hash of the wanted one,
/// and the live one.
pub struct EqualObjects<N>(HashMap<N, (Box<str>, Arc<LiveObject>)>);

impl<N> Default for EqualObjects<N> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

impl<N: Eq + Hash> EqualObjects<N> {
    /// Returns whether exactly these two were compared last, and nothing had to be written.
    pub fn contains(&self, name: &N, wanted_hash: &str, live: &Arc<LiveObject>) -> bool {
        let known = self.0.get(name);
        known.is_some_and(|(hash, compared)| **hash == *wanted_hash && Arc::ptr_eq(compared, live))
    }

    /// Notes that nothing has to be written for these two.
    pub fn insert(&mut self, name: N, wanted_hash: &str, live: &Arc<LiveObject>) {
        self.0.insert(name, (wanted_hash.into(), Arc::clone(live)));
    }

    /// Forgets the objects for which `keep` is false.
    pub fn retain(&mut self, mut keep: impl FnMut(&N) -> bool) {
        self.0.retain(|name, _| keep(name));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn live() -> Arc<LiveObject> {
        let object = json!({"apiVersion": "v1", "kind": "Service", "metadata": {
            "name": "s", "namespace": "tv", "uid": "u", "resourceVersion": "7",
            "labels": {"app.kubernetes.io/instance": "live"}}});
        Arc::new(LiveObject::from_watched(serde_json::from_value(object).unwrap()).unwrap())
    }

    #[test]
    fn only_the_same_two_need_no_comparison() {
        let (mut equal, seen) = (EqualObjects::default(), live());
        equal.insert("s", "hash", &seen);
        assert!(equal.contains(&"s", "hash", &Arc::clone(&seen)));
        assert!(!equal.contains(&"other", "hash", &seen));
        assert!(!equal.contains(&"s", "another", &seen), "the wanted object changed");
        assert!(!equal.contains(&"s", "hash", &live()), "the watch showed it again");
        equal.retain(|name| *name != "s");
        assert!(!equal.contains(&"s", "hash", &seen));
    }
}
