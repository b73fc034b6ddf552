//! The one table of roles: for each process its name, its default ports, the stores that it uses, and the settings
//! that a deployment gives it.
//!
//! The command line, the operator's builder, Compose, the charts and `docs/roles.md` are made from this table or
//! tested against it (`cli/src/cli.rs`, `operator/tests/build/settings.rs`).

use std::fmt::{self, Write};
use strum::{EnumCount, VariantArray};

/// A service, and the subcommand of `liverank` that runs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, VariantArray)]
pub enum Role {
    /// The gateway: the service that clients connect to.
    Gateway,
    /// The consumer: counts the events of the log.
    Consumer,
    /// The websocket service: pushes ranked lists to viewers.
    Websocket,
    /// The comment service: accepts comments.
    Comment,
    /// A reader: holds viewers' streams.
    Reader,
    /// The manager: knows which reader serves which video.
    Manager,
    /// The statistics service: answers with the figures of all services at once.
    Statistics,
}

/// A store that a role uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, VariantArray)]
pub enum Store {
    /// Kafka, which holds the log.
    Kafka,
    /// Redis, which holds the boards, the channels of comments and the assignments.
    Redis,
    /// MongoDB, which holds the archive.
    Mongodb,
}

impl Store {
    /// All stores.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// The setting of the store's address, which is also the prefix of all its other settings (`kafka`,
    /// `kafka-topic`).
    pub const fn name(self) -> &'static str {
        match self {
            Self::Kafka => "kafka",
            Self::Redis => "redis",
            Self::Mongodb => "mongodb",
        }
    }
}

impl Role {
    /// All roles.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// The subcommand of `liverank` that runs the role; also the role's name in logs and labels.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Consumer => "consumer",
            Self::Websocket => "websocket",
            Self::Comment => "comment",
            Self::Reader => "reader",
            Self::Manager => "manager",
            Self::Statistics => "statistics",
        }
    }

    /// The default port on which the role serves requests; `None` for the consumer, which serves nobody.
    pub const fn port(self) -> Option<u16> {
        match self {
            Self::Gateway => Some(8080),
            Self::Consumer => None,
            Self::Websocket => Some(8081),
            Self::Comment => Some(3000),
            Self::Reader => Some(4001),
            Self::Manager => Some(6100),
            Self::Statistics => Some(5000),
        }
    }

    /// The default port of `/livez`, `/readyz` and `/metrics`. Each role has another one, so that all roles fit on one
    /// machine.
    pub const fn admin_port(self) -> u16 {
        match self {
            Self::Gateway => 9080,
            Self::Consumer => 9082,
            Self::Websocket => 9081,
            Self::Comment => 9030,
            Self::Reader => 9040,
            Self::Manager => 9060,
            Self::Statistics => 9050,
        }
    }

    /// The stores that the role uses. The role asks for the settings of no other store, and connects to no other.
    pub const fn stores(self) -> &'static [Store] {
        match self {
            Self::Gateway | Self::Consumer => &Store::ALL,
            Self::Comment => &[Store::Kafka, Store::Mongodb],
            Self::Reader => &[Store::Redis, Store::Mongodb],
            Self::Websocket | Self::Manager => &[Store::Redis],
            Self::Statistics => &[Store::Mongodb],
        }
    }
}

/// The version of a release: major, minor, patch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ReleaseVersion(pub u16, pub u16, pub u16);

impl ReleaseVersion {
    /// Returns the version in an image's tag (`…:0.1.0`, `…:v0.1.0`, `…:0.1.0-debug`). Returns `None`, for an unknown
    /// version, if the tag is any other text, or if there is only a digest or no tag.
    pub fn of_image(image: &str) -> Option<Self> {
        let image = image.split_once('@').map_or(image, |(name, _)| name);
        let (_, last) = image.rsplit_once('/').unwrap_or(("", image));
        let (_, tag) = last.rsplit_once(':')?;
        let tag = tag.strip_prefix('v').unwrap_or(tag);
        let numbers = tag.split_once(['-', '+']).map_or(tag, |(numbers, _)| numbers);
        let mut parts = numbers.split('.').map(|part| part.parse().ok());
        let version = Self(parts.next()??, parts.next()??, parts.next()??);
        parts.next().is_none().then_some(version)
    }
}

impl fmt::Display for ReleaseVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.0, self.1, self.2)
    }
}

/// A setting that the operator's builder writes for a role.
#[derive(Debug, Clone, Copy)]
pub struct Setting {
    /// The flag without its dashes, and the key of the configuration file.
    pub name: &'static str,
    /// The roles for which the setting is written.
    pub roles: &'static [Role],
    /// The first version that knows the setting; older versions would refuse it.
    pub since: ReleaseVersion,
}

const FIRST_RELEASE: ReleaseVersion = ReleaseVersion(0, 1, 0);

const fn setting_since_first_release(name: &'static str, roles: &'static [Role]) -> Setting {
    Setting { name, roles, since: FIRST_RELEASE }
}

const ROLES_ON_KAFKA: &[Role] = &[Role::Gateway, Role::Consumer, Role::Comment];
const ROLES_ON_REDIS: &[Role] =
    &[Role::Gateway, Role::Consumer, Role::Websocket, Role::Reader, Role::Manager];
const ROLES_ON_MONGODB: &[Role] =
    &[Role::Gateway, Role::Consumer, Role::Comment, Role::Reader, Role::Statistics];
const ROLES_WITH_PORT: &[Role] =
    &[Role::Gateway, Role::Websocket, Role::Comment, Role::Reader, Role::Manager, Role::Statistics];
const ROLES_CHECKING_CALLERS: &[Role] = &[Role::Websocket, Role::Comment, Role::Manager, Role::Statistics];
const REPORTING_ROLES: &[Role] = &[Role::Gateway, Role::Comment, Role::Reader, Role::Manager];

/// Every setting that the operator's builder writes, as a key of the configuration file or as an environment variable
/// (`LIVERANK_` and the name in upper case, with underscores). A new setting gets the version of the first release
/// that knows it.
pub const SETTINGS: &[Setting] = &[
    setting_since_first_release("admin-listen", &Role::ALL),
    setting_since_first_release("drain-seconds", &Role::ALL),
    setting_since_first_release("log", &Role::ALL),
    setting_since_first_release("log-format", &Role::ALL),
    setting_since_first_release("otlp-endpoint", &Role::ALL),
    setting_since_first_release("trace-ratio", &Role::ALL),
    setting_since_first_release("traces-per-minute", &Role::ALL),
    setting_since_first_release("listen", ROLES_WITH_PORT),
    setting_since_first_release("kafka", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-topic", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-group", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-ca-file", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-username", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-password", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-password-file", ROLES_ON_KAFKA),
    setting_since_first_release("kafka-sasl", ROLES_ON_KAFKA),
    setting_since_first_release("redis", ROLES_ON_REDIS),
    setting_since_first_release("redis-url-file", ROLES_ON_REDIS),
    setting_since_first_release("redis-cluster", ROLES_ON_REDIS),
    setting_since_first_release("redis-prefix", ROLES_ON_REDIS),
    setting_since_first_release("redis-ca-file", ROLES_ON_REDIS),
    setting_since_first_release("mongodb", ROLES_ON_MONGODB),
    setting_since_first_release("mongodb-uri-file", ROLES_ON_MONGODB),
    setting_since_first_release("mongodb-database", ROLES_ON_MONGODB),
    setting_since_first_release("mongodb-ca-file", ROLES_ON_MONGODB),
    setting_since_first_release("manager-url", &[Role::Gateway, Role::Comment, Role::Reader]),
    setting_since_first_release("comment-url", &[Role::Gateway]),
    setting_since_first_release("websocket-url", &[Role::Gateway]),
    setting_since_first_release("statistics-url", REPORTING_ROLES),
    setting_since_first_release("identity-token-file", &[Role::Gateway, Role::Reader]),
    setting_since_first_release("identity-jwks-file", ROLES_CHECKING_CALLERS),
    setting_since_first_release("identity-audience", ROLES_CHECKING_CALLERS),
    setting_since_first_release("identity-operator", ROLES_CHECKING_CALLERS),
    setting_since_first_release("viewers-by-gateway", &[Role::Websocket, Role::Comment, Role::Reader]),
    setting_since_first_release("reader-urls", &[Role::Manager]),
    setting_since_first_release("tls-cert-file", &Role::ALL),
    setting_since_first_release("tls-key-file", &Role::ALL),
    setting_since_first_release("tls-client-ca-file", &[Role::Websocket, Role::Comment, Role::Statistics]),
    setting_since_first_release("peer-ca-file", REPORTING_ROLES),
    setting_since_first_release("peer-cert-file", &[Role::Gateway]),
    setting_since_first_release("peer-key-file", &[Role::Gateway]),
    setting_since_first_release("auth-jwks-file", &[Role::Gateway]),
    setting_since_first_release("auth-jwks-url", &[Role::Gateway]),
    setting_since_first_release("auth-issuer", &[Role::Gateway]),
    setting_since_first_release("auth-audience", &[Role::Gateway]),
    setting_since_first_release("auth-revoked-file", &[Role::Gateway]),
    setting_since_first_release("comment-hook-url", &[Role::Comment]),
    setting_since_first_release("comment-hook-key-file", &[Role::Comment]),
    setting_since_first_release("comment-hook-timeout-ms", &[Role::Comment]),
    setting_since_first_release("comment-hook-when-away", &[Role::Comment]),
    setting_since_first_release("comment-rules-file", &[Role::Comment]),
    setting_since_first_release("max-viewers-moved-per-minute", &[Role::Manager]),
    setting_since_first_release("boards", &[Role::Gateway, Role::Consumer, Role::Websocket]),
    setting_since_first_release("export-comments", &[Role::Consumer]),
    setting_since_first_release("export-boards", &[Role::Consumer]),
    setting_since_first_release("weight-view", &[Role::Consumer]),
    setting_since_first_release("weight-like", &[Role::Consumer]),
    setting_since_first_release("weight-comment", &[Role::Consumer]),
    setting_since_first_release("weight-share", &[Role::Consumer]),
    setting_since_first_release("weight-watch-short", &[Role::Consumer]),
    setting_since_first_release("weight-watch-long", &[Role::Consumer]),
    setting_since_first_release("watch-threshold-ms", &[Role::Consumer]),
    setting_since_first_release("trending-half-life-minutes", &[Role::Consumer]),
    setting_since_first_release("unique", &[Role::Consumer]),
    setting_since_first_release("capacity", &[Role::Reader]),
    setting_since_first_release("zone", &[Role::Gateway, Role::Reader]),
    setting_since_first_release("reader-id", &[Role::Reader]),
    setting_since_first_release("public-url", &[Role::Reader]),
    setting_since_first_release("internal-url", &[Role::Reader]),
];

/// Returns the table's entry for a setting of a role; `None` if the table has none.
pub fn find_setting(role: Role, name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name && setting.roles.contains(&role))
}

/// Returns whether a process of `version` knows this setting. An unknown version counts as the newest one.
pub fn knows_setting(role: Role, name: &str, version: Option<ReleaseVersion>) -> bool {
    let Some((setting, version)) = find_setting(role, name).zip(version) else { return true };
    version >= setting.since
}

/// Returns the text of `docs/roles.md`, made from the table of settings.
pub fn roles_document() -> String {
    let mut text = String::from(
        "# Roles and their settings\n\n\
         Made from the table in [protocol/src/roles.rs](../protocol/src/roles.rs), which the command line, the operator,\n\
         Compose and the charts follow; a test compares this file with it (`UPDATE_DOCS=1` writes it anew).\n\n\
         | role | port | admin port | stores |\n|---|---|---|---|\n",
    );
    for role in Role::ALL {
        let port = role.port().map_or_else(|| "–".to_owned(), |port| port.to_string());
        let stores: Vec<&str> = role.stores().iter().map(|store| store.name()).collect();
        let _ =
            writeln!(text, "| {} | {port} | {} | {} |", role.name(), role.admin_port(), stores.join(", "));
    }
    text.push_str(
        "\nIn a pod every role has its admin port at 9060, and every reader its port at 4001.\n\n\
         ## What the operator writes\n\n\
         A process gets only the settings that its image knows, by the version in the image's tag. All other flags keep\n\
         their defaults; `liverank <role> --help` lists them.\n\n\
         | setting | roles | since |\n|---|---|---|\n",
    );
    for setting in SETTINGS {
        let roles: Vec<&str> = setting.roles.iter().map(|role| role.name()).collect();
        let roles = if roles.len() == Role::ALL.len() { "all".to_owned() } else { roles.join(", ") };
        let _ = writeln!(text, "| `{}` | {roles} | {} |", setting.name, setting.since);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_listed_once_and_those_of_stores_for_the_roles_that_have_them() {
        for (at, setting) in SETTINGS.iter().enumerate() {
            let again = SETTINGS[..at].iter().any(|other| other.name == setting.name);
            assert!(!again, "{} is listed twice", setting.name);
            let Some(store) = Store::ALL.into_iter().find(|store| setting.name.starts_with(store.name()))
            else {
                continue;
            };
            for role in Role::ALL {
                let has = role.stores().contains(&store);
                assert_eq!(setting.roles.contains(&role), has, "{} of {}", setting.name, role.name());
            }
        }
        for role in Role::ALL {
            assert_eq!(find_setting(role, "listen").is_some(), role.port().is_some(), "{}", role.name());
        }
    }

    #[test]
    fn the_version_of_an_image_is_read_from_its_tag() {
        for (image, version) in [
            ("liverank:0.1.0", Some(ReleaseVersion(0, 1, 0))),
            ("registry.example.org:5000/tv/liverank:v1.12.3", Some(ReleaseVersion(1, 12, 3))),
            ("liverank:0.2.0-debug@sha256:00", Some(ReleaseVersion(0, 2, 0))),
            ("liverank", None),
            ("registry.example.org:5000/liverank", None),
            ("liverank:dev", None),
            ("liverank:1.2", None),
            ("liverank:1.2.3.4", None),
            ("liverank@sha256:00", None),
        ] {
            assert_eq!(ReleaseVersion::of_image(image), version, "{image}");
        }
    }

    #[test]
    fn an_older_process_is_given_what_it_knows() {
        assert!(knows_setting(Role::Reader, "capacity", Some(ReleaseVersion(0, 1, 0))));
        assert!(!knows_setting(Role::Reader, "capacity", Some(ReleaseVersion(0, 0, 9))));
        assert!(
            knows_setting(Role::Reader, "capacity", None),
            "an image without a version counts as the newest"
        );
    }
}
