//! One request and its answer: the client's address, and the resources that are held until the last byte of the answer
//! has been given to the connection.
//!
//! The resources of a request (bytes of its body, a place in a queue, the answer itself) are not free again when its
//! handler returns, because the answer may be long and its reader slow. So everything that is
//! [held](RequestExchange::keep_until_answered) here is released when the whole body of the answer has been given to
//! the connection, or the connection is gone.

use std::any::Any;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::request::Parts;

use super::hijack::Socket;
use crate::http_args::HttpSettings;
use crate::uploads::{UploadRoom, UploadShare};

/// The header in which proxies write the address of their client.
const FORWARDED_HEADER: &str = "x-forwarded-for";

/// One request and its answer. Cheap to clone: all clones are the same request.
#[derive(Clone)]
pub struct RequestExchange(Arc<ExchangeInner>);

struct ExchangeInner {
    client: IpAddr,
    held_places: Mutex<HeldPlaces>,
    socket: Option<Socket>,
}

struct HeldPlaces {
    upload: UploadShare,
    places: Vec<Box<dyn Any + Send>>,
}

impl RequestExchange {
    pub(super) fn new(
        peer: SocketAddr,
        headers: &HeaderMap,
        settings: &HttpSettings,
        socket: Socket,
    ) -> Self {
        let client = client(peer.ip(), headers, settings.trusted_proxies);
        Self::of(client, &settings.uploads, Some(socket))
    }

    fn of(client: IpAddr, uploads: &UploadRoom, socket: Option<Socket>) -> Self {
        let held = HeldPlaces { upload: uploads.begin_upload(client), places: Vec::new() };
        Self(Arc::new(ExchangeInner { client, held_places: Mutex::new(held), socket }))
    }

    /// Returns the address of the client, as far as it can be known: see `--trusted-proxies`.
    pub fn client(&self) -> IpAddr {
        self.0.client
    }

    /// Keeps `place` until the last byte of the answer has been given to the connection, then drops it.
    pub fn keep_until_answered(&self, place: impl Send + 'static) {
        self.held().places.push(Box::new(place));
    }

    /// Reserves `bytes` more for the request's body; returns `false` if the client already holds its share.
    pub(super) fn take_upload(&self, bytes: usize) -> bool {
        self.held().upload.take_bytes(bytes)
    }

    /// Completes when the client has shut down its sending side. The client may be gone, or may still read: only a
    /// write can tell.
    pub async fn client_closed_sending(&self) {
        match &self.0.socket {
            Some(socket) => socket.said_all().await,
            None => std::future::pending().await,
        }
    }

    fn held(&self) -> std::sync::MutexGuard<'_, HeldPlaces> {
        self.0.held_places.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The exchange of a request that did not come by this server, as in tests: its client is unknown, and held resources
/// are released when the handler returns.
impl Default for RequestExchange {
    fn default() -> Self {
        Self::of(Ipv4Addr::LOCALHOST.into(), &UploadRoom::default(), None)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestExchange {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().cloned().unwrap_or_default())
    }
}

/// Returns the address of the client behind `proxies` trusted proxies. Each proxy appends the address of its own client
/// to the list; entries before those can be forged.
fn client(peer: IpAddr, headers: &HeaderMap, proxies: u8) -> IpAddr {
    let mut addresses = headers
        .get_all(FORWARDED_HEADER)
        .iter()
        .rev()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.rsplit(','))
        .map(parse_address);
    let mut client = peer.to_canonical();
    for _ in 0..proxies {
        // If a proxy's entry cannot be parsed, the last known address is the answer.
        match addresses.next().flatten() {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// Parses an address as proxies write it, with or without a port.
fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().ok().map(|address| address.ip());
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    bare.parse().ok().or_else(with_port).map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client_seen(lists: &[&'static str], proxies: u8) -> String {
        let mut headers = HeaderMap::new();
        for list in lists {
            headers.append(FORWARDED_HEADER, list.parse().unwrap());
        }
        client("10.0.0.9".parse().unwrap(), &headers, proxies).to_string()
    }

    #[test]
    fn only_forwarded_addresses_of_our_proxies_are_trusted() {
        assert_eq!(client_seen(&["6.6.6.6, 1.2.3.4"], 0), "10.0.0.9");
        assert_eq!(client_seen(&["6.6.6.6, 1.2.3.4"], 1), "1.2.3.4");
        assert_eq!(client_seen(&["6.6.6.6", "1.2.3.4,10.0.0.7"], 2), "1.2.3.4");
        assert_eq!(client_seen(&["1.2.3.4"], 3), "1.2.3.4");
        assert_eq!(client_seen(&[], 1), "10.0.0.9");
        assert_eq!(client_seen(&["1.2.3.4, nonsense"], 2), "10.0.0.9");
    }

    #[test]
    fn forwarded_addresses_may_have_ports_and_brackets() {
        for (written, read) in [
            ("1.2.3.4:5", "1.2.3.4"),
            ("[2001:db8::1]:5", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("::ffff:1.2.3.4", "1.2.3.4"),
        ] {
            assert_eq!(client_seen(&[written], 1), read);
        }
    }
}
