//! Sends reports of a service to the statistics service at regular times. The reports are for people to look at, so a
//! lost report is not sent again.

use std::time::Duration;

use serde::Serialize;

use crate::ServiceContext;
use crate::peer::ServiceReplicas;

/// The time between two reports: two seconds look live to a person, and cost next to nothing.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Posts the value of `report` to `path` of the statistics service every `REPORT_INTERVAL` until shutdown. Only waits
/// for the shutdown if no statistics service is configured.
pub async fn send_reports<T: Serialize + Sync + Send>(
    statistics: Option<ServiceReplicas>,
    path: &'static str,
    shell: ServiceContext,
    report: impl Fn() -> T + Send,
) {
    let Some(statistics) = statistics else { return shell.shutdown.cancelled().await };
    let mut ticks = tokio::time::interval(REPORT_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shell.shutdown.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let body = report();
        let sent = statistics.post::<serde::de::IgnoredAny>(&[path], &body).await;
        shell.health.note_dependency("statistics", sent.map(drop).map_err(|error| error.to_string()));
    }
}
