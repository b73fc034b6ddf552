//! Says in words what `liverank top` shows of the state of the system.

use liverank_core::handover::coordinator::ReaderStatus;
use liverank_protocol::{MaybeUnknown, OrderedBy, OverviewMove, OverviewReader, SystemState};
use serde::Deserialize;
use serde_json::Value;

use crate::front_door::counting_trouble;
use crate::look::number_with_noun;

/// Reads an answer of `GET /operate`.
pub(super) fn parse_overview(answer: &Value) -> anyhow::Result<SystemState> {
    SystemState::deserialize(answer)
        .map_err(|error| anyhow::anyhow!("the answer is none of liverank's: {error}"))
}

/// Returns one line about viewers, readers and the planner.
pub(super) fn placement_line(state: &SystemState) -> String {
    let Some(it) = &state.placement else { return "no manager answers".to_owned() };
    let open = it.readers.iter().filter(|reader| takes_viewers(reader)).count();
    let planner = it.planner.holder.as_deref().unwrap_or("nobody");
    format!(
        "{} of {}; {open} of {} readers take viewers; {} on their way; {planner} plans",
        number_with_noun(it.viewers, "viewer"),
        it.capacity,
        it.readers.len(),
        number_with_noun(it.in_flight, "viewer")
    )
}

/// Returns one line about rates and lag.
pub(super) fn rates_and_lag_line(state: &SystemState) -> String {
    let rate = |name: &str| match state.rates.get(name).copied().flatten() {
        Some(rate) => format!("{rate:.1}/s"),
        None => "-".to_owned(),
    };
    let refused = state.rates.iter().filter(|(name, _)| name.starts_with("refused_"));
    // The sum of no floating-point numbers is -0.
    let refused: f64 = refused.filter_map(|(_, rate)| *rate).fold(0.0, |sum, rate| sum + rate);
    let lag = state.lag.as_ref().map_or_else(
        || "the stores do not answer".to_owned(),
        |lag| {
            let waited = lag.waited_ms.unwrap_or(0) as f64 / 1000.0;
            format!(
                "{} not counted, for {waited:.1} s; {} not on the boards",
                number_with_noun(lag.records, "record"),
                lag.projection
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
pub(super) fn find_troubles(state: &SystemState) -> Vec<String> {
    let away = state.parts.iter().filter(|part| part.away);
    let hold = state.placement.iter().filter_map(|it| it.hold.as_ref());
    let away = away.map(|part| format!("{} does not answer", part.name));
    let lag = state.lag.as_ref();
    let late = lag.and_then(|lag| {
        let waited = lag.waited_ms.and_then(|waited| u64::try_from(waited).ok());
        counting_trouble(lag.records, waited.unwrap_or(0))
    });
    away.chain(hold.map(|hold| format!("nothing is moved: {hold}"))).chain(late).collect()
}

/// Returns true if a rate is known: the gateway knows no rate before the second request for its overview, nor after a
/// long time without requests.
pub(super) fn has_rates(state: &SystemState) -> bool {
    state.rates.values().any(Option::is_some)
}

/// Returns true if new viewers are sent to the reader.
pub(super) fn takes_viewers(reader: &OverviewReader) -> bool {
    reader.state == ReaderStatus::Alive && reader.cordon.is_none()
}

/// Returns the reader's state in one word: its cordon if it is alive and has one, else its state.
pub(super) fn reader_state_word(reader: &OverviewReader) -> String {
    let cordon = reader.cordon.as_ref().filter(|_| reader.state == ReaderStatus::Alive);
    cordon.map_or_else(|| reader.state.to_string(), ToString::to_string)
}

/// Returns the reader's zone and the number of its viewers who came by gateways of other zones; empty if the zone is not
/// known.
pub(super) fn zone_words(reader: &OverviewReader) -> String {
    let other = reader.viewers_by_zone.other;
    match &reader.zone {
        Some(zone) if other > 0 => format!("{zone}, {other} by other zones"),
        Some(zone) => zone.to_string(),
        None => String::new(),
    }
}

/// Returns the part of the reader's capacity that is in use, from 0 to 1.
pub(super) fn used_fraction(reader: &OverviewReader) -> f64 {
    (reader.viewers as f64 / reader.capacity.max(1) as f64).min(1.0)
}

/// Returns the names of a video's readers, with `between` between them.
pub(super) fn reader_names(readers: &[liverank_core::ReaderId], between: &str) -> String {
    readers.iter().map(liverank_core::ReaderId::as_str).collect::<Vec<_>>().join(between)
}

/// Returns the kind of the move in one word: `split`, `drain`, …
pub(super) fn move_word(it: &OverviewMove) -> String {
    let by_drain = it.state.by == MaybeUnknown::Known(OrderedBy::Drain);
    if by_drain { OrderedBy::Drain.to_string() } else { it.kind.to_string() }
}

/// Returns the number of viewers moved so far, the number to move, and the state of the move.
pub(super) fn move_progress(it: &OverviewMove) -> String {
    let it = &it.state;
    format!("{}/{} {}", it.viewers.saturating_sub(it.left), it.viewers, it.state)
}

#[cfg(test)]
pub(super) mod example {
    //! States of a system for the tests of what is shown.

    use liverank_core::handover::CordonLevel;
    use liverank_core::{ReaderId, VideoId};
    use liverank_protocol::{MoveKind, MovePhase, MoveState, Overview, WatchedVideo};

    use super::*;

    pub(in super::super) fn reader(
        number: u64,
        cordon: Option<CordonLevel>,
        viewers: u64,
        videos: u64,
    ) -> OverviewReader {
        OverviewReader {
            id: ReaderId::parse(&format!("reader-{number}")).unwrap(),
            state: ReaderStatus::Alive.into(),
            cordon: cordon.map(Into::into),
            viewers,
            capacity: 100,
            videos,
            silent_ms: 0,
            unreachable: false,
            zone: None,
            viewers_by_zone: liverank_protocol::ZonedViewers::default(),
        }
    }

    pub(in super::super) fn moved(
        kind: MoveKind,
        by: OrderedBy,
        state: MovePhase,
        left: u64,
    ) -> OverviewMove {
        let state = MoveState {
            id: 1,
            videoid: VideoId::parse("cat").unwrap(),
            state: state.into(),
            from: Vec::new(),
            to: Vec::new(),
            epoch: 1,
            viewers: 20,
            left,
            by: by.into(),
            why: "the demo".to_owned(),
            term: None,
            detail: None,
            age_ms: 3_400,
        };
        OverviewMove { state, kind: kind.into() }
    }

    /// A system of two readers with 100 places each, with one video, and one move of it.
    pub(in super::super) fn system(
        viewers: u64,
        readers: [OverviewReader; 2],
        video_readers: &[&str],
        moved: OverviewMove,
    ) -> SystemState {
        let video = WatchedVideo {
            videoid: VideoId::parse("cat").unwrap(),
            viewers,
            readers: video_readers.iter().map(|name| ReaderId::parse(name).unwrap()).collect(),
            moving: false,
        };
        let placement = Overview {
            viewers,
            capacity: 200,
            readers: readers.into(),
            videos: vec![video],
            moves: vec![moved],
            ..Overview::default()
        };
        SystemState { placement: Some(placement), ..SystemState::default() }
    }
}
