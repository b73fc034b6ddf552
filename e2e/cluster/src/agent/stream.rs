//! A parser of server-sent events, for bodies that arrive in pieces.

/// One server-sent event that has data or a name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamEvent {
    /// The event's type (`event:`); empty for a message.
    pub name: String,
    /// The event's id (`id:`), by which a client resumes.
    pub id: Option<String>,
    /// The event's data (`data:`).
    pub data: String,
    /// The wait before a reconnect that the server asks for (`retry:`), in milliseconds.
    pub retry_ms: Option<u64>,
}

/// An incremental parser: keeps the bytes that are not a whole event yet.
#[derive(Debug, Default)]
pub struct EventParser {
    line: Vec<u8>,
    event: StreamEvent,
}

impl EventParser {
    /// Parses the next piece of the body and returns the events that it completes. Comment lines that only keep the
    /// stream alive yield no event.
    pub fn feed_piece(&mut self, piece: &[u8]) -> Vec<StreamEvent> {
        let mut whole = Vec::new();
        for byte in piece {
            if *byte != b'\n' {
                self.line.push(*byte);
                continue;
            }
            let line = std::mem::take(&mut self.line);
            let line = String::from_utf8_lossy(&line);
            let line = line.trim_end_matches('\r');
            if line.is_empty() {
                let event = std::mem::take(&mut self.event);
                if event != StreamEvent::default() {
                    whole.push(event);
                }
            } else {
                self.take_field(line);
            }
        }
        whole
    }

    fn take_field(&mut self, line: &str) {
        let (name, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match name {
            "event" => value.clone_into(&mut self.event.name),
            "id" => self.event.id = Some(value.to_owned()),
            "data" => self.event.data.push_str(value),
            "retry" => self.event.retry_ms = value.parse().ok(),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_parsed_however_the_bytes_are_cut() {
        let bytes = b"retry: 1500\nid: n-0\ndata: {}\n\n:\n\nevent: gap\nid: n-9\ndata: {\"from\":1}\n\n";
        for size in 1..bytes.len() {
            let mut events = EventParser::default();
            let all: Vec<StreamEvent> =
                bytes.chunks(size).flat_map(|piece| events.feed_piece(piece)).collect();
            assert_eq!(all.len(), 2, "{size}");
            assert_eq!((all[0].retry_ms, all[0].id.as_deref()), (Some(1500), Some("n-0")));
            assert_eq!((all[1].name.as_str(), all[1].data.as_str()), ("gap", "{\"from\":1}"));
        }
    }
}
