//! Draws the state of the system on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table};

use super::picture::{Move, Picture, Placement, Reader, Video};

/// The width of a reader's bar, in terminal cells.
const BAR_CELLS: usize = 20;

/// Draws the state of the system, `picture`. `trouble` is the error of the last request, if `picture` is therefore out
/// of date.
pub(super) fn draw(frame: &mut Frame, picture: &Picture, trouble: Option<&str>) {
    let none = Placement::default();
    let placement = picture.placement.as_ref().unwrap_or(&none);
    let troubles: Vec<String> =
        trouble.map(ToOwned::to_owned).into_iter().chain(picture.troubles()).collect();
    let most = (frame.area().height / 3).max(1);
    let readers = (placement.readers.len() as u16).clamp(1, most) + 3;
    let areas = Layout::vertical([
        Constraint::Length(2 + troubles.len() as u16),
        Constraint::Length(readers),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [head, top, middle, bottom, foot] = areas.areas(frame.area());
    let mut lines = vec![Line::from(picture.placed()).bold(), Line::from(picture.flow())];
    lines.extend(troubles.into_iter().map(|trouble| Line::from(format!("! {trouble}")).fg(Color::Red)));
    frame.render_widget(Paragraph::new(lines), head);
    frame.render_widget(readers_table(&placement.readers), top);
    frame.render_widget(videos_table(&placement.videos), middle);
    frame.render_widget(moves_table(&placement.moves), bottom);
    frame.render_widget(Line::from("q ends").dim(), foot);
}

fn framed_table<'a>(
    title: &'a str,
    head: &[&'a str],
    rows: Vec<Row<'a>>,
    widths: &[Constraint],
) -> Table<'a> {
    let head = Row::new(head.iter().map(|name| Line::from(*name).dim()).collect::<Vec<_>>());
    Table::new(rows, widths.to_vec()).header(head).block(Block::bordered().title(title))
}

fn readers_table(readers: &[Reader]) -> Table<'_> {
    let row = |reader: &Reader| {
        let filled = (reader.used() * BAR_CELLS as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled));
        let bar = if reader.used() > 0.9 { Line::from(bar).red() } else { Line::from(bar).cyan() };
        let style = if reader.takes_viewers() { Style::new() } else { Style::new().fg(Color::Yellow) };
        Row::new(vec![
            Line::from(reader.id.clone()),
            Line::from(reader.word().to_owned()),
            Line::from(reader.viewers.to_string()).bold(),
            Line::from(reader.capacity.to_string()),
            bar,
            Line::from(reader.videos.to_string()),
        ])
        .style(style)
    };
    let widths = [
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(BAR_CELLS as u16),
        Constraint::Length(8),
    ];
    let head = ["reader", "state", "viewers", "capacity", "full", "videos"];
    framed_table(" Readers ", &head, readers.iter().map(row).collect(), &widths)
}

fn videos_table(videos: &[Video]) -> Table<'_> {
    let row = |video: &Video| {
        Row::new(vec![video.viewers.to_string(), video.videoid.clone(), video.readers.join(", ")])
    };
    let widths = [Constraint::Length(9), Constraint::Fill(1), Constraint::Fill(1)];
    framed_table(
        " Videos by heat ",
        &["viewers", "video", "readers"],
        videos.iter().map(row).collect(),
        &widths,
    )
}

fn moves_table(moves: &[Move]) -> Table<'_> {
    let row = |it: &Move| {
        let style = match it.state.as_str() {
            "failed" => Style::new().fg(Color::Red),
            "done" => Style::new(),
            _ => Style::new().fg(Color::Cyan),
        };
        let age = format!("{} s", it.age_ms / 1000);
        Row::new(vec![age, it.word().to_owned(), it.videoid.clone(), it.progress(), it.why.clone()])
            .style(style)
    };
    let widths = [
        Constraint::Length(7),
        Constraint::Length(8),
        Constraint::Fill(1),
        Constraint::Length(24),
        Constraint::Fill(3),
    ];
    let head = ["age", "move", "video", "viewers", "why"];
    framed_table(" Moves, splits and drains ", &head, moves.iter().map(row).collect(), &widths)
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use serde_json::json;

    use super::*;

    fn drawn_text(picture: &Picture, trouble: Option<&str>, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, picture, trouble)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn readers_videos_moves_and_troubles_are_on_the_screen_of_any_size() {
        let reader = |number: u64, cordon: Option<&str>| {
            json!({"id": format!("reader-{number}"), "state": "alive", "cordon": cordon, "viewers": 50 * number,
                "capacity": 100, "videos": number})
        };
        let answer = json!({
            "placement": {
                "viewers": 150, "capacity": 200, "in_flight": 0, "hold": null, "planner": {"holder": null},
                "readers": [reader(1, None), reader(2, Some("draining"))],
                "videos": [{"videoid": "cat", "viewers": 150, "readers": ["reader-1"]}],
                "moves": [{"kind": "split", "by": "autopilot", "videoid": "cat", "state": "done", "viewers": 20,
                    "left": 0, "why": "hot", "age_ms": 3_400}],
            },
            "lag": null, "rates": {}, "parts": [],
        });
        let picture = Picture::read(&answer).unwrap();
        let screen = drawn_text(&picture, Some("the front door is away"), 120, 30);
        for text in [
            "150 viewers of 200",
            "! the front door is away",
            "reader-1",
            "██████████░░░░░░░░░░",
            "draining",
            "cat",
            "split",
            "20/20 done",
            "q ends",
        ] {
            assert!(screen.contains(text), "{text} in\n{screen}");
        }
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn_text(&picture, None, width, height);
            drawn_text(&Picture::default(), None, width, height);
        }
    }
}
