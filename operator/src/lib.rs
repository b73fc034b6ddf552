//! The Kubernetes operator: it makes and maintains all objects of a `RankingCluster`, and scales readers by the load of
//! their viewers.
//!
//! A reconcile goes one way: observe (I/O) → [`validate`], [`policy`] (pure) → [`build`] (pure) → [`readers`] (pure) → apply (I/O) →
//! [`status`] (pure). I/O lives in [`run`] alone; [`plugin`] is the client's side, `kubectl liverank`.
pub mod answers;
pub mod build;
pub mod check;
pub mod crd;
pub mod maintenance;
pub mod plugin;
pub mod policy;
pub mod readers;
pub mod run;
pub mod status;
pub mod validate;
