//! Metrics: one registry a process, to which its parts add theirs, written in the `OpenMetrics` text format.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use prometheus_client::registry::Registry;

use crate::http_metrics::HttpMetrics;

/// The metrics of a process. The values of labels must be bounded: kinds, roles and codes, never ids. Cheap to clone:
/// all clones share one registry.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Mutex<Registry>>,
    /// The metrics of the HTTP ports of this process; created with the first port.
    http: Arc<OnceLock<HttpMetrics>>,
    /// The name of the reader to which these metrics belong, if the process has several readers.
    reader_name: Option<String>,
}

impl Default for Metrics {
    fn default() -> Self {
        let registry = Arc::new(Mutex::new(Registry::with_prefix("liverank")));
        Self { registry, http: Arc::default(), reader_name: None }
    }
}

impl Metrics {
    /// Returns the same registry for one of several readers of a process: each of the reader's samples gets the label
    /// `reader`.
    #[must_use]
    pub fn labelled_with_reader(&self, reader: &str) -> Self {
        Self { reader_name: Some(reader.to_owned()), ..self.clone() }
    }

    /// Registers the metrics of `part` under the prefix `liverank_<part>_`.
    pub fn register<T>(&self, part: &'static str, register: impl FnOnce(&mut Registry) -> T) -> T {
        let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        match &self.reader_name {
            Some(reader) => {
                let label = ("reader".into(), reader.clone().into());
                register(registry.sub_registry_with_label(label).sub_registry_with_prefix(part))
            }
            None => register(registry.sub_registry_with_prefix(part)),
        }
    }

    /// Returns the metrics of the HTTP ports. The metrics are registered at the first call.
    pub(crate) fn http(&self) -> &HttpMetrics {
        self.http.get_or_init(|| {
            let all = HttpMetrics::default();
            let mut registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
            all.register(registry.sub_registry_with_prefix("http"));
            all
        })
    }

    /// Returns all metrics as `OpenMetrics` text.
    pub fn encode_text(&self) -> String {
        let mut text = String::new();
        let registry = self.registry.lock().unwrap_or_else(PoisonError::into_inner);
        prometheus_client::encoding::text::encode(&mut text, &registry)
            .expect("writing to a string cannot fail");
        without_repeated_headers(&text)
    }
}

/// Returns the text with all samples of a metric family in one place. Several readers of one process each write their
/// own part of a family with its own header lines, and a parser refuses a family that comes twice.
fn without_repeated_headers(text: &str) -> String {
    let mut heads: Vec<(&str, String)> = Vec::new();
    let mut samples: BTreeMap<&str, String> = BTreeMap::new();
    let mut family = "";
    for line in text.lines().filter(|line| *line != "# EOF") {
        let described = ["# HELP ", "# TYPE ", "# UNIT "].iter().find_map(|head| line.strip_prefix(head));
        let Some(described) = described else {
            let samples = samples.entry(family).or_default();
            samples.push_str(line);
            samples.push('\n');
            continue;
        };
        family = described.split(' ').next().unwrap_or_default();
        let at = heads.iter().position(|(name, _)| *name == family);
        let at = at.unwrap_or_else(|| {
            heads.push((family, String::new()));
            heads.len() - 1
        });
        let head = &mut heads[at].1;
        if !head.contains(line) {
            head.push_str(line);
            head.push('\n');
        }
    }
    let mut whole = String::with_capacity(text.len());
    for (family, head) in heads {
        whole.push_str(&head);
        whole.push_str(samples.get(family).map_or("", String::as_str));
    }
    whole + "# EOF\n"
}

/// Defines an enum whose values are the values of a label of metrics, each with its text in `snake_case`.
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

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::gauge::Gauge;

    use super::*;

    #[test]
    fn several_readers_of_one_process_share_each_family() {
        let metrics = Metrics::default();
        for (reader, viewers) in [("reader-1", 3), ("reader-2", 5)] {
            let gauge = Gauge::<i64>::default();
            gauge.set(viewers);
            metrics.labelled_with_reader(reader).register("reader", |registry| {
                registry.register("viewers", "Viewers connected", gauge.clone());
                registry.register("capacity", "Viewers taken at most", gauge);
            });
        }
        assert_eq!(
            metrics.encode_text(),
            "# HELP liverank_reader_viewers Viewers connected.\n\
             # TYPE liverank_reader_viewers gauge\n\
             liverank_reader_viewers{reader=\"reader-1\"} 3\n\
             liverank_reader_viewers{reader=\"reader-2\"} 5\n\
             # HELP liverank_reader_capacity Viewers taken at most.\n\
             # TYPE liverank_reader_capacity gauge\n\
             liverank_reader_capacity{reader=\"reader-1\"} 3\n\
             liverank_reader_capacity{reader=\"reader-2\"} 5\n\
             # EOF\n"
        );
    }
}
