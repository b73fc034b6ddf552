//! Writes the state of the system as text, for files, pipes and `--once`.

use std::fmt::Write as _;

use super::picture::{
    find_troubles, move_progress, move_word, placement_line, rates_and_lag_line, reader_names,
    reader_state_word, used_fraction, zone_words,
};
use liverank_protocol::SystemState;
use liverank_runtime::output::format_table;

/// The largest number of videos, and of moves, that are listed.
const MAX_LINES_LISTED: usize = 10;

/// Returns the whole state of the system as text.
pub(super) fn overview_text(state: &SystemState) -> String {
    let mut text = format!("{}\n{}\n", placement_line(state), rates_and_lag_line(state));
    for trouble in find_troubles(state) {
        let _ = writeln!(text, "! {trouble}");
    }
    let Some(it) = &state.placement else { return text };
    let has_zones = it.readers.iter().any(|reader| reader.zone.is_some());
    let readers = it.readers.iter().map(|reader| {
        let full = format!("{:.1} %", used_fraction(reader) * 100.0);
        let counts = [reader.viewers, reader.capacity, reader.videos].map(|count| count.to_string());
        let [viewers, capacity, videos] = counts;
        let mut cells =
            vec![reader.id.to_string(), reader_state_word(reader), viewers, capacity, full, videos];
        cells.extend(has_zones.then(|| zone_words(reader)));
        cells
    });
    let mut head = vec!["reader", "state", "viewers", "capacity", "full", "videos"];
    head.extend(has_zones.then_some("zone"));
    let _ = write!(text, "\n{}", format_table(&head, &readers.collect::<Vec<_>>()));
    if !it.videos.is_empty() {
        let videos = it.videos.iter().take(MAX_LINES_LISTED).map(|video| {
            vec![video.videoid.to_string(), video.viewers.to_string(), reader_names(&video.readers, ",")]
        });
        let _ =
            write!(text, "\n{}", format_table(&["video", "viewers", "readers"], &videos.collect::<Vec<_>>()));
    }
    if !it.moves.is_empty() {
        let moves = it.moves.iter().take(MAX_LINES_LISTED).map(|it| {
            let age = format!("{} s", it.state.age_ms / 1000);
            vec![age, move_word(it), it.state.videoid.to_string(), move_progress(it), it.state.why.clone()]
        });
        let head = ["age", "move", "video", "viewers", "why"];
        let _ = write!(text, "\n{}", format_table(&head, &moves.collect::<Vec<_>>()));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use liverank_core::handover::CordonLevel;
    use liverank_protocol::{MoveKind, MovePhase, OrderedBy, Overview, PartState, SystemLag};

    use super::super::picture::{example, has_rates};
    use super::*;

    #[test]
    fn top_text_has_readers_videos_moves_and_troubles() {
        let readers =
            [example::reader(1, None, 10, 2), example::reader(2, Some(CordonLevel::Draining), 20, 1)];
        let moved = example::moved(MoveKind::Move, OrderedBy::Drain, MovePhase::HandingOver, 5);
        let mut state = example::system(30, readers, &["reader-1", "reader-2"], moved);
        let placement = state.placement.as_mut().unwrap();
        (placement.in_flight, placement.planner.holder) = (4, Some("manager-a".to_owned()));
        state.lag = Some(SystemLag { records: 7, waited_ms: Some(1_500), ..SystemLag::default() });
        let rates = [
            ("logged", Some(12.3)),
            ("counted", None),
            ("refused_invalid", Some(0.5)),
            ("refused_token", Some(1.0)),
        ];
        state.rates =
            rates.into_iter().map(|(name, rate)| (name.to_owned(), rate)).collect::<BTreeMap<_, _>>();
        let part = |name: &str, away| PartState { name: name.to_owned(), away, detail: None };
        state.parts = vec![part("comment", true), part("log", false)];
        let mut zoned = state.clone();
        zoned.placement.as_mut().unwrap().readers[0].zone = Some("eu-1a".parse().unwrap());
        let line = "reader-1  alive     10       100       10.0 %  2       eu-1a";
        assert!(overview_text(&zoned).lines().any(|own| own == line), "{}", overview_text(&zoned));
        let text = overview_text(&state);
        for line in [
            "30 viewers of 200; 1 of 2 readers take viewers; 4 viewers on their way; manager-a plans",
            "log 12.3/s  counted -  delivered -  refused 1.5/s   7 records not counted, for 1.5 s; 0 not on the boards",
            "! comment does not answer",
            "reader-2  draining  20       100       20.0 %  1",
            "cat    30       reader-1,reader-2",
            "3 s  drain  cat    15/20 handing_over  the demo",
        ] {
            assert!(text.lines().any(|own| own == line), "{line}\nin\n{text}");
        }
    }

    #[test]
    fn rates_that_nobody_knows_are_no_negative_ones_and_one_viewer_is_one() {
        let with_rate = |rate: Option<f64>| SystemState {
            placement: Some(Overview { viewers: 1, capacity: 10, in_flight: 1, ..Overview::default() }),
            lag: Some(SystemLag { records: 1, waited_ms: Some(67_900), ..SystemLag::default() }),
            rates: BTreeMap::from([("logged".to_owned(), rate)]),
            ..SystemState::default()
        };
        let unknown = with_rate(None);
        assert!(!has_rates(&unknown) && has_rates(&with_rate(Some(0.0))));
        let text = overview_text(&unknown);
        assert!(text.contains("refused 0.0/s   1 record not counted, for 67.9 s;"), "{text}");
        assert!(
            text.starts_with("1 viewer of 10; 0 of 0 readers take viewers; 1 viewer on their way"),
            "{text}"
        );
        assert!(text.contains("! 1 record is not counted, for 67 s: does a consumer run?"), "{text}");
    }

    #[test]
    fn a_system_without_managers_and_stores_is_shown_as_that() {
        let text = overview_text(&SystemState::default());
        assert!(text.starts_with("no manager answers\n"), "{text}");
        let of_others = serde_json::from_str::<SystemState>(r#"{"status": "healthy"}"#);
        assert!(of_others.is_err(), "somebody else's answer");
    }
}
