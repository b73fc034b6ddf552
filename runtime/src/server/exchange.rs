//! One request and its answer: who asks, and what is held until the answer's last byte is on its way.
//!
//! What a request takes up (bytes of its body, a place in a queue, the answer itself) is not free again when its handler
//! returns, for the answer may be long and its reader slow. So whatever is [held](RequestExchange::keep_until_answered) here is let go when the
//! answer's body has been given to the connection whole, or the connection is gone.

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

/// The header in which proxies tell whom they speak for.
const FORWARDED_HEADER: &str = "x-forwarded-for";

/// One request and its answer. Clones are the same one.
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

    /// The address of the one who asks, as far as it can be known: see `--trusted-proxies`.
    pub fn client(&self) -> IpAddr {
        self.0.client
    }

    /// Keeps `place` until the answer's last byte is on its way.
    pub fn keep_until_answered(&self, place: impl Send + 'static) {
        self.held().places.push(Box::new(place));
    }

    /// Takes room for `bytes` more of the request's body; `false` where the client has its part of it.
    pub(super) fn take_upload(&self, bytes: usize) -> bool {
        self.held().upload.take_bytes(bytes)
    }

    /// Completes when the client has shut down its sending side. It may be gone, or it may have nothing more to say and
    /// still read: only what is written tells.
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

/// Of a request that came by another server than ours, as in tests: nothing is known, and it is held no longer than its
/// handler runs.
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

/// The address behind `proxies` of ours: each has added whom it saw to the end of the list. Entries before that anybody
/// may have written.
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
        // Where a proxy wrote nothing that can be read, it is the last one that is known.
        match addresses.next().flatten() {
            Some(address) => client = address,
            None => break,
        }
    }
    client
}

/// An address as proxies write it, with or without a port.
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
