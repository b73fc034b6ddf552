//! Where the time comes from.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use liverank_core::Millis;

/// Tells the time, in milliseconds since the Unix epoch. It may jump either way, as a machine's clock may.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// The machine's clock; 0 where it stands before 1970.
pub fn system_clock() -> Clock {
    Arc::new(|| {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_millis() as Millis)
    })
}
