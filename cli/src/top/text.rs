//! Writes the state of the system as text, for files, pipes and `--once`.

use std::fmt::Write as _;

use super::picture::Picture;
use liverank_runtime::output::format_table;

/// The largest number of videos, and of moves, that are listed.
const MAX_LINES_LISTED: usize = 10;

/// Returns the whole state of the system as text.
pub(super) fn of(picture: &Picture) -> String {
    let mut text = format!("{}\n{}\n", picture.placed(), picture.flow());
    for trouble in picture.troubles() {
        let _ = writeln!(text, "! {trouble}");
    }
    let Some(it) = &picture.placement else { return text };
    let readers = it.readers.iter().map(|reader| {
        let full = format!("{:.1} %", reader.used() * 100.0);
        let counts = [reader.viewers, reader.capacity, reader.videos].map(|count| count.to_string());
        let [viewers, capacity, videos] = counts;
        vec![reader.id.clone(), reader.word().to_owned(), viewers, capacity, full, videos]
    });
    let head = ["reader", "state", "viewers", "capacity", "full", "videos"];
    let _ = write!(text, "\n{}", format_table(&head, &readers.collect::<Vec<_>>()));
    if !it.videos.is_empty() {
        let videos = it
            .videos
            .iter()
            .take(MAX_LINES_LISTED)
            .map(|video| vec![video.videoid.clone(), video.viewers.to_string(), video.readers.join(",")]);
        let _ =
            write!(text, "\n{}", format_table(&["video", "viewers", "readers"], &videos.collect::<Vec<_>>()));
    }
    if !it.moves.is_empty() {
        let moves = it.moves.iter().take(MAX_LINES_LISTED).map(|it| {
            let age = format!("{} s", it.age_ms / 1000);
            vec![age, it.word().to_owned(), it.videoid.clone(), it.progress(), it.why.clone()]
        });
        let head = ["age", "move", "video", "viewers", "why"];
        let _ = write!(text, "\n{}", format_table(&head, &moves.collect::<Vec<_>>()));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn top_text_has_readers_videos_moves_and_troubles() {
        let answer = json!({
            "at": 1, "streams": 3, "later": true,
            "placement": {
                "viewers": 30, "capacity": 200, "in_flight": 4, "hold": null, "planner": {"holder": "manager-a"},
                "readers": [
                    {"id": "reader-1", "state": "alive", "cordon": null, "viewers": 10, "capacity": 100, "videos": 2},
                    {"id": "reader-2", "state": "alive", "cordon": "draining", "viewers": 20, "capacity": 100, "videos": 1},
                ],
                "videos": [{"videoid": "cat", "viewers": 30, "readers": ["reader-1", "reader-2"]}],
                "moves": [{"kind": "move", "by": "drain", "videoid": "cat", "state": "handing_over", "viewers": 20,
                    "left": 5, "why": "the demo", "age_ms": 3_400}],
            },
            "lag": {"records": 7, "waited_ms": 1_500, "projection": 0},
            "rates": {"logged": 12.3, "counted": null, "refused_invalid": 0.5, "refused_token": 1.0},
            "parts": [{"name": "comment", "away": true}, {"name": "log", "away": false}],
        });
        let text = of(&Picture::read(&answer).unwrap());
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
    fn a_system_without_managers_and_stores_is_shown_as_that() {
        let answer = json!({"placement": null, "lag": null, "rates": {}, "parts": []});
        let text = of(&Picture::read(&answer).unwrap());
        assert!(text.starts_with("no manager answers\n"), "{text}");
        assert!(Picture::read(&json!({"status": "healthy"})).is_err(), "somebody else's answer");
    }
}
