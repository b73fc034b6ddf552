//! Reports of a service to the statistics service, now and then. They are for people: one that gets lost is not missed.

use std::time::Duration;

use serde::Serialize;

use crate::ServiceContext;
use crate::peer::ServiceReplicas;

/// Often enough to look live, seldom enough to cost nothing.
pub const REPORT_INTERVAL: Duration = Duration::from_secs(2);

/// Posts what `report` says to `path` until shutdown. Only waits where no statistics service is configured.
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
        let sent = statistics.post::<serde_json::Value>(&[path], &body).await;
        shell.health.note_dependency("statistics", sent.map(drop).map_err(|error| error.to_string()));
    }
}
