//! A steady pace, for actions that are done a fixed number of times a second and are not in the plan.

use std::time::Duration;

use futures::{Stream, stream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Returns 0, 1, 2, …, `rate` of them a second, until `stop`. The rate is above 0. A number that is asked for late
/// comes at once, because the pace is measured from the start.
pub(crate) fn paced_numbers(rate: f64, stop: &CancellationToken) -> impl Stream<Item = u32> + '_ {
    let start = Instant::now();
    stream::unfold(0_u32, move |number| async move {
        tokio::select! {
            () = sleep_until(start + Duration::from_secs_f64(f64::from(number) / rate)) => {}
            () = stop.cancelled() => return None,
        }
        Some((number, number + 1))
    })
}
