//! What a round asks for.

use liverank_core::ReaderId;
use liverank_core::handover::CordonLevel;
use liverank_protocol::{CordonRequest, MoveRequest};
use serde::{Deserialize, Serialize};

use super::seen::ReaderDrain;

/// Something to be done. Each may be done twice, and comes again in the next rounds until it is seen to be done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReaderStep {
    /// A reader with the wanted template.
    CreateReader {
        /// Its name.
        name: String,
    },
    /// A reader's annotations.
    Annotate {
        /// Its name.
        name: String,
        /// The Deployment that this is about, and no other of its name.
        uid: String,
        /// What to write; `None`: both are removed.
        drain: Option<ReaderDrain>,
    },
    /// What the managers are to think of a reader.
    Cordon {
        /// The reader.
        reader: ReaderId,
        /// `None`: it is open again.
        cordon: Option<CordonLevel>,
        /// Why, in words.
        why: String,
    },
    /// A reader goes.
    DeleteReader {
        /// Its name.
        name: String,
        /// The Deployment that this is about, and no other of its name.
        uid: String,
        /// Whether it may have viewers still.
        forced: bool,
    },
    /// Orders for the managers.
    Moves {
        /// The moves, in the form of `POST /moves`.
        moves: Vec<MoveRequest>,
    },
}

impl ReaderStep {
    /// What to put into `POST /cordons`, where it is a cordon.
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
