//! Whether a viewer's gateway is in the zone of this reader: the bytes that a reader sends to viewers of gateways in other
//! zones cross the border between two zones, which most clouds charge for.

use axum::http::HeaderMap;
use liverank_core::ZoneId;
use liverank_protocol::GATEWAY_ZONE_HEADER;
use liverank_runtime::label_values;

label_values! {
    /// The zone of a viewer's gateway, compared with the zone of the reader.
    pub enum ViewerZone {
        /// The gateway is in the reader's own zone.
        Same = "same",
        /// The gateway is in another zone.
        Other = "other",
        /// The zone of the gateway or of the reader is not known, or the viewer came without a gateway.
        Unknown = "unknown",
    }
}

impl ViewerZone {
    /// All values, as the metrics list them.
    pub const ALL: [Self; 3] = [Self::Same, Self::Other, Self::Unknown];

    /// Compares the zone that a gateway names in the headers of its request with the reader's zone, `own`. The caller has
    /// checked that the request is a gateway's.
    pub fn of_gateway(own: Option<&ZoneId>, headers: &HeaderMap) -> Self {
        match (own, headers.get(GATEWAY_ZONE_HEADER)) {
            (Some(own), Some(named)) if named.as_bytes() == own.as_str().as_bytes() => Self::Same,
            (Some(_), Some(named)) if !named.is_empty() => Self::Other,
            _ => Self::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn zone_of_viewer(own: Option<&str>, named: Option<&str>) -> ViewerZone {
        let own = own.map(|own| ZoneId::parse(own).unwrap());
        let mut headers = HeaderMap::new();
        if let Some(zone) = named {
            headers.insert(GATEWAY_ZONE_HEADER, HeaderValue::from_bytes(zone.as_bytes()).unwrap());
        }
        ViewerZone::of_gateway(own.as_ref(), &headers)
    }

    #[test]
    fn a_zone_is_the_same_or_another_only_if_both_are_known() {
        assert_eq!(zone_of_viewer(Some("eu-1a"), Some("eu-1a")), ViewerZone::Same);
        assert_eq!(zone_of_viewer(Some("Köln"), Some("Köln")), ViewerZone::Same, "any text may name a zone");
        assert_eq!(zone_of_viewer(Some("eu-1a"), Some("eu-1b")), ViewerZone::Other);
        for (own, named) in
            [(None, Some("eu-1a")), (Some("eu-1a"), None), (Some("eu-1a"), Some("")), (None, None)]
        {
            assert_eq!(zone_of_viewer(own, named), ViewerZone::Unknown, "{own:?} and {named:?}");
        }
    }
}
