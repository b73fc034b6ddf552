//! Makes values by a schema, so that a field that is new in the schema is in them, too.

use serde_json::{Map, Value, json};

/// Returns a value that the schema allows, but for patterns and rules. Durations are written in the one canonical way.
pub fn value(schema: &Value, seed: u64) -> Value {
    make(schema, &mut Numbers(seed))
}

/// Pseudo-random numbers (`SplitMix64`).
struct Numbers(u64);

impl Numbers {
    /// Returns a number below `end`.
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn whole(&mut self, schema: &Value) -> Value {
        let bound = |name: &str, other: u64| schema[name].as_f64().map_or(other, |bound| bound as u64);
        let (least, most) = (bound("minimum", 0), bound("maximum", 1000));
        json!(least + self.below(most - least + 1))
    }

    fn duration(&mut self, pattern: &str) -> Value {
        let number = 1 + self.below(59);
        json!(match (pattern.contains("ms"), pattern.contains('s'), self.below(3)) {
            (true, ..) => format!("{number}ms"),
            (_, true, 0) => format!("{number}s"),
            (_, true, 1) => format!("{number}m{number}s"),
            (_, _, 2) => format!("{number}h{number}m"),
            _ => format!("{number}m"),
        })
    }
}

fn make(schema: &Value, numbers: &mut Numbers) -> Value {
    if let Some(words) = schema["enum"].as_array() {
        return words[numbers.below(words.len() as u64) as usize].clone();
    }
    if schema["x-kubernetes-preserve-unknown-fields"] == true {
        return json!({ "open": numbers.below(10), "name": "a", "list": [{ "pod": true, "paused": 1 }] });
    }
    match schema["type"].as_str() {
        Some("boolean") => json!(numbers.below(2) == 1),
        Some("integer") => numbers.whole(schema),
        Some("string") => match schema["pattern"].as_str() {
            Some(pattern) if pattern.contains("(h|m") => numbers.duration(pattern),
            _ => json!(format!("text{}", numbers.below(100))),
        },
        Some("array") => (0..numbers.below(3)).map(|_| make(&schema["items"], numbers)).collect(),
        Some("object") => object(schema, numbers),
        _ if numbers.below(2) == 0 => numbers.whole(schema),
        _ => json!(numbers.below(100).to_string()),
    }
}

fn object(schema: &Value, numbers: &mut Numbers) -> Value {
    let mut members = Map::new();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let required = schema["required"].as_array().is_some_and(|names| names.iter().any(|it| it == name));
        if required || numbers.below(3) > 0 {
            members.insert(name.clone(), make(property, numbers));
        }
    }
    if schema["additionalProperties"].is_object() {
        for nth in 0..numbers.below(3) {
            // Keys may be called like fields of ours: they are the user's.
            let name = if nth == 0 { "labels".to_owned() } else { format!("key{nth}") };
            members.insert(name, make(&schema["additionalProperties"], numbers));
        }
    }
    Value::Object(members)
}
