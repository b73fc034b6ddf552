//! The totals in the statistics service's answer that our own processes read.

use serde::{Deserialize, Serialize};

/// The part of the answer of `GET /statistics` that a gateway reads. The whole answer is the comments seed's, with lists
/// of all reports (see the glossary); `services/statistics` writes it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatisticsTotals {
    /// The totals over all comment services.
    pub comment_api: CommentTotals,
    /// The totals over all readers.
    pub reader_apis: ReaderTotals,
}

/// The totals over all comment services.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CommentTotals {
    /// Number of comments accepted.
    pub total_comments: u64,
}

/// The totals over all readers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReaderTotals {
    /// Number of comments written to viewers.
    pub total_messages_sent: u64,
}

/// Answer of the statistics service to a report that it keeps, in the comments seed's shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportAnswer {
    /// Always true: a refused report is answered with problem details.
    pub success: bool,
}
