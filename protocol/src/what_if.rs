//! Forecasts of what the planner would do in a different system.

use liverank_core::placement::situation::ReaderAvailability;
use liverank_core::placement::{ReachedLimit, ViewerBalance};
use liverank_core::{ReaderId, VideoId, ZoneId};
use serde::{Deserialize, Serialize};

use crate::{ChosenOrder, MaybeUnknown};

/// Body of the manager's `POST /what-if`: the changes to the system for which a forecast is made. A gateway sends the
/// body of its own `POST /operate/what-if` on as it is, and the manager names a wrong member.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIfRequest {
    /// Number of open readers that there would be; null or absent if there are as many as now.
    #[serde(default)]
    pub readers: Option<u64>,
    /// The videos that would have another number of viewers; null or absent if there are none.
    #[serde(default)]
    pub videos: Option<Vec<WhatIfVideo>>,
}

/// A video that would have another number of viewers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIfVideo {
    /// The id of the video.
    pub videoid: VideoId,
    /// Number of viewers that the video would have.
    pub viewers: u64,
}

/// Answer of the manager's `POST /what-if`, which a gateway passes on to its own caller.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhatIfAnswer {
    /// One plan for each minute.
    pub minutes: Vec<ForecastMinute>,
    /// Whether the forecast reached a minute in which nothing was left to do.
    pub settled: bool,
    /// Number of viewers that are moved in all minutes.
    pub moved: u64,
    /// The readers with their viewers before and after, those with most viewers first; limited in number.
    pub readers: Vec<ForecastReader>,
}

/// The plan of one minute of a forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastMinute {
    /// Number of orders.
    pub orders_total: u64,
    /// The orders, the most important first; limited in number.
    pub orders: Vec<ChosenOrder>,
    /// Number of viewers that the orders move.
    pub moved: u64,
    /// The balance of the viewers over the readers before the plan.
    pub before: ViewerBalance,
    /// The balance of the viewers over the readers after the plan.
    pub after: ViewerBalance,
    /// The limits that kept the planner from moving more.
    pub bound_by: Vec<MaybeUnknown<ReachedLimit>>,
    /// Changes that the planner did not make, each with the reason; limited in number.
    pub rejected: Vec<String>,
}

/// A reader in a forecast.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForecastReader {
    /// The id of the reader.
    pub id: ReaderId,
    /// Maximum number of viewers that the reader can hold.
    pub capacity: u64,
    /// Whether the reader accepts viewers, and whether it keeps those that it has.
    pub standing: MaybeUnknown<ReaderAvailability>,
    /// Number of the reader's viewers before the first order.
    pub before: u64,
    /// Number of the reader's viewers after the last order.
    pub after: u64,
    /// The zone of the reader; absent if it is not known, or if the reader does not exist yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<ZoneId>,
}
