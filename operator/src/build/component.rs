//! The parts of a cluster, and what of them does not depend on the resource: ports, stores, who talks to whom.

use liverank_protocol::roles::Role;
pub use liverank_protocol::roles::Store;
use strum::{EnumCount, VariantArray};

use crate::crd::RankingClusterSpec;

/// A part of a cluster, in the order in which changed ones are rolled out: those that others ask come before those who
/// ask them, and what faces viewers comes last, so that a bad image stops where nobody sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, VariantArray)]
pub enum Component {
    /// Knows which reader serves which video.
    Manager,
    /// Reads the log.
    Consumer,
    /// Takes comments.
    Comment,
    /// Holds viewers' streams; one Deployment each.
    Reader,
    /// Pushes ranked lists.
    Websocket,
    /// Everything in one answer.
    Statistics,
    /// The front door.
    Gateway,
}

/// The admin port of every pod: `/livez`, `/readyz`, `/metrics`.
pub const ADMIN_PORT: u16 = 9060;

impl Component {
    /// All of them, in the order of roll-out.
    pub const ROLL_OUT_ORDER: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// The role that its pods run.
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

    /// Its name: the subcommand of the binary, the value of the component label, and the end of its objects' names.
    pub const fn name(self) -> &'static str {
        self.role().name()
    }

    /// The component of that [name](Self::name).
    pub fn parse(name: &str) -> Option<Self> {
        Self::ROLL_OUT_ORDER.into_iter().find(|component| component.name() == name)
    }

    /// Where it serves; the consumer serves nobody.
    pub const fn http_port(self) -> Option<u16> {
        self.role().port()
    }

    /// Whether the cluster has it. Without comments nobody needs readers or managers.
    pub const fn is_enabled(self, spec: &RankingClusterSpec) -> bool {
        match self {
            Self::Comment | Self::Reader | Self::Manager => spec.comment.enabled,
            Self::Statistics => spec.statistics.enabled,
            Self::Consumer | Self::Websocket | Self::Gateway => true,
        }
    }

    /// The components that a cluster has, in the order of roll-out.
    pub fn enabled_components(spec: &RankingClusterSpec) -> impl Iterator<Item = Self> + '_ {
        Self::ROLL_OUT_ORDER.into_iter().filter(|component| component.is_enabled(spec))
    }

    /// The stores that it works on: it gets the settings and secrets of no other.
    pub const fn stores(self) -> &'static [Store] {
        self.role().stores()
    }

    /// The components whose service port it opens connections to. Managers ask readers to hold videos ready and probe
    /// silent ones; everything else goes the way of a request.
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
