//! The outcomes of probes.

/// The result of probing a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProbeOutcome {
    /// The reader answered.
    Answered,
    /// Nothing can be reached at the reader's address, or another process answers there.
    Unreachable,
    /// The reader did not answer in time.
    Late,
}
