//! The access table: every endpoint of every service, with the callers that may use it. Routers are built from this
//! table, so an endpoint without a row does not exist. The tests of each service try every row with every kind of
//! caller.

use std::fmt;
use std::str::FromStr;

use liverank_core::ReaderId;
use strum::{EnumCount, VariantArray};

use crate::roles;

/// The kind of process or person that sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, EnumCount, VariantArray)]
pub enum CallerRole {
    /// The gateway: the service that clients connect to.
    Gateway,
    /// The consumer: counts the events of the log.
    Consumer,
    /// The websocket service: pushes ranked lists to viewers.
    Websocket,
    /// The comment service: accepts comments.
    Comment,
    /// A reader: holds viewers' streams. Each reader is a caller of its own, known by its id.
    Reader,
    /// The manager: knows which reader serves which video.
    Manager,
    /// The statistics service: answers with the figures of all services at once.
    Statistics,
    /// The operator: plans moves, and gives orders under its term.
    Operator,
    /// A person who looks after the system: may read everything, and may order nothing.
    Cli,
}

impl CallerRole {
    /// All caller roles.
    pub const ALL: [Self; Self::COUNT] = *Self::VARIANTS.as_array().expect("as many as it has");

    /// The name of the caller role in tokens and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Consumer => "consumer",
            Self::Websocket => "websocket",
            Self::Comment => "comment",
            Self::Reader => "reader",
            Self::Manager => "manager",
            Self::Statistics => "statistics",
            Self::Operator => "operator",
            Self::Cli => "cli",
        }
    }
}

/// A process that calls another one is a caller of the role that it runs.
impl From<roles::Role> for CallerRole {
    fn from(role: roles::Role) -> Self {
        match role {
            roles::Role::Gateway => Self::Gateway,
            roles::Role::Consumer => Self::Consumer,
            roles::Role::Websocket => Self::Websocket,
            roles::Role::Comment => Self::Comment,
            roles::Role::Reader => Self::Reader,
            roles::Role::Manager => Self::Manager,
            roles::Role::Statistics => Self::Statistics,
        }
    }
}

impl fmt::Display for CallerRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The authenticated sender of a request, written `gateway`, `operator` or `reader/reader-1`. A reader always has an
/// id; callers of other roles have none.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KnownCaller {
    role: CallerRole,
    reader: Option<ReaderId>,
}

impl KnownCaller {
    /// Returns a caller of a role other than [`CallerRole::Reader`]. Returns `None` for that role, because a reader
    /// needs an id.
    pub fn of_role(role: CallerRole) -> Option<Self> {
        (role != CallerRole::Reader).then_some(Self { role, reader: None })
    }

    /// Returns the caller that is the reader with this id.
    pub const fn reader(id: ReaderId) -> Self {
        Self { role: CallerRole::Reader, reader: Some(id) }
    }

    /// The role of the caller.
    pub const fn role(&self) -> CallerRole {
        self.role
    }

    /// The id of the reader; `None` if the caller is not a reader.
    pub const fn reader_id(&self) -> Option<&ReaderId> {
        self.reader.as_ref()
    }
}

impl fmt::Display for KnownCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.reader {
            Some(reader) => write!(f, "reader/{reader}"),
            None => self.role.fmt(f),
        }
    }
}

/// Parse error: the text names no caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownCaller;

impl fmt::Display for UnknownCaller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("must be reader/<id> or one of")?;
        CallerRole::ALL
            .iter()
            .filter(|role| **role != CallerRole::Reader)
            .try_for_each(|role| write!(f, " {role}"))
    }
}

impl std::error::Error for UnknownCaller {}

impl FromStr for KnownCaller {
    type Err = UnknownCaller;

    fn from_str(text: &str) -> Result<Self, UnknownCaller> {
        if let Some(reader) = text.strip_prefix("reader/") {
            return ReaderId::parse(reader).map(Self::reader).map_err(|_| UnknownCaller);
        }
        CallerRole::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .and_then(Self::of_role)
            .ok_or(UnknownCaller)
    }
}

/// The service that answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CalledService {
    /// The gateway: the service that clients connect to.
    Gateway,
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

impl CalledService {
    /// The name of the service in the audience of tokens.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Websocket => "websocket",
            Self::Comment => "comment",
            Self::Reader => "reader",
            Self::Manager => "manager",
            Self::Statistics => "statistics",
        }
    }
}

/// The callers that may use an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Anybody may ask. The answer is bounded, and tells nobody which viewer watches which video. Viewers may have to
    /// show a token at the gateway.
    Public,
    /// At the gateway: viewers whose token names the role `moderator` or `service`.
    Moderator,
    /// At the gateway: anybody, if viewers need no tokens. If viewers need tokens: only those whose token names the
    /// role `operator` or `service`.
    Operators,
    /// Anybody, if viewers need no tokens. If viewers need tokens (`--viewers-by-gateway`): only gateways, which have
    /// checked the viewers that they speak for. A gateway shows its token; at a reader it shows a pass that is valid
    /// at this reader only.
    Viewers,
    /// Anybody gets an answer; only callers of these roles get the whole answer.
    PartlyPublic(&'static [CallerRole]),
    /// Only callers of these roles, by a token for this service.
    Roles(&'static [CallerRole]),
    /// Only the managers, by the ticket that this reader gave them in its heartbeat. The ticket is valid at this
    /// reader only, so a process that pretends to be a reader gets nothing that is valid at another one.
    Ticket,
}

/// One row of the access table: an endpoint and the callers that may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    /// The service that answers requests of this endpoint.
    pub service: CalledService,
    /// The HTTP method: `GET`, `POST`, `PUT` or `DELETE`.
    pub method: &'static str,
    /// The path of the endpoint, with its parameters in braces as the router writes them.
    pub path: &'static str,
    /// The callers that may use this endpoint.
    pub access: Access,
}

const fn endpoint_row(
    service: CalledService,
    method: &'static str,
    path: &'static str,
    access: Access,
) -> Endpoint {
    Endpoint { service, method, path, access }
}

/// Access to the endpoints that a planner reads: the operator and persons (`cli`).
const PLANNER_DATA_ACCESS: Access = Access::Roles(&[CallerRole::Operator, CallerRole::Cli]);
/// Access to the endpoints that accept orders: the operator only.
const ORDER_ACCESS: Access = Access::Roles(&[CallerRole::Operator]);

/// The access table: one row for each endpoint of each service.
pub const ENDPOINTS: &[Endpoint] = {
    use Access::{Moderator, Operators, PartlyPublic, Public, Roles, Ticket, Viewers};
    use CalledService::{Comment, Gateway, Manager, Reader, Statistics, Websocket};
    &[
        endpoint_row(Gateway, "POST", "/interact", Public),
        endpoint_row(Gateway, "POST", "/interactions", Public),
        endpoint_row(Gateway, "GET", "/videos", Public),
        endpoint_row(Gateway, "GET", "/videos/{video_id}", Public),
        // Owners change their own videos; the log tells who owns a video.
        endpoint_row(Gateway, "PUT", "/videos/{video_id}", Public),
        endpoint_row(Gateway, "DELETE", "/videos/{video_id}", Public),
        endpoint_row(Gateway, "GET", "/boards", Public),
        endpoint_row(Gateway, "GET", "/ws/videos", Public),
        endpoint_row(Gateway, "GET", "/ws/user/{user_id}", Public),
        endpoint_row(Gateway, "POST", "/comment", Public),
        endpoint_row(Gateway, "GET", "/comments/{videoid}", Public),
        // Authors delete their own comments; the log tells who wrote a comment.
        endpoint_row(Gateway, "DELETE", "/comments/{videoid}/{id}", Public),
        // Every viewer may report a comment.
        endpoint_row(Gateway, "POST", "/comments/{videoid}/{id}/reports", Public),
        endpoint_row(Gateway, "GET", "/moderation/bans", Moderator),
        endpoint_row(Gateway, "POST", "/moderation/bans", Moderator),
        endpoint_row(Gateway, "DELETE", "/moderation/bans", Moderator),
        endpoint_row(Gateway, "GET", "/moderation/held", Moderator),
        endpoint_row(Gateway, "POST", "/moderation/held", Moderator),
        endpoint_row(Gateway, "GET", "/moderation/reports", Moderator),
        endpoint_row(Gateway, "POST", "/moderation/reports", Moderator),
        endpoint_row(Gateway, "POST", "/moderation/pins", Moderator),
        endpoint_row(Gateway, "DELETE", "/moderation/pins", Moderator),
        endpoint_row(Gateway, "GET", "/moderation/revocations", Moderator),
        endpoint_row(Gateway, "POST", "/moderation/revocations", Moderator),
        endpoint_row(Gateway, "DELETE", "/moderation/revocations", Moderator),
        endpoint_row(Gateway, "GET", "/moderation/rules", Moderator),
        endpoint_row(Gateway, "POST", "/moderation/rules", Moderator),
        endpoint_row(Gateway, "DELETE", "/moderation/rules", Moderator),
        endpoint_row(Gateway, "GET", "/moderation/log", Moderator),
        endpoint_row(Gateway, "GET", "/operate", Operators),
        endpoint_row(Gateway, "POST", "/operate/what-if", Operators),
        endpoint_row(Gateway, "POST", "/operate/demo", Operators),
        endpoint_row(Gateway, "DELETE", "/operate/demo", Operators),
        endpoint_row(Gateway, "GET", "/connect", Public),
        endpoint_row(Gateway, "POST", "/connect", Public),
        endpoint_row(Gateway, "POST", "/register", Public),
        endpoint_row(Gateway, "GET", "/resolve/{videoid}", Public),
        endpoint_row(Gateway, "GET", "/statistics", Public),
        endpoint_row(Gateway, "POST", "/comment-api-statistics", Public),
        endpoint_row(Gateway, "POST", "/reader-api-statistics", Public),
        endpoint_row(Gateway, "POST", "/reader-api-manager-statistics", Public),
        endpoint_row(Gateway, "POST", "/client-statistics", Public),
        endpoint_row(Gateway, "GET", "/health", Public),
        endpoint_row(Gateway, "GET", "/openapi.json", Public),
        // This document describes the requests between our own processes; it gives no access to them.
        endpoint_row(Gateway, "GET", "/openapi-internal.json", Public),
        endpoint_row(Gateway, "GET", "/asyncapi.yaml", Public),
        endpoint_row(Gateway, "GET", "/asyncapi.json", Public),
        endpoint_row(Websocket, "GET", "/ws/videos", Viewers),
        endpoint_row(Websocket, "GET", "/ws/user/{user_id}", Viewers),
        endpoint_row(Websocket, "GET", "/health", Public),
        endpoint_row(Comment, "POST", "/comment", Viewers),
        endpoint_row(Comment, "GET", "/comments/{videoid}", Viewers),
        endpoint_row(Comment, "GET", "/statistics", Public),
        endpoint_row(Comment, "GET", "/health", Public),
        endpoint_row(Reader, "GET", "/connect", Viewers),
        endpoint_row(Reader, "POST", "/connect", Viewers),
        endpoint_row(Reader, "GET", "/health", Public),
        endpoint_row(Reader, "POST", "/warm", Ticket),
        endpoint_row(Manager, "POST", "/register", Public),
        endpoint_row(Manager, "GET", "/resolve/{videoid}", Public),
        endpoint_row(Manager, "GET", "/health", Public),
        endpoint_row(Manager, "POST", "/route", Roles(&[CallerRole::Gateway, CallerRole::Reader])),
        endpoint_row(
            Manager,
            "GET",
            "/viewers/{videoid}",
            Roles(&[CallerRole::Gateway, CallerRole::Operator, CallerRole::Cli]),
        ),
        endpoint_row(
            Manager,
            "POST",
            "/viewers",
            Roles(&[CallerRole::Gateway, CallerRole::Operator, CallerRole::Cli]),
        ),
        endpoint_row(Manager, "POST", "/heartbeat", Roles(&[CallerRole::Reader])),
        endpoint_row(Manager, "GET", "/load", PLANNER_DATA_ACCESS),
        endpoint_row(Manager, "GET", "/moves", PLANNER_DATA_ACCESS),
        endpoint_row(Manager, "GET", "/cordons", PLANNER_DATA_ACCESS),
        endpoint_row(Manager, "GET", "/plan", PLANNER_DATA_ACCESS),
        // How many viewers each video has, and never who they are. The gateway shows this to those who look after the
        // system.
        endpoint_row(
            Manager,
            "GET",
            "/overview",
            Roles(&[CallerRole::Gateway, CallerRole::Operator, CallerRole::Cli]),
        ),
        endpoint_row(
            Manager,
            "POST",
            "/what-if",
            Roles(&[CallerRole::Gateway, CallerRole::Operator, CallerRole::Cli]),
        ),
        endpoint_row(Manager, "POST", "/term", ORDER_ACCESS),
        endpoint_row(Manager, "POST", "/moves", ORDER_ACCESS),
        endpoint_row(Manager, "POST", "/cordons", ORDER_ACCESS),
        endpoint_row(
            Statistics,
            "GET",
            "/statistics",
            PartlyPublic(&[CallerRole::Operator, CallerRole::Cli]),
        ),
        endpoint_row(Statistics, "POST", "/comment-api-statistics", Public),
        endpoint_row(Statistics, "POST", "/reader-api-statistics", Public),
        endpoint_row(Statistics, "POST", "/reader-api-manager-statistics", Public),
        endpoint_row(Statistics, "POST", "/client-statistics", Public),
        endpoint_row(Statistics, "GET", "/health", Public),
    ]
};

/// Returns the endpoints that a service answers.
pub fn endpoints_of(service: CalledService) -> impl Iterator<Item = &'static Endpoint> {
    ENDPOINTS.iter().filter(move |endpoint| endpoint.service == service)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_process_of_the_table_of_roles_is_a_caller_and_every_one_with_a_port_a_service() {
        for role in roles::Role::ALL {
            assert_eq!(CallerRole::from(role).name(), role.name());
        }
        let answers = |role: &roles::Role| ENDPOINTS.iter().any(|row| row.service.name() == role.name());
        for role in roles::Role::ALL {
            assert_eq!(answers(&role), role.port().is_some(), "{}", role.name());
        }
        let others = CallerRole::ALL
            .into_iter()
            .filter(|role| roles::Role::ALL.iter().all(|it| CallerRole::from(*it) != *role));
        assert_eq!(others.collect::<Vec<_>>(), [CallerRole::Operator, CallerRole::Cli]);
    }

    #[test]
    fn callers_round_trip() {
        for role in CallerRole::ALL {
            let caller = KnownCaller::of_role(role)
                .unwrap_or_else(|| KnownCaller::reader(ReaderId::parse("r/1").unwrap()));
            assert_eq!(caller.to_string().parse(), Ok(caller.clone()));
        }
        for wrong in ["", "reader", "reader/", "Gateway", "gateway/1", "anybody"] {
            assert_eq!(wrong.parse::<KnownCaller>(), Err(UnknownCaller), "{wrong}");
        }
    }

    #[test]
    fn each_endpoint_has_one_row_and_a_path_is_public_or_it_is_not() {
        let is_open =
            |access: &Access| matches!(access, Access::Public | Access::Viewers | Access::PartlyPublic(_));
        for (at, one) in ENDPOINTS.iter().enumerate() {
            for other in &ENDPOINTS[at + 1..] {
                if (one.service, one.path) == (other.service, other.path) {
                    assert_ne!(one.method, other.method, "{one:?}");
                    assert_eq!(is_open(&one.access), is_open(&other.access), "CORS is by path: {one:?}");
                }
            }
        }
    }

    #[test]
    fn a_stolen_reader_credential_opens_what_a_reader_needs_and_nothing_else() {
        let opened: Vec<&str> = ENDPOINTS
            .iter()
            .filter(
                |endpoint| matches!(endpoint.access, Access::Roles(roles) if roles.contains(&CallerRole::Reader)),
            )
            .map(|endpoint| endpoint.path)
            .collect();
        assert_eq!(opened, ["/route", "/heartbeat"]);
    }

    #[test]
    fn nothing_internal_is_reached_through_the_front_door() {
        let for_viewers =
            |access: Access| matches!(access, Access::Public | Access::Moderator | Access::Operators);
        assert!(ENDPOINTS.iter().all(|endpoint| {
            let at_the_gateway = endpoint.service == CalledService::Gateway;
            for_viewers(endpoint.access) || !at_the_gateway
        }));
        let elsewhere = ENDPOINTS.iter().filter(|endpoint| endpoint.service != CalledService::Gateway);
        let persons = [Access::Moderator, Access::Operators];
        assert!(!elsewhere.clone().any(|endpoint| persons.contains(&endpoint.access)));
    }
}
