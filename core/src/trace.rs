//! Traces: which span caused which, in the format of W3C Trace Context, and which traces are recorded.
//!
//! A trace is recorded if the sender of the request asks for it (`sampled` in its `traceparent`), or if it is in the
//! share that this process records by itself. Anybody may ask, so the numbers of both are bounded: [`TraceSampler`].

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::{RateQuota, TokenBuckets};

/// The longest `traceparent` that is read, in bytes. The current version has 55; later versions may have more.
pub const MAX_TRACEPARENT_BYTES: usize = 256;

/// The length of the version that this release writes, in bytes: `00-<trace>-<span>-<flags>`.
const TRACEPARENT_BYTES: usize = 55;

/// The context of a span, under which further spans are made: the trace's id, the span's id, and whether the trace is
/// recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// The id of the trace; never all zeros.
    pub trace_id: [u8; 16],
    /// The id of the span; never all zeros.
    pub span_id: [u8; 8],
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Reads a `traceparent` header; `None` if it is malformed, because anybody may send one.
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.len() > MAX_TRACEPARENT_BYTES {
            return None;
        }
        let (known, more) = text.split_at_checked(TRACEPARENT_BYTES)?;
        let [version] = hex_bytes(&known[..2])?;
        // Version 0 ends here; a later version has more, after another dash.
        let is_whole =
            if version == 0 { more.is_empty() } else { more.first().is_none_or(|byte| *byte == b'-') };
        let dashes = [2, 35, 52].into_iter().all(|at| known[at] == b'-');
        if version == 0xFF || !is_whole || !dashes {
            return None;
        }
        let (trace, span) = (hex_bytes(&known[3..35])?, hex_bytes(&known[36..52])?);
        let [flags] = hex_bytes(&known[53..])?;
        (trace != [0; 16] && span != [0; 8]).then_some(Self {
            trace_id: trace,
            span_id: span,
            sampled: flags & 1 == 1,
        })
    }

    /// Returns the context of another span of the same trace.
    #[must_use]
    pub const fn with_span(self, span: [u8; 8]) -> Self {
        Self { span_id: span, ..self }
    }
}

/// Reads pairs of hexadecimal digits, lower-case only, as the standard demands; `None` for anything else.
fn hex_bytes<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut bytes = [0; N];
    let (pairs, rest) = text.as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, span) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.span_id));
        write!(f, "00-{trace:032x}-{span:016x}-0{}", u8::from(self.sampled))
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for TraceContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(text.as_bytes()).ok_or_else(|| de::Error::custom("is no traceparent"))
    }
}

/// Deserialisers for members that may be malformed: an unreadable trace context counts as absent, and the message that
/// carries it is still accepted.
pub mod lenient {
    use super::{Deserialize, Deserializer, TraceContext};

    /// Reads one trace context; `None` for anything that is not one.
    pub fn read_one<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<TraceContext>, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(value.as_str().and_then(|text| TraceContext::parse(text.as_bytes())))
    }

    /// Reads up to [`super::MAX_TRACES_PER_BATCH`] trace contexts of a list; entries that are malformed are left out.
    pub fn read_some<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<TraceContext>, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        let texts = value.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str);
        let traces = texts.filter_map(|text| TraceContext::parse(text.as_bytes()));
        Ok(traces.take(super::MAX_TRACES_PER_BATCH).collect())
    }
}

/// The most traces that one batch of the consumer continues. A batch takes up to 200,000 events; the other traces of
/// its events end at the log.
pub const MAX_TRACES_PER_BATCH: usize = 32;

/// The reason for which a trace would be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SamplingReason {
    /// The trace is in the share of traces that this process records by itself.
    Share,
    /// The sender of the request asked for the trace to be recorded; at a public port, that may be anybody.
    Requested,
    /// The trace comes out of the log, the boards or the bus of comments: one of liverank's processes began it.
    Continued,
}

/// The number of continued traces that may be recorded for each trace that this process may begin: one consumer
/// follows many gateways.
const CONTINUED_TRACE_FACTOR: u64 = 8;

/// The tokens that one trace costs. A bucket gets a minute's number of traces as tokens each second, so a trace costs
/// 60.
const TRACE_COST_TOKENS: u64 = 60;

/// The rates at which traces are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplingRates {
    /// The share of requests that are recorded without being asked for, from 0 to 1.
    pub recorded_share: f64,
    /// The most traces a minute for each reason; eight times as many for traces that are continued.
    pub per_minute: u32,
}

impl SamplingRates {
    /// Returns the reason for which a request's trace would be recorded; `None` if it is not recorded. `parent` is the
    /// request's own context. `trace` is the id of the trace that the request will be part of; it is random if the
    /// trace begins here. A parent that says "not sampled" is respected.
    pub fn sampling_reason(&self, parent: Option<&TraceContext>, trace: &[u8; 16]) -> Option<SamplingReason> {
        match parent {
            Some(parent) => parent.sampled.then_some(SamplingReason::Requested),
            None => self.is_in_sampled_share(trace).then_some(SamplingReason::Share),
        }
    }

    /// Whether the trace is in the share that is recorded. The decision depends on the trace's id only, so every
    /// process decides the same.
    fn is_in_sampled_share(&self, trace: &[u8; 16]) -> bool {
        let (_, low) = trace.split_at(8);
        let drawn = low.iter().fold(0_u64, |drawn, byte| drawn << 8 | u64::from(*byte));
        // A share of 1 includes every trace, also the one with the highest number.
        self.recorded_share >= 1.0 || (drawn as f64) < self.recorded_share * (u64::MAX as f64)
    }
}

/// Bounds the number of recorded traces, for each reason separately: strangers who ask for each of their requests to
/// be recorded take nothing from the share that is recorded anyway, nor from the traces that are continued.
#[derive(Debug)]
pub struct TraceSampler {
    own_buckets: TokenBuckets<SamplingReason>,
    continued_buckets: TokenBuckets<SamplingReason>,
}

impl TraceSampler {
    /// Makes a sampler whose buckets are full: each holds a minute's traces.
    pub fn new(sampling: &SamplingRates) -> Self {
        let per_minute = u64::from(sampling.per_minute);
        // A second brings as many tokens as a minute may have traces: so one trace costs sixty.
        let buckets = |per_minute: u64| {
            TokenBuckets::new(RateQuota::new(per_minute, per_minute * TRACE_COST_TOKENS), 2)
        };
        Self {
            own_buckets: buckets(per_minute),
            continued_buckets: buckets(per_minute * CONTINUED_TRACE_FACTOR),
        }
    }

    /// Whether one more trace may be recorded for this reason; if so, it is counted. `now` may come from any clock
    /// that does not go back.
    pub fn admit_trace(&mut self, reason: SamplingReason, now: Duration) -> bool {
        let buckets = if reason == SamplingReason::Continued {
            &mut self.continued_buckets
        } else {
            &mut self.own_buckets
        };
        buckets.take_tokens(reason, TRACE_COST_TOKENS, now).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const EXAMPLE_TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parse(text: &str) -> Option<TraceContext> {
        TraceContext::parse(text.as_bytes())
    }

    #[test]
    fn a_traceparent_is_parsed_as_the_standard_says() {
        let read = parse(EXAMPLE_TRACEPARENT).unwrap();
        assert!(
            read.sampled
                && read.trace_id[0] == 0x4b
                && read.span_id == [0, 0xf0, 0x67, 0xaa, 0x0b, 0xa9, 2, 0xb7]
        );
        let unsampled = EXAMPLE_TRACEPARENT.replace("-01", "-00");
        assert_eq!(parse(&unsampled).map(|read| read.sampled), Some(false));
        let other_flags = EXAMPLE_TRACEPARENT.replace("-01", "-fe");
        assert_eq!(parse(&other_flags).map(|read| read.sampled), Some(false), "flags that we do not know");
        let later = format!("01{}-more", &EXAMPLE_TRACEPARENT[2..]);
        assert_eq!(parse(&later), Some(read), "a later version has more behind");
        for wrong in [
            String::new(),
            EXAMPLE_TRACEPARENT[..54].to_owned(),
            format!("{EXAMPLE_TRACEPARENT}-"),
            format!("ff{}", &EXAMPLE_TRACEPARENT[2..]),
            format!("01{}more", &EXAMPLE_TRACEPARENT[2..]),
            format!("01{}-{}", &EXAMPLE_TRACEPARENT[2..], "m".repeat(MAX_TRACEPARENT_BYTES)),
            EXAMPLE_TRACEPARENT.to_uppercase(),
            EXAMPLE_TRACEPARENT.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            EXAMPLE_TRACEPARENT.replace("00f067aa0ba902b7", &"0".repeat(16)),
            EXAMPLE_TRACEPARENT.replace('-', "_"),
            format!("é{}", &EXAMPLE_TRACEPARENT[2..]),
        ] {
            assert_eq!(parse(&wrong), None, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn traceparents_round_trip(trace: [u8; 16], span: [u8; 8], sampled: bool) {
            let context = TraceContext { trace_id: trace, span_id: span, sampled };
            let read = parse(&context.to_string());
            let expected = (trace != [0; 16] && span != [0; 8]).then_some(context);
            prop_assert_eq!(read, expected);
        }

        #[test]
        fn no_traceparent_makes_the_parser_panic(text: Vec<u8>) {
            let _ = TraceContext::parse(&text);
        }

        #[test]
        fn sampling_is_bounded_under_a_flood(steps in prop::collection::vec((0_u64..400, 0..3_usize), 1..600)) {
            let sampling = SamplingRates { recorded_share: 1.0, per_minute: 60 };
            let mut sampler = TraceSampler::new(&sampling);
            let (mut now, mut taken) = (Duration::ZERO, [0_u64; 3]);
            for (pause, reason) in steps {
                now += Duration::from_millis(pause);
                let reasons = [SamplingReason::Share, SamplingReason::Requested, SamplingReason::Continued];
                taken[reason] += u64::from(sampler.admit_trace(reasons[reason], now));
            }
            // The tokens that a bucket held at first, and those that came in meanwhile.
            let most = 60 + now.as_secs() + 1;
            prop_assert!(taken[0] <= most && taken[1] <= most && taken[2] <= most * CONTINUED_TRACE_FACTOR, "{:?} in {:?}", taken, now);
        }
    }

    #[test]
    fn sampling_requested_by_strangers_has_its_own_budget() {
        let mut sampler = TraceSampler::new(&SamplingRates { recorded_share: 0.5, per_minute: 10 });
        let now = Duration::from_secs(1);
        let asked = (0..1_000).filter(|_| sampler.admit_trace(SamplingReason::Requested, now)).count();
        assert_eq!(asked, 10);
        assert!(
            sampler.admit_trace(SamplingReason::Share, now)
                && sampler.admit_trace(SamplingReason::Continued, now)
        );
        assert!(
            !sampler.admit_trace(SamplingReason::Requested, now + Duration::from_secs(5)),
            "six seconds bring the next one"
        );
        assert!(sampler.admit_trace(SamplingReason::Requested, now + Duration::from_secs(7)));
    }

    #[test]
    fn the_sampled_share_is_the_setting_and_a_sampled_parent_is_respected() {
        let of = |ratio| SamplingRates { recorded_share: ratio, per_minute: 1 };
        let trace = |low: u64| {
            let mut trace = [7; 16];
            trace[8..].copy_from_slice(&low.to_be_bytes());
            trace
        };
        let many = |ratio| {
            (0..1_000).filter(|at| of(ratio).is_in_sampled_share(&trace(at * (u64::MAX / 1_000)))).count()
        };
        assert_eq!((many(0.0), many(0.25), many(1.0)), (0, 250, 1_000));
        assert!(!of(0.0).is_in_sampled_share(&trace(0)) && of(1.0).is_in_sampled_share(&trace(u64::MAX)));
        let sampled = parse(EXAMPLE_TRACEPARENT).unwrap();
        let unsampled = TraceContext { sampled: false, ..sampled };
        assert_eq!(
            of(0.0).sampling_reason(Some(&sampled), &sampled.trace_id),
            Some(SamplingReason::Requested)
        );
        assert_eq!(of(1.0).sampling_reason(Some(&unsampled), &sampled.trace_id), None);
        assert_eq!(of(1.0).sampling_reason(None, &trace(9)), Some(SamplingReason::Share));
        assert_eq!(of(0.0).sampling_reason(None, &trace(9)), None);
    }
}
