//! The header by which a record carries its trace, as OpenTelemetry defines it for Kafka.

use liverank_core::trace::TraceContext;
use rdkafka::message::{Header, Headers, OwnedHeaders};

const TRACEPARENT_HEADER: &str = "traceparent";
/// The number of a record's headers that are examined: our records have one, and records of other programs must not
/// make reading slow.
const MAX_HEADERS: usize = 16;

/// Returns the headers of a record with this trace; `None` without a trace.
pub(super) fn trace_headers(trace: Option<TraceContext>) -> Option<OwnedHeaders> {
    let value = trace?.to_string();
    let header = Header { key: TRACEPARENT_HEADER, value: Some(&value) };
    Some(OwnedHeaders::new_with_capacity(1).insert(header))
}

/// Reads the trace from a record's headers, which any program may have written; `None` if there is no valid one.
pub(super) fn trace_of_headers(headers: Option<&impl Headers>) -> Option<Box<TraceContext>> {
    let header = headers?.iter().take(MAX_HEADERS).find(|header| header.key == TRACEPARENT_HEADER)?;
    TraceContext::parse(header.value?).map(Box::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_header_round_trips_and_a_malformed_one_is_ignored() {
        let trace = TraceContext { trace_id: [7; 16], span_id: [9; 8], sampled: true };
        assert_eq!(trace_of_headers(trace_headers(Some(trace)).as_ref()), Some(Box::new(trace)));
        assert!(trace_headers(None).is_none() && trace_of_headers(None::<&OwnedHeaders>).is_none());
        let with =
            |value: Option<&[u8]>| OwnedHeaders::new().insert(Header { key: TRACEPARENT_HEADER, value });
        for foreign in [None, Some(&b""[..]), Some(b"00-x"), Some(&[0xFF; 55])] {
            assert_eq!(trace_of_headers(Some(&with(foreign))), None);
        }
        let many = (0..MAX_HEADERS)
            .fold(OwnedHeaders::new(), |headers, _| headers.insert(Header { key: "x", value: Some("y") }));
        let behind = trace.to_string();
        let last = many.insert(Header { key: TRACEPARENT_HEADER, value: Some(&behind) });
        assert_eq!(trace_of_headers(Some(&last)), None);
    }
}
