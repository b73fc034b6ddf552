//! Parses the answer of `GET /operate`, as far as `liverank top` shows it. Members that a later release adds are
//! ignored.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// The state of the system at one moment.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Picture {
    /// Readers, videos and moves; `None` if no manager answers.
    pub placement: Option<Placement>,
    /// The consumers' and boards' lag; `None` if a store does not answer.
    pub lag: Option<Lag>,
    /// Events a second, by name; `None` if a rate is unknown.
    pub rates: BTreeMap<String, Option<f64>>,
    pub parts: Vec<Part>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Placement {
    pub viewers: u64,
    pub capacity: u64,
    pub in_flight: u64,
    pub hold: Option<String>,
    pub readers: Vec<Reader>,
    pub videos: Vec<Video>,
    pub moves: Vec<Move>,
    pub planner: Planner,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Reader {
    pub id: String,
    pub state: String,
    pub cordon: Option<String>,
    pub viewers: u64,
    pub capacity: u64,
    pub videos: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Video {
    pub videoid: String,
    pub viewers: u64,
    pub readers: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Move {
    pub kind: String,
    pub by: String,
    pub videoid: String,
    pub state: String,
    pub viewers: u64,
    pub left: u64,
    pub why: String,
    pub age_ms: u64,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Planner {
    pub holder: Option<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct Lag {
    pub records: u64,
    pub waited_ms: Option<u64>,
    pub projection: u64,
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Part {
    pub name: String,
    pub away: bool,
}

impl Picture {
    /// Parses an answer of `GET /operate`.
    pub(super) fn read(answer: &Value) -> anyhow::Result<Self> {
        Self::deserialize(answer)
            .map_err(|error| anyhow::anyhow!("the answer is none of liverank's: {error}"))
    }

    /// Returns one line about viewers, readers and the planner.
    pub(super) fn placed(&self) -> String {
        let Some(it) = &self.placement else { return "no manager answers".to_owned() };
        let open = it.readers.iter().filter(|reader| reader.takes_viewers()).count();
        let planner = it.planner.holder.as_deref().unwrap_or("nobody");
        format!(
            "{} viewers of {}; {open} of {} readers take viewers; {} viewers on their way; {planner} plans",
            it.viewers,
            it.capacity,
            it.readers.len(),
            it.in_flight
        )
    }

    /// Returns one line about rates and lag.
    pub(super) fn flow(&self) -> String {
        let rate = |name: &str| match self.rates.get(name).copied().flatten() {
            Some(rate) => format!("{rate:.1}/s"),
            None => "-".to_owned(),
        };
        let refused = self.rates.iter().filter(|(name, _)| name.starts_with("refused_"));
        let refused: f64 = refused.filter_map(|(_, rate)| *rate).sum();
        let lag = self.lag.as_ref().map_or_else(
            || "the stores do not answer".to_owned(),
            |lag| {
                let waited = lag.waited_ms.unwrap_or(0) as f64 / 1000.0;
                format!(
                    "{} records not counted, for {waited:.1} s; {} not on the boards",
                    lag.records, lag.projection
                )
            },
        );
        format!(
            "log {}  counted {}  delivered {}  refused {refused:.1}/s   {lag}",
            rate("logged"),
            rate("counted"),
            rate("delivered")
        )
    }

    /// Returns the descriptions of everything that is not as it should be.
    pub(super) fn troubles(&self) -> Vec<String> {
        let away = self.parts.iter().filter(|part| part.away);
        let hold = self.placement.iter().filter_map(|it| it.hold.as_ref());
        let away = away.map(|part| format!("{} does not answer", part.name));
        away.chain(hold.map(|hold| format!("nothing is moved: {hold}"))).collect()
    }
}

impl Reader {
    /// Returns true if new viewers are sent to this reader.
    pub(super) fn takes_viewers(&self) -> bool {
        self.state == "alive" && self.cordon.is_none()
    }

    /// Returns the reader's state in one word: its cordon if it is alive and has one, else its state.
    pub(super) fn word(&self) -> &str {
        self.cordon.as_deref().filter(|_| self.state == "alive").unwrap_or(&self.state)
    }

    /// Returns the part of the reader's capacity that is in use, from 0 to 1.
    pub(super) fn used(&self) -> f64 {
        (self.viewers as f64 / self.capacity.max(1) as f64).min(1.0)
    }
}

impl Move {
    /// Returns the kind of the move in one word: `split`, `drain`, …
    pub(super) fn word(&self) -> &str {
        if self.by == "drain" { "drain" } else { &self.kind }
    }

    /// Returns the number of viewers moved so far, the number to move, and the state of the move.
    pub(super) fn progress(&self) -> String {
        format!("{}/{} {}", self.viewers.saturating_sub(self.left), self.viewers, self.state)
    }
}
