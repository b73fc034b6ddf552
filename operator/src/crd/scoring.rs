//! The weights of interactions: how many points each type is worth.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The points that interactions are worth. If the archive was counted with other weights, consumers keep those and warn
/// until `liverank rebuild scores` puts the new ones into force, so that two sets are never mixed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Scoring {
    /// Points of one view: 0 to 1000, at most three decimal places, such as 2 or "0.125".
    pub view: Decimal,
    /// Points of one like.
    pub like: Decimal,
    /// Points of one comment.
    pub comment: Decimal,
    /// Points of one share.
    pub share: Decimal,
    /// Points of one watch that is shorter than the threshold.
    pub watch_time_short: Decimal,
    /// Points of one watch that is as long as the threshold or longer.
    pub watch_time_long: Decimal,
    /// The watch time from which a watch is long, in seconds. Counters do not record it: changing it needs `liverank
    /// rebuild mongodb --new-weights`.
    pub watch_time_threshold_seconds: Decimal,
    /// The minutes after which an interaction counts half on the trending board.
    #[schemars(range(min = 1, max = 525_600))]
    pub trending_half_life_minutes: i32,
    /// The types that count once per user and video, and can be taken back (`unlike`, `unshare`). By default every
    /// interaction counts. `liverank rebuild scores` adds a type to an existing archive; `liverank rebuild mongodb
    /// --new-weights` removes one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 3))]
    pub unique: Vec<UniqueType>,
}

/// A type of interaction that can count once per user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum UniqueType {
    /// A view.
    View,
    /// A like.
    Like,
    /// A share.
    Share,
}

impl UniqueType {
    /// Returns the type's name in the setting `unique`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Like => "like",
            Self::Share => "share",
        }
    }
}

impl Default for Scoring {
    fn default() -> Self {
        Self {
            view: Decimal::from_thousandths(1000),
            like: Decimal::from_thousandths(2000),
            comment: Decimal::from_thousandths(2000),
            share: Decimal::from_thousandths(3000),
            watch_time_short: Decimal::from_thousandths(1000),
            watch_time_long: Decimal::from_thousandths(2000),
            watch_time_threshold_seconds: Decimal::from_thousandths(2000),
            trending_half_life_minutes: 360,
            unique: Vec::new(),
        }
    }
}

/// A number from 0 to 1000 with at most three decimal places. In YAML it is an integer, or a string if it has decimals:
/// Kubernetes advises against floats, which no two parsers print alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decimal(u32);

/// The pattern of a decimal written as a string; the API server checks it, and [`Decimal`] does when it is parsed.
const DECIMAL_PATTERN: &str = r"^(1000(\.0{1,3})?|[0-9]{1,3}(\.[0-9]{1,3})?)$";

impl Decimal {
    /// The largest value, in thousandths.
    const MAX_THOUSANDTHS: u32 = 1_000_000;

    /// Returns the number for an amount in thousandths; anything above 1000 becomes 1000.
    pub const fn from_thousandths(thousandths: u32) -> Self {
        Self(if thousandths > Self::MAX_THOUSANDTHS { Self::MAX_THOUSANDTHS } else { thousandths })
    }

    /// Returns the number in thousandths.
    pub const fn thousandths(self) -> u32 {
        self.0
    }

    /// Returns the number as a float, for settings that are floats.
    pub fn as_f64(self) -> f64 {
        f64::from(self.0) / 1000.0
    }

    /// Parses a number such as `2`, `0.5` or `12.125`; `None` if it is out of range or has more than three decimals.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |s: &str| !s.is_empty() && s.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(decimals) || whole.len() > 4 || decimals.len() > 3 {
            return None;
        }
        let thousandths =
            whole.parse::<u32>().ok()? * 1000 + format!("{decimals:0<3}").parse::<u32>().ok()?;
        (thousandths <= Self::MAX_THOUSANDTHS).then_some(Self(thousandths))
    }
}

impl fmt::Display for Decimal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.0 / 1000, self.0 % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        write!(f, "{whole}.{}", format!("{rest:03}").trim_end_matches('0'))
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.0.is_multiple_of(1000) {
            serializer.serialize_u32(self.0 / 1000)
        } else {
            serializer.collect_str(self)
        }
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct DecimalVisitor;
        impl de::Visitor<'_> for DecimalVisitor {
            type Value = Decimal;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an integer or a string from 0 to 1000 with at most three decimal places")
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Decimal, E> {
                Decimal::parse(&value.to_string())
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Unsigned(value), &self))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Decimal, E> {
                Decimal::parse(&value.to_string())
                    .ok_or_else(|| E::invalid_value(de::Unexpected::Signed(value), &self))
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Decimal, E> {
                Decimal::parse(value).ok_or_else(|| E::invalid_value(de::Unexpected::Str(value), &self))
            }
        }
        deserializer.deserialize_any(DecimalVisitor)
    }
}

impl JsonSchema for Decimal {
    fn schema_name() -> Cow<'static, str> {
        "Decimal".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "x-kubernetes-int-or-string": true,
            "minimum": 0,
            "maximum": 1000,
            "maxLength": 8,
            "pattern": DECIMAL_PATTERN,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Decimal;

    #[test]
    fn decimals_round_trip() {
        for (text, thousandths) in
            [("0", 0), ("2", 2000), ("0.125", 125), ("0.5", 500), ("12.05", 12_050), ("1000", 1_000_000)]
        {
            let decimal = Decimal::parse(text).unwrap();
            assert_eq!(decimal.thousandths(), thousandths, "{text}");
            assert_eq!(decimal.to_string(), text);
            let json = serde_json::to_string(&decimal).unwrap();
            assert_eq!(serde_json::from_str::<Decimal>(&json).unwrap(), decimal);
        }
        assert_eq!(Decimal::parse("1000.000").unwrap().thousandths(), 1_000_000);
        for text in ["", "-1", "1001", "1000.001", "0.1234", ".5", "5.", "1e3", "+1", "١"] {
            assert_eq!(Decimal::parse(text), None, "{text}");
        }
        assert!(serde_json::from_str::<Decimal>("1.5").is_err(), "a float");
    }
}
