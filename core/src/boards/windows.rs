//! The windows of a board.

use serde_json::{Map, Value};

use super::members::{number_member, text_member};
use super::order::BoardOrder;
use crate::Invalid;
use crate::windows::{WindowKind, WindowUnit};

/// The most ended windows that one board keeps: each is stored as a board of its own.
pub const MAX_KEPT_WINDOWS: u64 = 31;
/// The number of ended windows that a board keeps unless its declaration says otherwise.
pub const DEFAULT_KEPT_WINDOWS: u64 = 7;

/// The windows of a board: their kind, and how many ended ones it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardWindows {
    /// The unit and time zone of the windows.
    pub kind: WindowKind,
    /// The number of ended windows that are kept.
    pub kept_count: usize,
}

impl BoardWindows {
    pub(super) fn from_json(given: &Map<String, Value>, order: BoardOrder) -> Result<Option<Self>, Invalid> {
        let zone = text_member(given, "timeZone")?;
        let keep = number_member(given, "keep")?;
        let Some(unit) = text_member(given, "window")? else {
            let alone = [("timeZone", zone.is_some()), ("keep", keep.is_some())];
            let alone = alone.into_iter().find(|(_, is_there)| *is_there);
            return match alone {
                Some((field, _)) => Err(Invalid::new(field, "goes together with window only")),
                None => Ok(None),
            };
        };
        let unit = WindowUnit::from_name(unit);
        let unit = unit.ok_or_else(|| Invalid::new("window", "must be hour, day or week"))?;
        if order == BoardOrder::Trending {
            let why = "cannot go together with the order trending: decayed scores have no windows";
            return Err(Invalid::new("window", why));
        }
        let kind = WindowKind::new(unit, zone.unwrap_or("UTC"))?;
        let keep = keep.unwrap_or(DEFAULT_KEPT_WINDOWS as f64);
        if keep.fract() != 0.0 || !(0.0..=MAX_KEPT_WINDOWS as f64).contains(&keep) {
            return Err(Invalid::new("keep", format!("must be a whole number from 0 to {MAX_KEPT_WINDOWS}")));
        }
        Ok(Some(Self { kind, kept_count: keep as usize }))
    }
}
