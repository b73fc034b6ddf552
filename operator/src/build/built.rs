//! The objects of one cluster as they were built last. Only what a change touches is built again; a look that finds the
//! same resource and the same readers builds nothing ([ADR 057](../../../docs/adr/057-what-a-pod-event-costs.md)).
//!
//! Objects are kept with the input that they were made from, and are made from nothing else:
//!
//! | objects | are made from |
//! |---|---|
//! | those of no single reader | `Basis`: the resource's name, namespace, uid and spec in force, the builder's revision, the facts about the operator |
//! | the readers' disruption budget | the same, and the number of readers |
//! | those of a reader | the same, and the reader: its name and its drain |
//!
//! The builder is given the kept input, not the caller's: it cannot read what the input leaves out. A test compares the
//! result with [`super::desired_objects`] after each of many random changes.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::scope::Scope;
use super::wanted::WantedObject;
use super::{Component, Input, Object, OperatorFacts, Reader};
use crate::crd::RankingCluster;

/// Everything that a cluster's objects depend on, but for its readers.
struct Basis {
    /// The resource without what the builder does not read: most of its metadata, and its status.
    cluster: RankingCluster,
    revision: u32,
    operator: OperatorFacts,
}

impl Basis {
    fn of(input: &Input<'_>) -> Self {
        let RankingCluster { metadata, spec, .. } = input.cluster;
        let metadata = ObjectMeta {
            name: metadata.name.clone(),
            namespace: metadata.namespace.clone(),
            uid: metadata.uid.clone(),
            ..ObjectMeta::default()
        };
        let cluster = RankingCluster { metadata, spec: spec.clone(), status: None };
        Self { cluster, revision: input.revision, operator: input.operator.clone() }
    }

    fn is_of(&self, input: &Input<'_>) -> bool {
        let (ours, given) = (&self.cluster, input.cluster);
        self.revision == input.revision
            && self.operator == *input.operator
            && (ours.name(), ours.namespace(), ours.uid()) == (given.name(), given.namespace(), given.uid())
            && ours.spec == given.spec
    }

    /// Returns the builder's input, without readers.
    const fn input(&self) -> Input<'_> {
        Input { cluster: &self.cluster, revision: self.revision, readers: &[], operator: &self.operator }
    }
}

/// The objects of one [`Basis`].
struct ObjectsOfBasis {
    basis: Basis,
    /// The hash of the readers' pod template.
    reader_template: String,
    shared: Vec<Arc<WantedObject>>,
    /// The readers' disruption budget, by the number of readers; of the last number only.
    budget: Option<(usize, Option<Arc<WantedObject>>)>,
    by_reader: HashMap<Reader, Vec<Arc<WantedObject>>>,
    /// The readers of `in_order`.
    readers: Vec<Reader>,
    /// All objects, in the order in which they are applied.
    in_order: Option<Vec<Arc<WantedObject>>>,
    /// The components that a newer revision of the builder restarts, by that revision; of the last one only.
    restarted: Option<(u32, BTreeSet<Component>)>,
}

impl ObjectsOfBasis {
    /// Builds what is missing for these readers, and drops what belonged to others.
    fn update(&mut self, given: &[Reader], build_count: &mut u64) {
        if self.in_order.is_some() && self.readers == given {
            return;
        }
        let input = self.basis.input();
        let scope = Scope::of(&input);
        let mut keep = |objects: Vec<Object>| -> Vec<Arc<WantedObject>> {
            *build_count += objects.len() as u64;
            objects.iter().map(|object| Arc::new(WantedObject::of(object))).collect()
        };
        if self.budget.as_ref().is_none_or(|(count, _)| *count != given.len()) {
            let budget = super::reader_budget(scope, given.len());
            self.budget = Some((given.len(), keep(budget.into_iter().collect()).pop()));
        }
        let mut before = std::mem::take(&mut self.by_reader);
        let readers = super::enabled_readers(&Input { readers: given, ..input });
        for reader in readers {
            let objects = before
                .remove(reader)
                .unwrap_or_else(|| keep(super::reader_objects(scope, reader, &self.reader_template)));
            self.by_reader.insert(reader.clone(), objects);
        }
        let budget = self.budget.iter().filter_map(|(_, budget)| budget.as_ref());
        let of_readers = readers.iter().flat_map(|reader| &self.by_reader[reader]);
        let mut all: Vec<_> = self.shared.iter().chain(budget).chain(of_readers).cloned().collect();
        all.sort_by_key(|object| object.place_in_order());
        self.readers = given.to_vec();
        self.in_order = Some(all);
    }
}

/// The objects of one cluster, each as it was built last.
#[derive(Default)]
pub struct BuiltObjects {
    of_basis: Option<ObjectsOfBasis>,
    build_count: u64,
}

impl BuiltObjects {
    /// Returns all objects of the cluster in the order in which they are applied, as [`super::desired_objects`] makes
    /// them.
    pub fn objects(&mut self, input: &Input<'_>) -> &[Arc<WantedObject>] {
        self.rebuild_if_changed(input);
        let Self { of_basis: Some(of_basis), build_count } = self else { return &[] };
        of_basis.update(input.readers, build_count);
        of_basis.in_order.as_deref().unwrap_or_default()
    }

    /// Returns the hash of the pod template that every reader is to have, as [`super::reader_template_hash`] makes it.
    pub fn reader_template_hash(&mut self, input: &Input<'_>) -> &str {
        &self.rebuild_if_changed(input).reader_template
    }

    /// Returns the components whose pods would restart if the builder's revision `newest` replaced that of the input.
    pub fn components_restarted_by_revision(
        &mut self,
        input: &Input<'_>,
        newest: u32,
    ) -> &BTreeSet<Component> {
        let of_basis = self.rebuild_if_changed(input);
        if of_basis.restarted.as_ref().is_some_and(|(of, _)| *of != newest) {
            of_basis.restarted = None;
        }
        let ObjectsOfBasis { basis: Basis { cluster, revision, operator }, restarted, .. } = of_basis;
        let find = || (newest, super::components_restarted_by_revision(cluster, *revision, newest, operator));
        &restarted.get_or_insert_with(find).1
    }

    /// Returns how many objects were built so far.
    pub const fn build_count(&self) -> u64 {
        self.build_count
    }

    fn rebuild_if_changed(&mut self, input: &Input<'_>) -> &mut ObjectsOfBasis {
        if self.of_basis.as_ref().is_some_and(|known| !known.basis.is_of(input)) {
            self.of_basis = None;
        }
        let Self { of_basis, build_count } = self;
        of_basis.get_or_insert_with(|| {
            let basis = Basis::of(input);
            let alone = basis.input();
            let scope = Scope::of(&alone);
            let objects = super::shared_objects(scope);
            *build_count += objects.len() as u64;
            ObjectsOfBasis {
                reader_template: super::reader_template_hash(&alone),
                shared: objects.iter().map(|object| Arc::new(WantedObject::of(object))).collect(),
                budget: None,
                by_reader: HashMap::new(),
                readers: Vec::new(),
                in_order: None,
                restarted: None,
                basis,
            }
        })
    }
}

#[cfg(test)]
mod tests;
