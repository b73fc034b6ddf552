//! Builds the routers of a service from the table of endpoints, and checks for each request whether the table permits
//! its caller.

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{Method, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::MethodRouter;
use liverank_core::secret::Secret;
use liverank_protocol::access::{Access, CalledService, CallerRole, Endpoint, KnownCaller, endpoints_of};

use super::Identity;
use super::sent::{self, ForwardedUser};
use crate::Problem;
use crate::server::RequestExchange;

/// The endpoints of one service while its routers are being built.
pub struct RoutesByAccess<S> {
    service: CalledService,
    public: Router<S>,
    viewers: Router<S>,
    internal: Router<S>,
    endpoints_without_handler: Vec<&'static Endpoint>,
}

/// An extractor: the process that sent the request, for endpoints that answer some callers only in part. `None` if the
/// request shows no token.
#[derive(Debug, Clone, Default)]
pub struct OptionalCaller(pub Option<KnownCaller>);

impl OptionalCaller {
    /// Returns true if the caller is known and has one of these roles.
    pub fn has_any_role(&self, roles: &[CallerRole]) -> bool {
        self.0.as_ref().is_some_and(|caller| roles.contains(&caller.role()))
    }
}

/// The data by which the guard of one service admits or refuses a request.
struct ServiceGuard {
    service: CalledService,
    identity: Identity,
    ticket: Option<Secret>,
}

impl<S: Clone + Send + Sync + 'static> RoutesByAccess<S> {
    /// Begins the routers of `service`, with all endpoints of the table still to be added.
    pub fn of_service(service: CalledService) -> Self {
        let left = endpoints_of(service).collect();
        let (public, viewers, internal) = (Router::new(), Router::new(), Router::new());
        Self { service, public, viewers, internal, endpoints_without_handler: left }
    }

    /// Adds the handler `answer` for the endpoint `method` `path`. Panics if the table has no such row or the row was
    /// already added, a mistake that every test of the service finds.
    #[must_use]
    pub fn add_route(mut self, method: &'static str, path: &'static str, answer: MethodRouter<S>) -> Self {
        let at =
            self.endpoints_without_handler.iter().position(|row| (row.method, row.path) == (method, path));
        let row = self
            .endpoints_without_handler
            .remove(at.unwrap_or_else(|| panic!("{method} {path} has no row in the table")));
        let router = match row.access {
            Access::Public => &mut self.public,
            Access::Viewers => &mut self.viewers,
            Access::PartlyPublic(_)
            | Access::Roles(_)
            | Access::Ticket
            | Access::Moderator
            | Access::Operators => &mut self.internal,
        };
        *router = std::mem::take(router).route(path, answer);
        self
    }

    /// Adds the handler of `GET path`; panics as [`RoutesByAccess::add_route`] does.
    #[must_use]
    pub fn get(self, path: &'static str, answer: MethodRouter<S>) -> Self {
        self.add_route("GET", path, answer)
    }

    /// Adds the handler of `POST path`; panics as [`RoutesByAccess::add_route`] does.
    #[must_use]
    pub fn post(self, path: &'static str, answer: MethodRouter<S>) -> Self {
        self.add_route("POST", path, answer)
    }

    /// Returns two routers: one with the endpoints for the public and for viewers, one with the endpoints for other
    /// processes; endpoints that are not public are behind the guard. `ticket` is the secret that managers must show
    /// this process. Panics if a row of the table has no handler.
    pub fn into_guarded_routers(self, identity: &Identity, ticket: Option<Secret>) -> (Router<S>, Router<S>) {
        assert!(
            self.endpoints_without_handler.is_empty(),
            "rows of the table that nothing answers: {:?}",
            self.endpoints_without_handler
        );
        let guard = Arc::new(ServiceGuard { service: self.service, identity: identity.clone(), ticket });
        // axum refuses a route layer on a router without routes, and a service may have no routes of one kind.
        let guarded = |router: Router<S>| {
            if router.has_routes() {
                router.route_layer(from_fn_with_state(Arc::clone(&guard), check_request))
            } else {
                router
            }
        };
        (self.public.merge(guarded(self.viewers)), guarded(self.internal))
    }
}

async fn check_request(
    State(guard): State<Arc<ServiceGuard>>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    if let Some(allow) = guard.allowed_methods(path.as_str(), &request) {
        // Without a body, as axum's own answer, so that
        // [`no_such_method_problem`](crate::problem::no_such_method_problem) adds the text.
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, allow)]).into_response();
    }
    match guard.admit_request(path.as_str(), &request) {
        Ok(known) => {
            if known.has_any_role(&[CallerRole::Gateway]) {
                let sent = ForwardedUser::from_gateway_headers(request.headers());
                request.extensions_mut().insert(sent);
                if let Some(exchange) = request.extensions().get::<RequestExchange>() {
                    exchange.note_sent_by_gateway();
                }
            }
            request.extensions_mut().insert(known);
            next.run(request).await
        }
        Err(problem) => {
            tracing::debug!(
                service = guard.service.name(),
                path = path.as_str(),
                status = problem.status().as_u16(),
                detail = problem.detail(),
                "a caller was turned away"
            );
            problem.into_response()
        }
    }
}

impl ServiceGuard {
    /// Returns the methods that the table has for `path`, as the value of an `Allow` header; `None` if the request's
    /// method is one of them or the path has no rows.
    fn allowed_methods(&self, path: &str, request: &Request) -> Option<String> {
        let rows = endpoints_of(self.service).filter(|row| row.path == path).map(|row| row.method);
        let allowed: Vec<&str> = rows
            .flat_map(|method| std::iter::once(method).chain((method == "GET").then_some("HEAD")))
            .collect();
        let is_other = !allowed.is_empty() && !allowed.contains(&request.method().as_str());
        is_other.then(|| allowed.join(","))
    }

    /// Returns the caller that sent the request. Refuses a caller that the table does not permit with 401 or 403.
    fn admit_request(&self, path: &str, request: &Request) -> Result<OptionalCaller, Problem> {
        // axum answers HEAD by the handler of GET.
        let method = if request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
        let row = endpoints_of(self.service).find(|row| (row.method, row.path) == (method, path));
        let Some(row) = row else { return Err(forbidden_problem("nobody may ask for this".to_owned())) };
        match row.access {
            Access::Public => Ok(OptionalCaller::default()),
            Access::Viewers if !self.identity.requires_gateway_for_viewers() => Ok(OptionalCaller::default()),
            // The handler checks the user and the video of the pass. A request without any pass is refused before it is
            // read.
            Access::Viewers if self.service == CalledService::Reader => {
                let is_shown = request.headers().contains_key(sent::PASS_HEADER);
                if is_shown { Ok(OptionalCaller::default()) } else { Err(sent::missing_pass_problem()) }
            }
            Access::Viewers => self.admit_role(&[CallerRole::Gateway], request),
            Access::PartlyPublic(_) => {
                self.identity.caller_of_request(request.headers(), self.service).map(OptionalCaller)
            }
            Access::Ticket => self.admit_ticket(request),
            // Only the gateway knows viewers, and so moderators and operators.
            Access::Moderator | Access::Operators => {
                Err(forbidden_problem("this is asked of the gateway".to_owned()))
            }
            Access::Roles(roles) => self.admit_role(roles, request),
        }
    }

    fn admit_role(&self, roles: &[CallerRole], request: &Request) -> Result<OptionalCaller, Problem> {
        let caller = self.identity.caller_of_request(request.headers(), self.service)?;
        let caller =
            caller.ok_or_else(|| unauthorized_problem("this takes a token of one of our processes"))?;
        if !roles.contains(&caller.role()) {
            return Err(forbidden_problem(format!("{caller} may not ask for this")));
        }
        Ok(OptionalCaller(Some(caller)))
    }

    fn admit_ticket(&self, request: &Request) -> Result<OptionalCaller, Problem> {
        let shown = request.headers().get(header::AUTHORIZATION).map_or(&[][..], |value| value.as_bytes());
        let shown = shown.strip_prefix(b"Bearer ").unwrap_or_default();
        if self.ticket.as_ref().is_some_and(|ticket| ticket.matches(shown)) {
            return Ok(OptionalCaller(KnownCaller::of_role(CallerRole::Manager)));
        }
        Err(unauthorized_problem("this takes the ticket that this process gave its managers"))
    }
}

fn unauthorized_problem(detail: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail).with_challenge("Bearer")
}

fn forbidden_problem(detail: String) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, detail)
}
