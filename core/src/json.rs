//! JSON text as a value, with numbers of any size.
//!
//! JSON knows no largest number, floating point does: `1e400` is JSON, and no `f64`. Here such a number becomes the
//! largest one of its sign. So the field that it stands in refuses it by name and by its own bounds, and a member that
//! nobody reads disturbs nobody.

use std::collections::BTreeMap;

use serde_json::value::RawValue;
use serde_json::{Error, Number, Value};

use crate::Invalid;

/// How deep a number that is too large is looked for: an item of a list, a member of it, and a member of that.
const DEPTH: u32 = 3;

/// JSON text as a value.
///
/// # Errors
/// What is not JSON, as the field `body`.
pub fn parse(text: &[u8]) -> Result<Value, Invalid> {
    serde_json::from_slice(text).or_else(|error| {
        let saturated = serde_json::from_slice::<&RawValue>(text).and_then(|raw| saturated(raw, DEPTH));
        saturated.map_err(|_| Invalid::new("body", format!("is not JSON: {error}")))
    })
}

/// The value of `raw`, numbers that are too large replaced. Each level is read again, so there are few.
fn saturated(raw: &RawValue, depth: u32) -> Result<Value, Error> {
    let error = match serde_json::from_str(raw.get()) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    match raw.get().as_bytes().first() {
        Some(b'{') if depth > 0 => {
            let members: BTreeMap<String, &RawValue> = serde_json::from_str(raw.get())?;
            let members = members.into_iter().map(|(name, raw)| Ok((name, saturated(raw, depth - 1)?)));
            members.collect::<Result<_, Error>>().map(Value::Object)
        }
        Some(b'[') if depth > 0 => {
            let items: Vec<&RawValue> = serde_json::from_str(raw.get())?;
            let items = items.into_iter().map(|raw| saturated(raw, depth - 1));
            items.collect::<Result<_, Error>>().map(Value::Array)
        }
        Some(b'-') => Ok(Number::from_f64(f64::MIN).into()),
        Some(b'0'..=b'9') => Ok(Number::from_f64(f64::MAX).into()),
        _ => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_that_is_too_large_is_the_largest() {
        for (text, expected) in [
            ("1e400", json!(f64::MAX)),
            ("-1e400", json!(f64::MIN)),
            (r#"{"a":1e400,"b":[1,2],"a":3}"#, json!({"a": 3, "b": [1, 2]})),
            (r#"[{"watch_time":1E+999,"video_id":"v"}]"#, json!([{"watch_time": f64::MAX, "video_id": "v"}])),
            (r#"{"counts":{"v":1e400}}"#, json!({"counts": {"v": f64::MAX}})),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_is_not_json_stays_so() {
        let deep = format!("{{\"a\":1e400,\"b\":{}{}}}", "[".repeat(200), "]".repeat(200));
        let endless = format!("[1e400,{}", "[".repeat(100_000));
        for text in ["", "{", "[1e400", "1e400x", "1e", "\"\\ud800\"", "{\"a\":\"\\ud800\"}", "[NaN]", &deep, &endless] {
            assert_eq!(parse(text.as_bytes()).unwrap_err().field, "body", "{:.40}", text);
        }
        assert_eq!(parse(b"\"\xff\"").unwrap_err().field, "body");
    }
}
