//! The output of a run: a line for each fault and round, and numbers at the end.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use liverank_load::record::lock_ignoring_poison;
use serde_json::{Value, json};

use crate::schedule::FaultKind;

/// What was reported so far: the lines of the current round's faults, kept for the case that something differs, and
/// totals.
#[derive(Default)]
struct ReportState {
    round: Vec<String>,
    counts: BTreeMap<FaultKind, u32>,
    rests: Vec<f64>,
    events: u64,
    remarks: Vec<String>,
}

/// The report of a run, with the time since its start before each line.
pub struct RunReport {
    seed: u64,
    start: Instant,
    told: Mutex<ReportState>,
}

fn clock_text(elapsed: Duration) -> String {
    let seconds = elapsed.as_secs();
    format!("{:02}:{:02}.{}", seconds / 60, seconds % 60, elapsed.subsec_millis() / 100)
}

impl RunReport {
    /// Starts the report's clock now.
    pub fn new(seed: u64) -> Self {
        Self { seed, start: Instant::now(), told: Mutex::default() }
    }

    /// Prints a line, with the time since the start.
    #[expect(clippy::print_stdout, reason = "it is what the program is for")]
    pub fn print_line(&self, words: &str) {
        println!("[{}] {words}", clock_text(self.start.elapsed()));
    }

    /// Reports a fault that is over.
    pub fn report_fault(&self, kind: FaultKind, began: Instant, words: &str) {
        let at = clock_text(began.duration_since(self.start));
        let line =
            format!("{at} {}: {words} (over after {:.1} s)", kind.name(), began.elapsed().as_secs_f64());
        self.print_line(&line);
        let mut told = lock_ignoring_poison(&self.told);
        told.round.push(line);
        *told.counts.entry(kind).or_default() += 1;
    }

    /// Reports a failure after which the run goes on.
    pub fn report_failure(&self, words: &str) {
        self.print_line(&format!("WRONG: {words}"));
        lock_ignoring_poison(&self.told).remarks.push(words.to_owned());
    }

    /// Returns all failures after which the run went on.
    pub fn failures(&self) -> Vec<String> {
        lock_ignoring_poison(&self.told).remarks.clone()
    }

    /// Reports a round after which everything was right; `sent` is the number of events sent so far.
    pub fn report_passed_round(&self, round: usize, rest: Duration, sent: u64) {
        self.print_line(&format!(
            "round {round}: at rest after {:.1} s; {sent} events sent = counted",
            rest.as_secs_f64()
        ));
        let mut told = lock_ignoring_poison(&self.told);
        told.round.clear();
        told.rests.push(rest.as_secs_f64());
        told.events = sent;
    }

    /// Reports a round after which something differs, with the faults of the round.
    pub fn report_failed_round(&self, round: usize, what: &[String]) {
        self.print_line(&format!("WRONG: seed {}, round {round}", self.seed));
        for line in &lock_ignoring_poison(&self.told).round {
            self.print_line(&format!("  fault: {line}"));
        }
        for line in what {
            self.print_line(&format!("  {line}"));
        }
    }

    /// Prints the last line, "N passed, N failed", whose numbers `testbed/test-all` adds up.
    #[expect(clippy::print_stdout, reason = "it is what the program is for")]
    pub fn print_tally(&self, right: bool) {
        println!("{} passed, {} failed", self.passed_rounds(), u32::from(!right));
    }

    /// Returns the number of faults so far.
    pub fn fault_count(&self) -> u32 {
        lock_ignoring_poison(&self.told).counts.values().sum()
    }

    /// Returns the number of rounds after which everything was right.
    pub fn passed_rounds(&self) -> usize {
        lock_ignoring_poison(&self.told).rests.len()
    }

    /// Prints the numbers of the run and returns them as JSON.
    pub fn finish(&self, right: bool) -> Value {
        let seconds = self.start.elapsed().as_secs_f64();
        let told = lock_ignoring_poison(&self.told);
        let faults: u32 = told.counts.values().sum();
        let longest = told.rests.iter().copied().fold(0.0, f64::max);
        for (kind, count) in &told.counts {
            self.print_line(&format!("{:18} {count}", kind.name()));
        }
        let average = seconds / f64::from(faults.max(1));
        self.print_line(&format!(
            "seed {}: {faults} faults in {seconds:.0} s ({average:.1} s each), {} rounds at rest (the longest after \
             {longest:.1} s), {} events",
            self.seed,
            told.rests.len(),
            told.events
        ));
        let counts: BTreeMap<String, u32> =
            told.counts.iter().map(|(kind, count)| (kind.name(), *count)).collect();
        json!({
            "seed": self.seed, "right": right, "faults": faults, "kinds": counts, "rounds": told.rests.len(),
            "seconds": seconds, "longest_rest_seconds": longest, "events": told.events,
            "wrong": told.remarks,
        })
    }
}
