//! Metrics: a registry a process, filled by its parts, written out in the `OpenMetrics` text format.

use std::sync::{Arc, Mutex, PoisonError};

use prometheus_client::registry::Registry;

/// The process's metrics. Labels must be bounded: kinds, roles and codes, never ids.
#[derive(Clone)]
pub struct Metrics(Arc<Mutex<Registry>>);

impl Default for Metrics {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Registry::with_prefix("liverank"))))
    }
}

impl Metrics {
    /// Adds a part's metrics under `liverank_<part>_…`.
    pub fn register<T>(&self, part: &'static str, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        register(registry.sub_registry_with_prefix(part))
    }

    /// All metrics as text.
    pub fn encode(&self) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a string cannot fail");
        text
    }
}
