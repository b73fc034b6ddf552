//! The roles of viewers: what a viewer's token allows its bearer to do, as the token's claim `roles` says.

use serde_json::Value;
use strum::{EnumCount, VariantArray};

/// One role of a viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EnumCount, VariantArray)]
pub enum ViewerRole {
    /// May watch: comment streams, ranked lists, history.
    Viewer,
    /// May post interactions and comments in the viewer's own name.
    Poster,
    /// May also comment on videos that only members may comment on.
    Member,
    /// May moderate comments of others.
    Moderator,
    /// A program of the app's own: it may post for any user, and say who owns a video.
    Service,
    /// An operator of the system: may see its load, its moves and the planner's decisions, but change nothing.
    Operator,
}

impl ViewerRole {
    /// All roles.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// Returns the role's name in a token.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Poster => "poster",
            Self::Member => "member",
            Self::Moderator => "moderator",
            Self::Service => "service",
            Self::Operator => "operator",
        }
    }

    /// Returns the set of this role and the roles that it implies, one bit for each role.
    const fn implied_roles(self) -> u8 {
        let others = match self {
            Self::Viewer => 0,
            Self::Poster => Self::Viewer.role_bit(),
            Self::Member | Self::Moderator | Self::Service | Self::Operator => {
                Self::Viewer.role_bit() | Self::Poster.role_bit()
            }
        };
        others | self.role_bit()
    }

    const fn role_bit(self) -> u8 {
        1 << self as u8
    }
}

/// The roles of one viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ViewerRoles(u8);

impl Default for ViewerRoles {
    /// The roles of a viewer whose token names none: such a viewer may watch and post. Tokens of issuers that do not
    /// know liverank's roles name none.
    fn default() -> Self {
        Self(ViewerRole::Poster.implied_roles())
    }
}

impl ViewerRoles {
    /// Returns the roles that a token's claim names. Unknown names are ignored, because the claim may also be meant
    /// for another service.
    pub fn of_claim(claim: Option<&Value>) -> Self {
        let role = |text: &str| ViewerRole::ALL.into_iter().find(|role| role.name() == text);
        let roles: u8 = match claim {
            Some(Value::String(list)) => list.split_ascii_whitespace().filter_map(role).fold(0, add_role),
            Some(Value::Array(list)) => {
                list.iter().filter_map(Value::as_str).filter_map(role).fold(0, add_role)
            }
            _ => 0,
        };
        if roles == 0 { Self::default() } else { Self(roles) }
    }

    /// Returns the roles in a list of names that are separated by blanks, as [`ViewerRoles::to_string`](ToString)
    /// writes it.
    pub fn of_names(names: &str) -> Self {
        Self::of_claim(Some(&Value::from(names)))
    }

    /// Whether `role` is one of these roles.
    pub const fn contains(self, role: ViewerRole) -> bool {
        self.0 & role.role_bit() != 0
    }
}

impl std::fmt::Display for ViewerRoles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<_> =
            ViewerRole::ALL.into_iter().filter(|role| self.contains(*role)).map(ViewerRole::name).collect();
        f.write_str(&names.join(" "))
    }
}

const fn add_role(roles: u8, role: ViewerRole) -> u8 {
    roles | role.implied_roles()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_claim_names_roles_in_either_form_and_other_names_are_passed_over() {
        for (claim, names) in [
            (Value::Null, "viewer poster"),
            (json!([]), "viewer poster"),
            (json!(["admin", 7]), "viewer poster"),
            (json!("admin"), "viewer poster"),
            (json!(["viewer"]), "viewer"),
            (json!("viewer admin"), "viewer"),
            (json!(["poster"]), "viewer poster"),
            (json!(["moderator", "admin"]), "viewer poster moderator"),
            (json!("service"), "viewer poster service"),
            (json!(["member"]), "viewer poster member"),
            (json!("viewer member"), "viewer poster member"),
            (json!("service moderator"), "viewer poster moderator service"),
            (json!(["operator"]), "viewer poster operator"),
        ] {
            let roles = ViewerRoles::of_claim(Some(&claim));
            assert_eq!(roles.to_string(), names, "{claim}");
            assert_eq!(ViewerRoles::of_names(names), roles, "read as it is written");
        }
        assert_eq!(ViewerRoles::of_claim(None), ViewerRoles::default());
    }

    #[test]
    fn a_role_does_not_imply_others() {
        let moderator = ViewerRoles::of_names("moderator");
        assert!(moderator.contains(ViewerRole::Moderator) && moderator.contains(ViewerRole::Poster));
        assert!(!moderator.contains(ViewerRole::Service));
        assert!(!ViewerRoles::of_names("service").contains(ViewerRole::Moderator));
        assert!(!ViewerRoles::of_names("moderator service").contains(ViewerRole::Operator));
        assert!(!ViewerRoles::of_names("viewer").contains(ViewerRole::Poster));
        assert!(!ViewerRoles::default().contains(ViewerRole::Moderator));
    }
}
