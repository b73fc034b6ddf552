//! The flags that say which traces are recorded, and to which collector they are sent.

use clap::Args;
use liverank_core::trace::SamplingRates;
use reqwest::Url;

use super::metrics::TraceMetrics;
use super::{SpanExport, Tracer};
use crate::Metrics;
use crate::tls::PeerTls;

/// The flags of traces.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Traces")]
pub struct TraceArgs {
    /// The collector of traces by OTLP over HTTP, such as `http://collector:4318`; /v1/traces is added to it. Without it
    /// there are no traces.
    #[arg(long, env = "LIVERANK_OTLP_ENDPOINT", value_name = "URL", value_parser = parse_endpoint)]
    pub otlp_endpoint: Option<Url>,
    /// The share of requests whose traces are recorded, 0 to 1, beside requests with a sampled traceparent.
    #[arg(long, env = "LIVERANK_TRACE_RATIO", default_value_t = 0.01, value_parser = parse_ratio)]
    pub trace_ratio: f64,
    /// The most traces that this process begins in a minute, and the most that it records for others by their
    /// traceparent. Further ones are not recorded.
    #[arg(long, env = "LIVERANK_TRACES_PER_MINUTE", default_value_t = 600, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub traces_per_minute: u32,
}

fn parse_endpoint(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("must be a URL: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("must begin with http:// or https:// and name a host".to_owned());
    }
    // The URL is shown in logs and by `config show`, so it must not contain secrets.
    if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
        return Err(
            "must have no user, password or query: a collector of yours keeps the keys of those behind it"
                .to_owned(),
        );
    }
    Ok(url)
}

fn parse_ratio(text: &str) -> Result<f64, String> {
    let ratio = text.parse().ok().filter(|ratio| (0.0..=1.0).contains(ratio));
    ratio.ok_or_else(|| "must be a number from 0 to 1".to_owned())
}

impl TraceArgs {
    /// Returns the tracer, and the task that sends its spans; without an endpoint, a tracer that records nothing and no
    /// task. `instance` names this process among those of its role.
    pub fn open_tracer(
        &self,
        tls: &PeerTls,
        metrics: &Metrics,
        instance: Option<String>,
    ) -> (Tracer, Option<SpanExport>) {
        let Some(endpoint) = &self.otlp_endpoint else { return (Tracer::default(), None) };
        let metrics = TraceMetrics::register(metrics);
        let sampling = SamplingRates { recorded_share: self.trace_ratio, per_minute: self.traces_per_minute };
        let (tracer, finished) = Tracer::new_recording(sampling, metrics.clone());
        (tracer, Some(SpanExport::new(finished, endpoint, tls, metrics, instance)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_a_base_without_secrets() {
        for good in ["http://collector:4318", "https://collector.example.org/otlp/"] {
            assert!(parse_endpoint(good).is_ok(), "{good}");
        }
        for bad in ["collector:4318", "grpc://collector", "http://me:secret@collector", "http://c/?key=1", ""]
        {
            assert!(parse_endpoint(bad).is_err(), "{bad}");
        }
        for (text, expected) in [("0", Some(0.0)), ("1", Some(1.0)), ("0.25", Some(0.25))] {
            assert_eq!(parse_ratio(text).ok(), expected);
        }
        for bad in ["-0.1", "1.1", "NaN", "many"] {
            assert!(parse_ratio(bad).is_err(), "{bad}");
        }
    }
}
