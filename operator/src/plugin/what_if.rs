//! The output of `what-if`: the planner's forecast for the current load and another number of readers.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use liverank_protocol::ClusterLoad;

use super::words::{TextTable, short_duration, with_commas, wrap_lines};
use crate::crd::RankingCluster;
use crate::readers::{self, ReaderForecast, ReaderSettings, WhatIfAnswer};

/// Returns the planner's forecast for `readers` readers; an error if comments are disabled or the planner refuses.
pub fn ask_planner(
    cluster: &RankingCluster,
    load: &ClusterLoad,
    readers: u32,
) -> Result<WhatIfAnswer, String> {
    if !cluster.spec.comments() {
        return Err("comment.enabled is false: there are no readers".to_owned());
    }
    readers::answer_what_if(load, &ReaderSettings::of(&cluster.spec), readers)
}

/// Renders the planner's forecast as text.
pub fn render_answer(
    cluster: &RankingCluster,
    load: &ClusterLoad,
    readers: u32,
    answer: &WhatIfAnswer,
) -> String {
    let mut out = String::new();
    let _ = writeln!(
        out,
        "RankingCluster {}/{}, if it had {}; nothing is changed by asking",
        cluster.namespace(),
        cluster.name(),
        if readers == 1 { "1 reader".to_owned() } else { format!("{readers} readers") }
    );
    if !load.fresh {
        out.push_str("The manager that was asked does not see Redis: this is what it last saw.\n");
    }
    out.push('\n');
    render_totals(&mut out, readers, answer);
    out.push('\n');
    out.push_str(&readers_table(answer).render("  "));
    out.push('\n');
    if answer.moved == 0 {
        out.push_str("Nobody would be moved.\n");
    } else {
        let _ = writeln!(
            out,
            "{} viewers would be moved, {} videos get other readers; {} at the rate permitted.",
            with_commas(answer.moved),
            answer.orders,
            short_duration(answer.seconds as i64)
        );
    }
    for bound in &answer.bound_by {
        let _ = writeln!(out, "Bound by {bound}.");
    }
    for note in &answer.notes {
        let _ = writeln!(out, "{}.", wrap_lines(note, "", 96));
    }
    out
}

fn render_totals(out: &mut String, readers: u32, answer: &WhatIfAnswer) {
    let open = |rows: &[ReaderForecast]| rows.iter().filter(|row| row.state == "open").count();
    let fullest = answer.now.iter().map(used_percent).max().unwrap_or(0);
    let mut table = TextTable::new(&["", ">NOW", ">THEN"]);
    let mut row = |what: &str, now: String, then: String| table.add_row([what.to_owned(), now, then]);
    row("open readers", open(&answer.now).to_string(), readers.to_string());
    row("viewers", with_commas(answer.viewers), with_commas(answer.viewers));
    row(
        "fullest reader, of its capacity",
        format!("{fullest}%"),
        format!("{}%", answer.fullest_then_percent),
    );
    row(
        "fullest reader, above its fair share",
        format!("{}%", answer.imbalance_now_percent),
        format!("{}%", answer.imbalance_then_percent),
    );
    out.push_str(&table.render("  "));
}

fn used_percent(row: &ReaderForecast) -> u64 {
    (row.viewers * 100).div_ceil(row.capacity.max(1))
}

fn readers_table(answer: &WhatIfAnswer) -> TextTable {
    let by_name = |rows: &'_ [ReaderForecast]| -> BTreeMap<String, ReaderForecast> {
        rows.iter().map(|row| (row.reader.clone(), row.clone())).collect()
    };
    let (now, then) = (by_name(&answer.now), by_name(&answer.then));
    let mut names: Vec<&String> =
        now.keys().chain(then.keys()).collect::<BTreeSet<_>>().into_iter().collect();
    // New readers come after the existing ones, and `x-reader-10` after `x-reader-9`.
    names.sort_by_key(|name| (!now.contains_key(*name), name.len(), *name));
    let mut heads =
        vec!["READER", "STATE", ">VIEWERS", ">THEN", ">CAPACITY", ">VIDEOS", ">THEN", ">USED THEN"];
    let has_zones = answer.now.iter().any(|row| row.zone.is_some());
    if has_zones {
        heads.insert(1, "ZONE");
    }
    let mut table = TextTable::new(&heads);
    for name in names {
        let (now, then) = (now.get(name), then.get(name));
        let dash = || "-".to_owned();
        let count = |row: Option<&ReaderForecast>, of: fn(&ReaderForecast) -> u64| {
            row.map_or_else(dash, |row| with_commas(of(row)))
        };
        let state = match (now, then) {
            (_, None) => "removed",
            (None, Some(_)) => "new",
            (Some(row), Some(_)) => row.state.as_str(),
        };
        let mut cells = vec![
            name.clone(),
            state.to_owned(),
            count(now, |row| row.viewers),
            count(then, |row| row.viewers),
            count(then.or(now), |row| row.capacity),
            count(now, |row| row.videos),
            count(then, |row| row.videos),
            then.map_or_else(dash, |row| format!("{}%", used_percent(row))),
        ];
        if has_zones {
            cells.insert(1, now.and_then(|row| row.zone.clone()).unwrap_or_else(dash));
        }
        table.add_row(cells);
    }
    table
}

#[cfg(test)]
mod tests;
