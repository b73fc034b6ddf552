//! The source of the time.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use liverank_core::Millis;

use crate::{Backends, StoreError};

/// A function that returns the time in milliseconds since the Unix epoch. The time may jump forwards and backwards, as
/// a machine's clock may.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Returns the machine's clock, which gives 0 for a time before 1970.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as Millis)
    })
}

/// The clocks of this process and of the stores, read at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ComparedClocks {
    /// The earliest of the clocks, in milliseconds since 1970. The earliest clock is ahead of the true time only if all
    /// clocks are.
    pub earliest: Millis,
    /// The time, in milliseconds, by which this process's clock is ahead of the earliest clock.
    pub ahead_ms: Millis,
}

impl ComparedClocks {
    /// Reads the clocks of this process, of the archive and of the boards' store.
    ///
    /// # Errors
    /// A store cannot be reached.
    pub async fn read(backends: &Backends) -> Result<Self, StoreError> {
        // Own first: what the stores' answers take does not make this process's clock seem ahead.
        let own = (backends.clock)();
        let archive = backends.archive.store_time().await?;
        let boards = backends.ranking.store_time().await?;
        Ok(Self::of(own, &[archive, boards]))
    }

    fn of(own: Millis, stores: &[Option<Millis>]) -> Self {
        let earliest = stores.iter().flatten().fold(own, |earliest, time| earliest.min(*time));
        Self { earliest, ahead_ms: own - earliest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_clock_is_the_one_to_go_by() {
        let of = |own, stores: [Option<Millis>; 2]| {
            let clocks = ComparedClocks::of(own, &stores);
            (clocks.earliest, clocks.ahead_ms)
        };
        assert_eq!(of(100, [None, None]), (100, 0));
        assert_eq!(of(100, [Some(40), Some(90)]), (40, 60));
        assert_eq!(of(100, [Some(400), None]), (100, 0));
    }
}
