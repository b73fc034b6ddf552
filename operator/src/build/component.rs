//! The components of a cluster and their fixed properties: ports, stores, and which component connects to which.

use liverank_protocol::roles::Role;
pub use liverank_protocol::roles::Store;
use strum::{EnumCount, VariantArray};

use crate::crd::RankingClusterSpec;

/// A component of a cluster; the variants are in the order in which changed components are rolled out. A component that
/// others call comes before its callers, and components that viewers connect to come last, so that a bad image is
/// stopped before any viewer notices it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, VariantArray)]
pub enum Component {
    /// The manager: knows which reader serves which video.
    Manager,
    /// The consumer: reads the log.
    Consumer,
    /// The comment service: accepts comments.
    Comment,
    /// The reader: holds viewers' streams. Each reader has a Deployment of its own.
    Reader,
    /// The `WebSocket` service: pushes ranked lists to viewers.
    Websocket,
    /// The statistics service: returns the reports of all services in one answer.
    Statistics,
    /// The gateway: the entry point for all requests of viewers.
    Gateway,
}

/// The admin port of every pod: `/livez`, `/readyz`, `/metrics`.
pub const ADMIN_PORT: u16 = 9060;

impl Component {
    /// All components in the order of roll-out.
    pub const ROLL_OUT_ORDER: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Returns the role that the component's pods run.
    pub const fn role(self) -> Role {
        match self {
            Self::Manager => Role::Manager,
            Self::Consumer => Role::Consumer,
            Self::Comment => Role::Comment,
            Self::Reader => Role::Reader,
            Self::Websocket => Role::Websocket,
            Self::Statistics => Role::Statistics,
            Self::Gateway => Role::Gateway,
        }
    }

    /// Returns the component's name: the subcommand of the binary, the value of the component label, and the end of its
    /// objects' names.
    pub const fn name(self) -> &'static str {
        self.role().name()
    }

    /// Returns the component with that [name](Self::name); `None` if there is none.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ROLL_OUT_ORDER.into_iter().find(|component| component.name() == name)
    }

    /// Returns the port on which the component serves HTTP requests; `None` for the consumer, which serves none.
    pub const fn http_port(self) -> Option<u16> {
        self.role().port()
    }

    /// Returns whether the cluster has this component. Comment service, readers and managers exist only if comments are
    /// enabled.
    pub const fn is_enabled(self, spec: &RankingClusterSpec) -> bool {
        match self {
            Self::Comment | Self::Reader | Self::Manager => spec.comment.enabled,
            Self::Statistics => spec.statistics.enabled,
            Self::Consumer | Self::Websocket | Self::Gateway => true,
        }
    }

    /// Returns the components that a cluster has, in the order of roll-out.
    pub fn enabled_components(spec: &RankingClusterSpec) -> impl Iterator<Item = Self> + '_ {
        Self::ROLL_OUT_ORDER.into_iter().filter(|component| component.is_enabled(spec))
    }

    /// Returns the stores that the component uses; it gets the settings and secrets of no other store.
    pub const fn stores(self) -> &'static [Store] {
        self.role().stores()
    }

    /// Returns the components to whose service port this component opens connections. Managers connect to readers to
    /// prepare videos and to probe silent readers; all other connections are opened to serve a request.
    pub const fn talks_to(self) -> &'static [Self] {
        match self {
            Self::Gateway => &[Self::Manager, Self::Comment, Self::Reader, Self::Websocket, Self::Statistics],
            Self::Comment | Self::Reader => &[Self::Manager, Self::Statistics],
            Self::Manager => &[Self::Reader, Self::Statistics],
            Self::Consumer | Self::Websocket | Self::Statistics => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_in_roll_out_order_and_their_names_round_trip() {
        assert!(Component::ROLL_OUT_ORDER.is_sorted());
        for role in Role::ALL {
            let runs = Component::ROLL_OUT_ORDER.iter().filter(|component| component.role() == role).count();
            assert_eq!(runs, 1, "no component, or two, run {}", role.name());
        }
        for component in Component::ROLL_OUT_ORDER {
            assert_eq!(Component::parse(component.name()), Some(component));
        }
        assert_eq!(Component::parse("gateways"), None);
    }
}
