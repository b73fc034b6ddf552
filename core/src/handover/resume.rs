//! The point in a comment stream from which a returning viewer continues.

/// The point from which a returning viewer continues, and the comments it has missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResumePoint {
    /// The first and the last sequence number that the viewer has missed, which a gap tells it of; `None` if it missed
    /// none.
    pub missed_range: Option<(u64, u64)>,
    /// The sequence number after which the viewer is sent comments.
    pub send_after: u64,
}

/// Returns the point from which a viewer continues that has seen everything up to `seen`. The reader's ring ends at
/// `head` and has the last `reach` sequence numbers. A viewer who has seen later comments than the reader has gets
/// nothing until the reader has caught up.
pub const fn resume_point(seen: u64, head: u64, reach: u64) -> ResumePoint {
    let first = head.saturating_sub(reach);
    if seen < first {
        ResumePoint { missed_range: Some((seen + 1, first)), send_after: first }
    } else {
        ResumePoint { missed_range: None, send_after: seen }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resume_gives_or_names_each_number_exactly_once() {
        for (seen, head, reach) in [(0, 0, 5), (0, 5, 5), (0, 6, 5), (3, 20, 5), (15, 20, 5), (25, 20, 5)] {
            let start = resume_point(seen, head, reach);
            let (from, to) = start.missed_range.unwrap_or((seen + 1, seen));
            assert_eq!((from, to), (seen + 1, start.send_after), "{seen} {head} {reach}");
            assert!(head.saturating_sub(start.send_after) <= reach);
        }
        assert_eq!(resume_point(0, 6, 5), ResumePoint { missed_range: Some((1, 1)), send_after: 1 });
        assert_eq!(resume_point(1, 6, 5).missed_range, None);
    }
}
