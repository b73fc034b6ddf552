//! The source of the time.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use liverank_core::Millis;

/// Returns the time in milliseconds since the Unix epoch. The time may jump forwards and backwards, as a
/// machine's clock may.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// Returns the machine's clock, which gives 0 for a time before 1970.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as Millis)
    })
}
