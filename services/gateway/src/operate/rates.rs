//! The rates of counts that only grow, between two looks at them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Maximum time between two looks for a rate: after a longer time, the rate says nothing about now.
const MAX_LOOK_DISTANCE: Duration = Duration::from_secs(20);

/// The counts of the last look, with its time.
#[derive(Debug, Default)]
pub(super) struct Rates {
    last_counts: Option<(Instant, BTreeMap<&'static str, u64>)>,
}

impl Rates {
    /// Returns how much each count grew in a second since the last look; null if that is not known. A count that
    /// shrank was started anew by a process that was restarted, so it has no rate rather than a wrong one.
    pub(super) fn look(&mut self, now: Instant, counts: BTreeMap<&'static str, u64>) -> Value {
        let before = self
            .last_counts
            .as_ref()
            .filter(|(at, _)| now.saturating_duration_since(*at) < MAX_LOOK_DISTANCE);
        let rate = |(name, count): (&&'static str, &u64)| {
            let rate = before.and_then(|(at, counts)| {
                let grown = count.checked_sub(*counts.get(name)?)?;
                let seconds = now.saturating_duration_since(*at).as_secs_f64();
                (seconds > 0.0).then(|| (grown as f64 / seconds * 10.0).round() / 10.0)
            });
            ((*name).to_owned(), json!(rate))
        };
        let rates = Value::Object(counts.iter().map(rate).collect());
        self.last_counts = Some((now, counts));
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rate_is_null() {
        let (mut rates, start) = (Rates::default(), Instant::now());
        let mut look = |seconds, a, b| {
            let counts = BTreeMap::from([("a", a), ("b", b)]);
            rates.look(start + Duration::from_secs(seconds), counts)
        };
        assert_eq!(look(0, 10, 10), json!({"a": null, "b": null}), "nothing to compare it with");
        assert_eq!(look(2, 15, 10), json!({"a": 2.5, "b": 0.0}));
        assert_eq!(look(4, 3, 14), json!({"a": null, "b": 2.0}), "it was begun anew");
        assert_eq!(look(60, 9, 90), json!({"a": null, "b": null}), "nobody looked for long");
    }
}
