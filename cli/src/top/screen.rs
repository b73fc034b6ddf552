//! Draws the state of the system on a terminal.

use liverank_protocol::{MovePhase, Overview, OverviewMove, OverviewReader, SystemState, WatchedVideo};
use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Style, Stylize};
use ratatui::text::Line;
use ratatui::widgets::{Block, Paragraph, Row, Table};

use super::picture::{
    find_troubles, move_progress, move_word, placement_line, rates_and_lag_line, reader_names,
    reader_state_word, takes_viewers, used_fraction, zone_words,
};

/// The width of a reader's bar, in terminal cells.
const BAR_CELLS: usize = 20;
/// The width of a reader's zone and its viewers by gateways of other zones, in terminal cells.
const ZONE_CELLS: u16 = 32;

/// Draws the state of the system. `trouble` is the error of the last request, if `state` is therefore out
/// of date.
pub(super) fn draw(frame: &mut Frame, state: &SystemState, trouble: Option<&str>) {
    let none = Overview::default();
    let placement = state.placement.as_ref().unwrap_or(&none);
    let lines_of_trouble: Vec<String> =
        trouble.map(ToOwned::to_owned).into_iter().chain(find_troubles(state)).collect();
    let most = (frame.area().height / 3).max(1);
    let readers = (placement.readers.len() as u16).clamp(1, most) + 3;
    let areas = Layout::vertical([
        Constraint::Length(2 + lines_of_trouble.len() as u16),
        Constraint::Length(readers),
        Constraint::Fill(1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ]);
    let [head, top, middle, bottom, foot] = areas.areas(frame.area());
    let mut lines = vec![Line::from(placement_line(state)).bold(), Line::from(rates_and_lag_line(state))];
    lines.extend(
        lines_of_trouble.into_iter().map(|trouble| Line::from(format!("! {trouble}")).fg(Color::Red)),
    );
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

fn readers_table(readers: &[OverviewReader]) -> Table<'_> {
    let has_zones = readers.iter().any(|reader| reader.zone.is_some());
    let row = |reader: &OverviewReader| {
        let filled = (used_fraction(reader) * BAR_CELLS as f64).round() as usize;
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR_CELLS - filled));
        let bar = if used_fraction(reader) > 0.9 { Line::from(bar).red() } else { Line::from(bar).cyan() };
        let style = if takes_viewers(reader) { Style::new() } else { Style::new().fg(Color::Yellow) };
        let mut cells = vec![
            Line::from(reader.id.to_string()),
            Line::from(reader_state_word(reader)),
            Line::from(reader.viewers.to_string()).bold(),
            Line::from(reader.capacity.to_string()),
            bar,
            Line::from(reader.videos.to_string()),
        ];
        if has_zones {
            cells.push(Line::from(zone_words(reader)));
        }
        Row::new(cells).style(style)
    };
    let mut widths = vec![
        Constraint::Fill(1),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(9),
        Constraint::Length(BAR_CELLS as u16),
        Constraint::Length(8),
    ];
    let mut head = vec!["reader", "state", "viewers", "capacity", "full", "videos"];
    if has_zones {
        widths.push(Constraint::Length(ZONE_CELLS));
        head.push("zone");
    }
    framed_table(" Readers ", &head, readers.iter().map(row).collect(), &widths)
}

fn videos_table(videos: &[WatchedVideo]) -> Table<'_> {
    let row = |video: &WatchedVideo| {
        Row::new(vec![
            video.viewers.to_string(),
            video.videoid.to_string(),
            reader_names(&video.readers, ", "),
        ])
    };
    let widths = [Constraint::Length(9), Constraint::Fill(1), Constraint::Fill(1)];
    framed_table(
        " Videos by heat ",
        &["viewers", "video", "readers"],
        videos.iter().map(row).collect(),
        &widths,
    )
}

fn moves_table(moves: &[OverviewMove]) -> Table<'_> {
    let row = |it: &OverviewMove| {
        let style = match it.state.state.known_value() {
            Some(MovePhase::Failed) => Style::new().fg(Color::Red),
            Some(MovePhase::Done) => Style::new(),
            _ => Style::new().fg(Color::Cyan),
        };
        let age = format!("{} s", it.state.age_ms / 1000);
        Row::new(vec![
            age,
            move_word(it),
            it.state.videoid.to_string(),
            move_progress(it),
            it.state.why.clone(),
        ])
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
    use liverank_core::handover::CordonLevel;
    use liverank_protocol::{MoveKind, OrderedBy};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::picture::example;
    use super::*;

    fn drawn_text(state: &SystemState, trouble: Option<&str>, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, state, trouble)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn readers_videos_moves_and_troubles_are_on_the_screen_of_any_size() {
        let mut readers =
            [example::reader(1, None, 50, 1), example::reader(2, Some(CordonLevel::Draining), 100, 2)];
        readers[0].zone = Some("eu-1a".parse().unwrap());
        readers[0].viewers_by_zone.other = 7;
        let moved = example::moved(MoveKind::Split, OrderedBy::Autopilot, MovePhase::Done, 0);
        let state = example::system(150, readers, &["reader-1"], moved);
        let screen = drawn_text(&state, Some("the front door is away"), 120, 30);
        for text in [
            "150 viewers of 200",
            "! the front door is away",
            "reader-1",
            "██████████░░░░░░░░░░",
            "draining",
            "eu-1a, 7 by other zones",
            "cat",
            "split",
            "20/20 done",
            "q ends",
        ] {
            assert!(screen.contains(text), "{text} in\n{screen}");
        }
        for (width, height) in [(1, 1), (20, 5), (80, 24), (300, 100)] {
            drawn_text(&state, None, width, height);
            drawn_text(&SystemState::default(), None, width, height);
        }
    }
}
