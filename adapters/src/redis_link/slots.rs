//! The node of a cluster that holds each slot, and the slot that a command is for.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use redis::cluster_routing::Slot;
use redis::{Arg, Cmd, Value};

/// The address of a node: host and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Address {
    pub(super) host: Arc<str>,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn new(host: &str, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Parses `host:port` as a node writes it. A node that does not know its own name leaves the host out: then the
    /// host of `asked` is meant, the node that was asked.
    pub(super) fn parse(text: &str, asked: &Self) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        Some(asked.or_own_host(host, port.parse().ok()?))
    }

    fn or_own_host(&self, host: &str, port: u16) -> Self {
        match host.trim_matches(['[', ']']) {
            "" | "?" => Self { host: Arc::clone(&self.host), port },
            host => Self::new(host, port),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

/// The node that holds each slot, as read from some node.
#[derive(Default)]
pub(super) struct Slots {
    /// A number that grows with every reading; 0 before the first one.
    pub(super) version: u64,
    owners: HashMap<Slot, Address>,
}

impl Slots {
    /// Parses the answer to `CLUSTER SLOTS` of the node that is reached at `asked`; `None` for any other answer.
    pub(super) fn parse(version: u64, answer: &Value, asked: &Address) -> Option<Self> {
        let Value::Array(ranges) = answer else { return None };
        let mut owners = HashMap::new();
        for range in ranges {
            let Value::Array(range) = range else { return None };
            let [Value::Int(first), Value::Int(last), Value::Array(master), ..] = range.as_slice() else {
                return None;
            };
            let [host, Value::Int(port), ..] = master.as_slice() else { return None };
            let host = match host {
                Value::BulkString(host) => std::str::from_utf8(host).ok()?,
                Value::SimpleString(host) => host,
                Value::Nil => "",
                _ => return None,
            };
            let owner = asked.or_own_host(host, u16::try_from(*port).ok()?);
            for slot in u16::try_from(*first).ok()?..=u16::try_from(*last).ok()? {
                owners.insert(Slot::new(slot)?, owner.clone());
            }
        }
        Some(Self { version, owners })
    }

    /// Returns the node that holds `slot`; `None` if it is not known.
    pub(super) fn owner(&self, slot: Slot) -> Option<&Address> {
        self.owners.get(&slot)
    }

    /// Returns all nodes that hold a slot.
    pub(super) fn nodes(&self) -> std::collections::BTreeSet<&Address> {
        self.owners.values().collect()
    }
}

/// Returns the slot of a command by its first key; `None` for a command without keys. Knows only the commands that our
/// stores send.
pub(super) fn slot_of(command: &Cmd) -> Option<Slot> {
    let arg = |at: usize| match command.args_iter().nth(at) {
        Some(Arg::Simple(bytes)) => Some(bytes),
        _ => None,
    };
    let key = match arg(0)?.to_ascii_uppercase().as_slice() {
        b"EVAL" | b"EVALSHA" if arg(2)? != b"0" => arg(3),
        b"EVAL" | b"EVALSHA" | b"SCRIPT" | b"PING" => None,
        _ => arg(1),
    };
    key.map(Slot::for_key)
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    fn text_value(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn slot_range_value(first: i64, last: i64, host: Value, port: i64) -> Value {
        let master = Value::Array(vec![host, Value::Int(port), text_value("id"), Value::Array(vec![])]);
        Value::Array(vec![Value::Int(first), Value::Int(last), master.clone(), master])
    }

    #[test]
    fn cluster_slots_answers_are_parsed() {
        let asked = Address::new("entry", 1);
        let answer = Value::Array(vec![
            slot_range_value(0, 99, text_value("10.0.0.1"), 7),
            slot_range_value(100, 100, Value::Nil, 8),
            slot_range_value(16383, 16383, text_value("?"), 9),
        ]);
        let slots = Slots::parse(1, &answer, &asked).unwrap();
        let owner = |slot| slots.owner(Slot::new(slot).unwrap()).map(ToString::to_string);
        assert_eq!(owner(0).as_deref(), Some("10.0.0.1:7"));
        assert_eq!(owner(99).as_deref(), Some("10.0.0.1:7"));
        assert_eq!(owner(100).as_deref(), Some("entry:8"));
        assert_eq!(owner(101), None);
        assert_eq!(owner(16383).as_deref(), Some("entry:9"));
        assert_eq!(slots.nodes().len(), 3);
        for other in [
            Value::Nil,
            Value::Array(vec![Value::Int(1)]),
            Value::Array(vec![slot_range_value(0, 16384, text_value("h"), 7)]),
        ] {
            assert!(Slots::parse(1, &other, &asked).is_none());
        }
    }

    #[test]
    fn redirection_addresses_are_parsed() {
        let read = |text| Address::parse(text, &Address::new("asked", 1)).map(|address| address.to_string());
        assert_eq!(read("10.0.0.1:7000").as_deref(), Some("10.0.0.1:7000"));
        assert_eq!(read("::1:7000").as_deref(), Some("::1:7000"));
        assert_eq!(read(":7000").as_deref(), Some("asked:7000"));
        assert_eq!(read("nowhere"), None);
    }

    #[test]
    fn the_slot_of_a_command_is_that_of_its_first_key() {
        let expected = Some(Slot::for_key("k"));
        for command in [
            cmd("HGETALL").arg("k").clone(),
            cmd("XRANGE").arg("k").arg("-").arg("+").clone(),
            cmd("EVALSHA").arg("digest").arg(2).arg("k").arg("{k}2").arg("arg").clone(),
            cmd("evalsha").arg("digest").arg(1).arg("k").clone(),
        ] {
            assert_eq!(slot_of(&command), expected);
        }
        let none = [
            cmd("SCRIPT").arg("LOAD").arg("return 1").clone(),
            cmd("PING"),
            cmd("EVAL").arg("return 1").arg(0).arg("arg").clone(),
        ];
        assert!(none.iter().all(|command| slot_of(command).is_none()));
    }
}
