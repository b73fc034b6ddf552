//! Writes the reference of all metrics, `docs/metrics.md`, from the `/metrics` texts of running processes.

use std::fmt::Write as _;

/// The text at the beginning of the reference, before the metrics of the system's processes.
pub const REFERENCE_INTRODUCTION: &str = "# Metrics\n\n\
    What `/metrics` at the admin port of each process tells, in the OpenMetrics text format. Written from the metrics of a\n\
    running system; tests compare (`UPDATE_DOCS=1` writes it anew), and see each of them move under load.\n\n\
    Labels are bounded: kinds, routes, partitions, declared boards, and in `liverank up`, which has several readers in one process, the\n\
    reader. No label has an id of a video, a user or a connection in it.\n";

/// The heading of the operator's metrics in the reference.
pub const OPERATOR_HEADING: &str = "\n## operator\n";

/// Returns a Markdown table of the metrics for each part, sorted by name, from the text of `/metrics`.
pub fn reference_tables(text: &str) -> String {
    let mut families: Vec<(&str, &str, &str)> = Vec::new();
    for line in text.lines() {
        let described = line.split_once(' ').and_then(|(_, rest)| rest.split_once(' '));
        match described.map(|(head, rest)| (head, rest.split_once(' '))) {
            Some(("HELP", Some((name, help)))) => families.push((name, "", help.trim_end_matches('.'))),
            Some(("TYPE", Some((_, kind)))) => {
                if let Some(last) = families.last_mut() {
                    last.1 = kind;
                }
            }
            _ => {}
        }
    }
    families.sort_unstable();
    let (mut tables, mut part) = (String::new(), "");
    for (name, kind, help) in families {
        let own = name.split('_').nth(1).unwrap_or_default();
        if own != part {
            part = own;
            let _ = write!(tables, "\n## {part}\n\n| metric | type | tells |\n|---|---|---|\n");
        }
        let _ = writeln!(tables, "| `{}` | {kind} | {help} |", sample_name(name, kind));
    }
    tables
}

/// Returns the name by which the samples of a metric family are queried: counters get the suffix `_total`.
pub fn sample_name(family: &str, kind: &str) -> String {
    if kind == "counter" { format!("{family}_total") } else { family.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_reference_has_a_table_for_each_part() {
        let text = "# HELP liverank_b_x How many.\n# TYPE liverank_b_x counter\nliverank_b_x_total 1\n\
                    # HELP liverank_a_y How long.\n# TYPE liverank_a_y gauge\n# EOF\n";
        let head = "| metric | type | tells |\n|---|---|---|\n";
        let expected = format!(
            "\n## a\n\n{head}| `liverank_a_y` | gauge | How long |\n\n## b\n\n{head}| `liverank_b_x_total` | counter | How many |\n"
        );
        assert_eq!(reference_tables(text), expected);
    }
}
