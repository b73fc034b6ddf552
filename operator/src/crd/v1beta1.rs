//! `rankingclusters.liverank.dev/v1beta1`: the same resource under other names and in other forms. All that differs stands
//! in one [table], from which the conversion in both directions and the schema are made; so a field that is
//! new in v1alpha1 is in v1beta1, too. Pure.
//!
//! v1alpha1 stays the version that is stored and that the operator reads ([ADR 042](../../../docs/adr/042-v1beta1.md)).

mod convert;
mod definition;
mod duration;
mod review;
mod schema;
pub mod table;

pub use convert::{ConversionError, Version, convert_object, to_v1alpha1, to_v1beta1};
pub use definition::{
    CONVERT_PATH, OPEN_SPEC_SCHEMA, WebhookService, definition_of_both, definition_of_both_yaml,
};
pub use duration::Unit;
pub use review::{ConversionReply, answer_review};
