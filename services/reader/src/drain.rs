//! Leaving: no new viewers, then those who are here go in a lottery's order, and only then is the port closed.

use std::sync::Arc;
use std::time::Duration;

use liverank_shell::Shell;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Reader;

/// How often is looked whether everybody has left.
const LOOK: Duration = Duration::from_millis(50);

/// Waits for the shell's shutdown, empties the reader within three quarters of the drain time, and then cancels
/// `served`, so that the server finishes with the rest.
///
/// The managers hear of it at once and move the videos away, which ends their viewers' streams; what they have not
/// moved after a quarter of the time (or at once, where there are no managers) is ended by the reader itself, spread
/// over another quarter.
pub async fn run(reader: Arc<Reader>, shell: Shell, served: CancellationToken) {
    shell.shutdown.cancelled().await;
    let start = Instant::now();
    let viewers = reader.hub.viewers();
    tracing::info!(viewers, "draining");
    reader.leave();
    let part = shell.drain / 4;
    if reader.has_managers {
        emptied(&reader, start + part).await;
    }
    let rooms = reader.hub.rooms();
    futures::future::join_all(rooms.iter().map(|room| reader.hub.send_away(room, part))).await;
    emptied(&reader, start + 3 * part).await;
    if reader.has_managers {
        reader.told(Duration::from_secs(1).min(part)).await;
    }
    tracing::info!(left = reader.hub.viewers(), "drained");
    served.cancel();
}

async fn emptied(reader: &Reader, deadline: Instant) {
    while reader.hub.viewers() > 0 && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}
