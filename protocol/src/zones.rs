//! The viewers of a reader by the zones of the gateways through which they came.

use serde::{Deserialize, Serialize};

/// The viewers of a reader whose gateway named its zone, as the reader counts them. The other viewers of the reader came
/// by a gateway that does not know its zone or is of an earlier release, or they connect to the reader directly, or the
/// reader does not know its own zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ZonedViewers {
    /// Number of viewers who came by a gateway in the reader's own zone.
    #[serde(default)]
    pub same: u64,
    /// Number of viewers who came by a gateway in another zone than the reader's.
    #[serde(default)]
    pub other: u64,
}

impl ZonedViewers {
    /// Whether no viewer of the reader came by a gateway that named its zone; such counts are left out of messages.
    pub const fn is_empty(&self) -> bool {
        self.same == 0 && self.other == 0
    }
}

/// Header of a gateway's request to a reader: the zone of the gateway. A reader takes the header only from a gateway,
/// which a pass shows, and compares it with the reader's own zone. A reader of an earlier release passes the header over.
pub const GATEWAY_ZONE_HEADER: &str = "liverank-zone";
