//! Metrics: a registry a process, filled by its parts, written out in the `OpenMetrics` text format.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;

/// The process's metrics. Labels must be bounded: kinds, roles and codes, never ids.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// Put before a part's name, where a process has several of the same part.
    scope: Option<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        Self { registry: Arc::new(Mutex::new(Registry::with_prefix("liverank"))), scope: None }
    }
}

impl Metrics {
    /// The same metrics for one of several equal parts of a process, under `liverank_<scope>_<part>_…`: a family of
    /// metrics must not appear twice.
    #[must_use]
    pub fn scoped(&self, scope: &str) -> Self {
        Self { registry: Arc::clone(&self.registry), scope: Some(scope.replace('-', "_")) }
    }

    /// Adds a part's metrics under `liverank_<part>_…`.
    pub fn register<T>(&self, part: &'static str, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.scope {
            Some(scope) => {
                register(registry.sub_registry_with_prefix(scope.as_str()).sub_registry_with_prefix(part))
            }
            None => register(registry.sub_registry_with_prefix(part)),
        }
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a string cannot fail");
        text
    }
}

/// Makes the values of a label: an enum, each value with its text in `snake_case`.
///
/// ```
/// liverank_runtime::label_values! {
///     /// How a request ended.
///     pub enum Reason {
///         /// There was no room.
///         NoRoom = "no_room",
///     }
/// }
/// ```
#[macro_export]
macro_rules! label_values {
    ($(#[$doc:meta])* $visible:vis enum $name:ident { $($(#[$value_doc:meta])* $value:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $visible enum $name {
            $($(#[$value_doc])* $value,)+
        }

        impl ::prometheus_client::encoding::EncodeLabelValue for $name {
            fn encode(
                &self,
                encoder: &mut ::prometheus_client::encoding::LabelValueEncoder<'_>,
            ) -> ::std::fmt::Result {
                let text = match self { $(Self::$value => $text,)+ };
                ::prometheus_client::encoding::EncodeLabelValue::encode(&text, encoder)
            }
        }
    };
}
