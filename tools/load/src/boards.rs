//! Reads of boards while others post: how long they take, and what is refused.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::Duration;

use futures::StreamExt;
use reqwest::Client;
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::pace;
use crate::record::{LatencyHistogram, lock_ignoring_poison};
use crate::report::TimeDistribution;
use crate::targets::TargetAddresses;

/// The number of reads under way at once: when they are all waiting, further ones come late.
const MAX_READS_AT_ONCE: usize = 256;
/// The time within which a server must answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// The number of lines of a read: a screen.
const LINES_PER_READ: usize = 20;

/// The figures of the reads of one board.
#[derive(Debug, Clone, Serialize)]
pub struct BoardFigures {
    /// The number of reads of the board that were tried.
    pub reads: u64,
    /// The number of reads that were not answered with a list, by the status; 0 stands for no answer at all.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub refused: BTreeMap<u16, u64>,
    /// The times of reads that were answered with a list.
    pub latency: TimeDistribution,
}

struct MeasuredBoard {
    name: String,
    latency: LatencyHistogram,
    refusals_by_status: Mutex<BTreeMap<u16, u64>>,
}

/// Reads boards in turn.
pub struct BoardReadLoad {
    client: Client,
    targets: TargetAddresses,
    boards: Vec<MeasuredBoard>,
}

impl BoardReadLoad {
    /// Creates the load that reads the boards with these names.
    pub fn new(client: Client, targets: TargetAddresses, names: &[String]) -> Self {
        let board = |name: &String| MeasuredBoard {
            name: name.clone(),
            latency: LatencyHistogram::default(),
            refusals_by_status: Mutex::default(),
        };
        Self { client, targets, boards: names.iter().map(board).collect() }
    }

    /// Begins `rate` reads a second until `stop`, and waits for those under way.
    pub async fn run_reads(&self, rate: f64, stop: &CancellationToken) {
        if rate <= 0.0 || self.boards.is_empty() {
            return;
        }
        let read = async |number| {
            let number = number as usize;
            self.read_one(number, &self.boards[number % self.boards.len()]).await;
        };
        pace::paced_numbers(rate, stop).for_each_concurrent(MAX_READS_AT_ONCE, read).await;
    }

    async fn read_one(&self, number: usize, board: &MeasuredBoard) {
        let target = self.targets.next_target();
        let url = target.url(&format!("/videos?board={}&limit={LINES_PER_READ}", board.name));
        let began = Instant::now();
        let answer = self.client.get(url).timeout(ANSWER_TIMEOUT).send().await;
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        let is_list = match answer {
            Ok(answer) => answer.status().is_success() && answer.bytes().await.is_ok(),
            Err(_) => false,
        };
        if is_list {
            board.latency.note_latency(number, began.elapsed().as_micros() as u64);
            return;
        }
        // A refusal is no fault of the gateway.
        if status == 0 || status >= 500 {
            self.targets.note_failed(&target);
        }
        *lock_ignoring_poison(&board.refusals_by_status).entry(status).or_default() += 1;
    }

    /// Returns the figures by the name of the board.
    pub fn figures(&self) -> BTreeMap<String, BoardFigures> {
        let of = |board: &MeasuredBoard| {
            let latency = TimeDistribution::from_histogram(&board.latency.merged_histogram());
            let refused = lock_ignoring_poison(&board.refusals_by_status).clone();
            let reads = latency.count + refused.values().sum::<u64>();
            (board.name.clone(), BoardFigures { reads, refused, latency })
        };
        self.boards.iter().map(of).filter(|(_, figures)| figures.reads > 0).collect()
    }
}
