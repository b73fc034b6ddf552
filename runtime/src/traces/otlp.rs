//! Encodes spans in the format of OTLP.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind as OtlpKind;
use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, ScopeSpans, Span, Status};

use super::{FinishedSpan, SpanAttribute, SpanKind};

/// Encodes a request with these spans, grouped by service: one process may run several services (`liverank up`).
pub(super) fn encode_request(spans: &[FinishedSpan], instance: Option<&str>) -> ExportTraceServiceRequest {
    let mut services: BTreeMap<&str, Vec<Span>> = BTreeMap::new();
    for finished in spans {
        services.entry(finished.service).or_default().push(encode_span(finished));
    }
    let resource_spans = services
        .into_iter()
        .map(|(service, spans)| {
            let scope = InstrumentationScope {
                name: "liverank".to_owned(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                ..InstrumentationScope::default()
            };
            let resource =
                Resource { attributes: resource_attributes(service, instance), ..Resource::default() };
            let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, schema_url: String::new() }];
            ResourceSpans { resource: Some(resource), scope_spans, schema_url: String::new() }
        })
        .collect();
    ExportTraceServiceRequest { resource_spans }
}

/// Returns the attributes that name the process, with the keys of OpenTelemetry.
fn resource_attributes(service: &str, instance: Option<&str>) -> Vec<KeyValue> {
    let name = format!("liverank-{service}");
    let mut attributes = vec![
        text_attribute("service.name", &name),
        text_attribute("service.version", env!("CARGO_PKG_VERSION")),
    ];
    attributes.extend(instance.map(|instance| text_attribute("service.instance.id", instance)));
    attributes
}

fn text_attribute(key: &str, value: &str) -> KeyValue {
    key_value(key, Value::StringValue(value.to_owned()))
}

fn key_value(key: &str, value: Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

fn encode_span(finished: &FinishedSpan) -> Span {
    let began = unix_nanos(finished.started_at);
    let kind = match finished.kind {
        SpanKind::Server => OtlpKind::Server,
        SpanKind::Consumer => OtlpKind::Consumer,
        SpanKind::Internal => OtlpKind::Internal,
    };
    let attributes = finished.attributes.iter().map(|(key, value)| match value {
        SpanAttribute::Text(value) => text_attribute(key, value),
        SpanAttribute::Integer(value) => key_value(key, Value::IntValue(*value)),
    });
    let error = |why: &str| Status { message: why.to_owned(), code: StatusCode::Error.into() };
    Span {
        trace_id: finished.context.trace_id.to_vec(),
        span_id: finished.context.span_id.to_vec(),
        parent_span_id: finished.parent.map_or_else(Vec::new, |parent| parent.to_vec()),
        // The flag `sampled`: only sampled spans are sent.
        flags: 1,
        name: finished.name.clone().into_owned(),
        kind: kind.into(),
        start_time_unix_nano: began,
        end_time_unix_nano: began.saturating_add(finished.duration.as_nanos() as u64),
        attributes: attributes.collect(),
        status: finished.error.map(error),
        ..Span::default()
    }
}

fn unix_nanos(time: SystemTime) -> u64 {
    // A clock before 1970 is taken as 0.
    time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64)
}
