//! Where a viewer goes on who comes back.

/// The point at which a viewer who comes back continues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Start {
    /// The first and the last number that it misses and is told of by a gap.
    pub gap: Option<(u64, u64)>,
    /// The viewer is sent the comments after this sequence number.
    pub after: u64,
}

/// Where a viewer goes on that has seen everything up to `seen`, at a reader whose ring ends at `head` and reaches back
/// `reach` numbers. A viewer that has seen more than this reader holds gets nothing until the reader has caught up.
pub const fn start(seen: u64, head: u64, reach: u64) -> Start {
    let first = head.saturating_sub(reach);
    if seen < first {
        Start { gap: Some((seen + 1, first)), after: first }
    } else {
        Start { gap: None, after: seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_gives_or_names_each_number_exactly_once() {
        for (seen, head, reach) in [(0, 0, 5), (0, 5, 5), (0, 6, 5), (3, 20, 5), (15, 20, 5), (25, 20, 5)] {
            let start = start(seen, head, reach);
            let (from, to) = start.gap.unwrap_or((seen + 1, seen));
            assert_eq!((from, to), (seen + 1, start.after), "{seen} {head} {reach}");
            assert!(head.saturating_sub(start.after) <= reach);
        }
        assert_eq!(start(0, 6, 5), Start { gap: Some((1, 1)), after: 1 });
        assert_eq!(start(1, 6, 5).gap, None);
    }
}
