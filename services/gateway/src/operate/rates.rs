//! Computes by how much counts grow per second, from two readings of them.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Maximum time between the two readings of counts from which a rate is computed: over a longer time, the rate says
/// nothing about now.
const MAX_READING_INTERVAL: Duration = Duration::from_secs(20);

/// The counts that were read last, and the time of the reading.
#[derive(Debug, Default)]
pub(super) struct LastCounts {
    last_counts: Option<(Instant, BTreeMap<&'static str, u64>)>,
}

impl LastCounts {
    /// Returns by how much each count grew per second since the last call; `None` for a count whose rate is not known.
    /// A count that shrank was started anew by a process that was restarted, so it has no rate rather than a wrong one.
    pub(super) fn growth_per_second(
        &mut self,
        now: Instant,
        counts: BTreeMap<&'static str, u64>,
    ) -> BTreeMap<String, Option<f64>> {
        let before = self
            .last_counts
            .as_ref()
            .filter(|(at, _)| now.saturating_duration_since(*at) < MAX_READING_INTERVAL);
        let rate = |(name, count): (&&'static str, &u64)| {
            let rate = before.and_then(|(at, counts)| {
                let grown = count.checked_sub(*counts.get(name)?)?;
                let seconds = now.saturating_duration_since(*at).as_secs_f64();
                (seconds > 0.0).then(|| (grown as f64 / seconds * 10.0).round() / 10.0)
            });
            ((*name).to_owned(), rate)
        };
        let rates = counts.iter().map(rate).collect();
        self.last_counts = Some((now, counts));
        rates
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_rate_is_none() {
        let (mut rates, start) = (LastCounts::default(), Instant::now());
        let mut look = |seconds, a, b| {
            let counts = BTreeMap::from([("a", a), ("b", b)]);
            let rates = rates.growth_per_second(start + Duration::from_secs(seconds), counts);
            assert_eq!(rates.len(), 2);
            (rates["a"], rates["b"])
        };
        assert_eq!(look(0, 10, 10), (None, None), "nothing to compare it with");
        assert_eq!(look(2, 15, 10), (Some(2.5), Some(0.0)));
        assert_eq!(look(4, 3, 14), (None, Some(2.0)), "it was begun anew");
        assert_eq!(look(60, 9, 90), (None, None), "nobody looked for long");
    }
}
