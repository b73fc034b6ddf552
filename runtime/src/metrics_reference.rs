//! Writes the reference of all metrics, `docs/metrics.md`, from the `/metrics` texts of running processes.

use std::fmt::Write as _;

/// The text at the beginning of the reference, before the metrics of the system's processes.
pub const REFERENCE_INTRODUCTION: &str = "# Metrics\n\n\
    What `/metrics` at the admin port of each process tells, in the OpenMetrics text format. Written from the metrics of a\n\
    running system; tests compare (`UPDATE_DOCS=1` writes it anew). Counters and histograms of a system that is well grow in these tests.\n\
    Those that grow when something goes wrong, or seldom (`QUIET_METRICS` in `e2e/tests/signals.rs` has them, with why), are only looked for there,\n\
    as are gauges and the parts *operator* and *tls*.\n\n\
    Labels are bounded: kinds, routes, partitions, declared boards, and in `liverank up`, which has several readers in one process, the\n\
    reader. No label has an id of a video, a user or a connection in it.\n";

/// The heading of the part with the operator's metrics. The parts before this heading are made from a running system.
pub const OPERATOR_HEADING: &str = "\n## operator\n";

/// The heading of the part with the metrics of processes that have certificates.
pub const TLS_HEADING: &str = "\n## tls\n";

/// Returns the reference with the part below `heading` replaced by `own`; the other parts stay. If the reference has no
/// such part yet, it is added at the end.
pub fn replace_part(reference: &str, heading: &str, own: &str) -> String {
    let Some((before, rest)) = reference.split_once(heading) else { return format!("{reference}{own}") };
    let after = rest.find("\n## ").map_or("", |next| rest.get(next..).unwrap_or_default());
    format!("{before}{own}{after}")
}

/// Returns the Markdown tables of the reference, one for each part of the system, from `text`, the metrics in text
/// format.
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
    fn a_part_of_the_reference_is_written_anew_and_the_others_stay() {
        let reference = "# Metrics\n\n## a\n\none\n\n## operator\n\ntwo\n\n## tls\n\nthree\n";
        let written = replace_part(reference, OPERATOR_HEADING, "\n## operator\n\nnew\n");
        assert_eq!(written, reference.replace("two", "new"));
        assert_eq!(replace_part(&written, TLS_HEADING, "\n## tls\n\n3\n"), written.replace("three", "3"));
        assert_eq!(replace_part("# Metrics\n", TLS_HEADING, "\n## tls\n"), "# Metrics\n\n## tls\n");
    }

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
