//! The steps that a round of decisions about readers requests.

use liverank_core::ReaderId;
use liverank_core::handover::CordonLevel;
use liverank_protocol::{CordonRequest, MoveRequest};
use serde::{Deserialize, Serialize};

use super::seen::ReaderDrain;

/// A step to be done. Each step may be done twice, and is repeated in the next rounds until it is observed to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReaderStep {
    /// Create a reader with the wanted template.
    CreateReader {
        /// The reader's name.
        name: String,
    },
    /// Write the drain annotations of a reader.
    Annotate {
        /// The reader's name.
        name: String,
        /// The uid of the reader's Deployment: another Deployment of that name is left alone.
        uid: String,
        /// The drain to write; `None`: both annotations are removed.
        drain: Option<ReaderDrain>,
    },
    /// Set a cordon of a reader at the managers, or lift it.
    Cordon {
        /// The reader that gets the cordon, or loses it.
        reader: ReaderId,
        /// The cordon to set; `None`: the reader is open again.
        cordon: Option<CordonLevel>,
        /// The reason, in words.
        why: String,
    },
    /// Delete a reader.
    DeleteReader {
        /// The reader's name.
        name: String,
        /// The uid of the reader's Deployment: another Deployment of that name is left alone.
        uid: String,
        /// Whether the reader is deleted although it may still have viewers.
        forced: bool,
    },
    /// Give move orders to the managers.
    Moves {
        /// The moves, in the form of `POST /moves`.
        moves: Vec<MoveRequest>,
    },
}

impl ReaderStep {
    /// Returns the body of `POST /cordons`; `None` if the step is no cordon.
    pub fn cordon_request(&self) -> Option<CordonRequest> {
        let Self::Cordon { reader, cordon, why } = self else { return None };
        Some(CordonRequest { reader: reader.clone(), cordon: cordon.map(Into::into), why: why.clone() })
    }

    /// Describes the step in words.
    pub fn describe(&self) -> String {
        match self {
            Self::CreateReader { name } => format!("create {name}"),
            Self::Annotate { name, drain: Some(drain), .. } => {
                format!("empty {name} ({})", drain.why.as_str())
            }
            Self::Annotate { name, drain: None, .. } => format!("keep {name}"),
            Self::Cordon { reader, cordon, .. } => {
                format!(
                    "cordon {reader}: {}",
                    cordon.map_or_else(|| "open".to_owned(), |closing| closing.to_string())
                )
            }
            Self::DeleteReader { name, forced: false, .. } => format!("remove {name}"),
            Self::DeleteReader { name, forced: true, .. } => {
                format!("remove {name} although it may have viewers")
            }
            Self::Moves { moves } => format!("change who serves {} videos", moves.len()),
        }
    }
}
