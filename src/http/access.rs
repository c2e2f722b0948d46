//! Access control: which routes need which role, and whether a request has it. Used as middleware.

use actix_web::{
    Error, HttpMessage as _, HttpRequest, HttpResponse,
    body::{BoxBody, EitherBody, MessageBody},
    cookie::{Cookie, SameSite},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web,
};
use serde_json::json;

use super::{
    error::{ErrorFormat, Problem},
    state::State,
};
use crate::{
    access::{Role, Token, TokenId, Tokens},
    settings::{Anonymous, Http},
};

/// Cookie with the token, by which the page signs in: its event stream cannot send other headers.
const COOKIE: &str = "rollcall-token";

/// Decides who may do what on this server.
pub struct AccessControl {
    tokens: Tokens,
    anonymous: Anonymous,
    loopback: bool,
}

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// `None` without a token.
    pub token: Option<TokenId>,
}

/// What a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needed {
    Nothing,
    OneOf(&'static [Role]),
}

/// Returns what a request needs. A route that is not listed needs the role of an administrator.
fn needed(method: &Method, path: &str) -> Needed {
    const UPLOAD: &[Role] = &[Role::Upload, Role::Admin];
    const READ: &[Role] = &[Role::Read, Role::Admin];
    const ANY: &[Role] = &[Role::Upload, Role::Read, Role::Admin];
    const ADMIN: &[Role] = &[Role::Admin];
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        "/healthz" | "/readyz" | "/v1/session" => Needed::Nothing,
        "/" if reads => Needed::Nothing,
        "/" => Needed::OneOf(UPLOAD),
        _ if reads && path.starts_with("/assets/") => Needed::Nothing,
        "/v1/recognitions" => Needed::OneOf(UPLOAD),
        _ if reads && path.starts_with("/v1/recognitions/") => Needed::OneOf(ANY),
        "/v1/people" | "/v1/galleries" | "/v1/fleet" | "/v1/fleet/decisions" | "/v1/events" | "/metrics" if reads => {
            Needed::OneOf(READ)
        }
        _ => Needed::OneOf(ADMIN),
    }
}

/// Whether a request may pass.
enum Decision {
    Pass(Caller),
    Refuse(Problem),
}

impl AccessControl {
    /// Creates the access control of a server with these settings.
    pub fn new(tokens: Tokens, http: &Http) -> Self {
        Self { tokens, anonymous: http.anonymous, loopback: http.listen.ip().is_loopback() }
    }

    /// Returns whether requests need a token: always, except on loopback as long as no token was created.
    async fn is_on(&self) -> bool {
        !self.loopback || self.tokens.any().await
    }

    async fn decide(&self, method: &Method, path: &str, sent: Sent) -> Decision {
        let Needed::OneOf(roles) = needed(method, path) else { return Decision::Pass(Caller::default()) };
        if !self.is_on().await {
            return Decision::Pass(Caller::default());
        }
        let names = || roles.iter().map(Role::to_string).collect::<Vec<_>>().join(" or ");
        let record = match &sent {
            Sent::Nothing if self.anonymous == Anonymous::Upload && roles.contains(&Role::Upload) => {
                return Decision::Pass(Caller::default());
            }
            Sent::Nothing => {
                return Decision::Refuse(unauthorized(format!(
                    "this needs a token with the role {}; send it as Authorization: Bearer TOKEN (rollcall token \
                     create makes one)",
                    names()
                )));
            }
            Sent::Token(token) => self.tokens.find(token).await,
            Sent::Other => None,
        };
        match record {
            Some(record) if roles.contains(&record.role) => Decision::Pass(Caller { token: Some(record.id) }),
            Some(record) => {
                let why = format!("the role of this token is {}; this needs {}", record.role, names());
                Decision::Refuse(Problem::new(StatusCode::FORBIDDEN, why))
            }
            None => Decision::Refuse(unauthorized("the token is not valid; it may have been revoked")),
        }
    }
}

fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// What a request has sent in place of a token.
enum Sent {
    Nothing,
    Token(Token),
    /// Something that is not a token.
    Other,
}

/// Returns the token in the Authorization header or, without one, in the cookie.
fn sent(req: &HttpRequest) -> Sent {
    let of = |text: &str| text.parse().map_or(Sent::Other, Sent::Token);
    if let Some(value) = req.headers().get(header::AUTHORIZATION) {
        let bearer = value.to_str().ok().and_then(|value| value.split_once(' '));
        return match bearer {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => of(token.trim()),
            _ => Sent::Other,
        };
    }
    req.cookie(COOKIE).map_or(Sent::Nothing, |cookie| of(cookie.value()))
}

/// Refuses requests that lack a role; used as middleware.
pub(super) async fn check<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let Some(state) = req.app_data::<web::Data<State>>().cloned() else {
        return Ok(next.call(req).await?.map_into_left_body());
    };
    match state.access.decide(req.method(), req.path(), sent(req.request())).await {
        Decision::Pass(caller) => {
            req.extensions_mut().insert(caller);
            Ok(next.call(req).await?.map_into_left_body())
        }
        Decision::Refuse(problem) => {
            let mut response = problem.close_connection(true).respond(ErrorFormat::of(req.path()));
            if response.status() == StatusCode::UNAUTHORIZED {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
            }
            Ok(req.into_response(response).map_into_right_body())
        }
    }
}

/// Returns who sends a request.
pub(super) fn caller(req: &HttpRequest) -> Caller {
    req.extensions().get::<Caller>().cloned().unwrap_or_default()
}

/// `GET /v1/session`: returns whether this server has access control, and the role of the request's token.
pub(super) async fn session(req: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let access = &state.access;
    let role = match sent(&req) {
        Sent::Token(token) => access.tokens.find(&token).await.map(|record| record.role),
        Sent::Nothing | Sent::Other => None,
    };
    let anonymous = (access.anonymous == Anonymous::Upload).then_some(Role::Upload);
    HttpResponse::Ok().json(json!({ "access_control": access.is_on().await, "role": role.or(anonymous) }))
}

/// `POST /v1/session`: sets a cookie with the request's token, which the page signs in with.
pub(super) async fn sign_in(req: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let Sent::Token(token) = sent(&req) else {
        return Err(unauthorized("send the token as Authorization: Bearer TOKEN"));
    };
    let record = state.access.tokens.find(&token).await;
    let record = record.ok_or_else(|| unauthorized("the token is not valid; it may have been revoked"))?;
    let secure = req.connection_info().scheme() == "https";
    Ok(HttpResponse::Ok().cookie(cookie(token.reveal(), secure)).json(json!({ "role": record.role })))
}

/// `DELETE /v1/session`: removes the cookie.
pub(super) async fn sign_out() -> HttpResponse {
    let mut removal = cookie(String::new(), false);
    removal.make_removal();
    HttpResponse::NoContent().cookie(removal).finish()
}

fn cookie(value: String, secure: bool) -> Cookie<'static> {
    Cookie::build(COOKIE, value).path("/").http_only(true).same_site(SameSite::Strict).secure(secure).finish()
}
