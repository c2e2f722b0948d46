//! Access control: which routes need which role, and whether a request has it.

use actix_web::{
    HttpMessage as _, HttpRequest,
    http::{Method, StatusCode, header},
};

use super::{code, error::Problem};
use crate::{
    access::{Record, Role, Token, TokenId, Tokens},
    recognition::GalleryName,
    settings::{Anonymous, Http},
};

/// Cookie with the token, by which the page signs in: its event stream cannot send other headers.
pub(super) const COOKIE: &str = "rollcall-token";
/// Header with the token, in the API of CompreFace.
const API_KEY: &str = "x-api-key";
/// What the paths of the API of CompreFace begin with.
pub(super) const COMPREFACE: &str = "/api/v1/";
/// What its paths begin with that contain the token, because browsers request them as images.
const STATIC: &str = "/api/v1/static/";
/// Headers by which a proxy says that it has forwarded a request. One that comes from a proxy on this machine is not
/// local.
const FORWARDED: [&str; 5] = ["forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"];

/// Decides who may do what on this server.
pub struct AccessControl {
    tokens: Tokens,
    anonymous: Anonymous,
    /// Whether only this machine can reach the server, as far as its settings tell.
    local: bool,
}

/// Who sends a request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Caller {
    /// `None` without a token.
    pub token: Option<TokenId>,
    /// The role of the token.
    pub role: Option<Role>,
    /// Whether a token would be needed, and `http.anonymous` allows the request without one.
    pub anonymous: bool,
    /// The gallery to which the token is bound; the default one if it is bound to none.
    pub gallery: GalleryName,
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
        "/" | "/fleet" if reads => Needed::Nothing,
        "/" => Needed::OneOf(UPLOAD),
        "/api" | "/v1/openapi.json" if reads => Needed::Nothing,
        _ if reads && path.starts_with("/assets/") => Needed::Nothing,
        "/v1/recognitions" => Needed::OneOf(UPLOAD),
        _ if reads && path.starts_with("/v1/recognitions/") => Needed::OneOf(ANY),
        "/v1/people" | "/v1/galleries" | "/v1/events" | "/metrics" if reads => Needed::OneOf(READ),
        "/v1/fleet" | "/v1/fleet/decisions" | "/v1/fleet/history" if reads => Needed::OneOf(READ),
        _ if reads && path.starts_with(COMPREFACE) => Needed::OneOf(READ),
        _ if *method == Method::POST && compares(path) => Needed::OneOf(UPLOAD),
        _ => Needed::OneOf(ADMIN),
    }
}

/// Returns whether POST to a path of the API of CompreFace only compares what is sent with what is known, as an upload
/// does.
fn compares(path: &str) -> bool {
    let segments: Vec<&str> = path.strip_prefix(COMPREFACE).unwrap_or_default().split('/').collect();
    matches!(
        segments[..],
        ["recognition", "recognize"]
            | ["recognition", "embeddings", "recognize"]
            | ["recognition", "faces", _, "verify"]
            | ["recognition", "embeddings", "faces", _, "verify"]
            | ["detection", "detect"]
            | ["verification", "verify"]
            | ["verification", "embeddings", "verify"]
    )
}

/// Returns whether only an administrator may send a request.
pub(super) fn needs_admin(method: &Method, path: &str) -> bool {
    matches!(needed(method, path), Needed::OneOf([Role::Admin]))
}

/// Whether a request may pass.
pub(super) enum Decision {
    Pass(Caller),
    Refuse(Problem),
}

impl AccessControl {
    /// Creates the access control of a server with these settings.
    pub fn new(tokens: Tokens, http: &Http) -> Self {
        Self { tokens, anonymous: http.anonymous, local: http.is_local() }
    }

    /// Returns whether a request needs a token: always, except on loopback as long as no token was created, and if no
    /// proxy has forwarded it.
    pub(super) async fn is_on(&self, req: &HttpRequest) -> bool {
        !self.local || FORWARDED.iter().any(|name| req.headers().contains_key(*name)) || self.tokens.any().await
    }

    /// Returns the record of a token, if it is valid.
    pub(super) async fn find(&self, token: &Token) -> Option<Record> {
        self.tokens.find(token).await
    }

    /// Returns the role of requests without a token, if they have one.
    pub(super) fn anonymous(&self) -> Option<Role> {
        (self.anonymous == Anonymous::Upload).then_some(Role::Upload)
    }

    /// Returns whether a request has the role that it needs.
    pub(super) async fn decide(&self, req: &HttpRequest) -> Decision {
        let Needed::OneOf(roles) = needed(req.method(), req.path()) else { return Decision::Pass(Caller::default()) };
        if req.path().starts_with(COMPREFACE) {
            return self.decide_by_key(req, roles).await;
        }
        if !self.is_on(req).await {
            return Decision::Pass(Caller::default());
        }
        let sent = sent(req);
        let anybody = self.anonymous == Anonymous::Upload && roles.contains(&Role::Upload);
        let names = || roles.iter().map(Role::to_string).collect::<Vec<_>>().join(" or ");
        let record = match &sent {
            Sent::Nothing if !anybody => {
                return Decision::Refuse(unauthorized(format!(
                    "this needs a token with the role {}; send it as Authorization: Bearer TOKEN (rollcall token \
                     create makes one)",
                    names()
                )));
            }
            Sent::Token(token) => self.tokens.find(token).await,
            Sent::Nothing | Sent::Other => None,
        };
        match record {
            Some(Record { gallery: Some(gallery), .. }) => {
                let why = format!("this token is bound to the gallery {gallery}: it is a key for {COMPREFACE}… only");
                Decision::Refuse(Problem::new(StatusCode::FORBIDDEN, why))
            }
            Some(record) if roles.contains(&record.role) => {
                let (token, role) = (Some(record.id), Some(record.role));
                Decision::Pass(Caller { token, role, ..Caller::default() })
            }
            _ if anybody => Decision::Pass(Caller { anonymous: true, ..Caller::default() }),
            Some(record) => {
                let why = format!("the role of this token is {}; this needs {}", record.role, names());
                Decision::Refuse(Problem::new(StatusCode::FORBIDDEN, why))
            }
            None => Decision::Refuse(unauthorized(NOT_VALID)),
        }
    }
}

impl AccessControl {
    /// Returns whether a request to the API of CompreFace has a key with the role that it needs. A key is always needed,
    /// as with CompreFace; without access control, any text is one, and stands for the default gallery.
    async fn decide_by_key(&self, req: &HttpRequest, roles: &[Role]) -> Decision {
        let Some(key) = api_key(req) else {
            let missing = Problem::bad_request(format!("Missing header: {API_KEY}"));
            return Decision::Refuse(missing.code(code::MISSING_HEADER));
        };
        if !self.is_on(req).await {
            return Decision::Pass(Caller::default());
        }
        let Ok(token) = key.parse::<Token>() else {
            let why = "the API key is not a token of this server; rollcall token create --gallery NAME makes one";
            return Decision::Refuse(Problem::bad_request(why).code(code::INVALID));
        };
        match self.tokens.find(&token).await {
            None => Decision::Refuse(Problem::not_found("service with this API key not found").code(code::NO_SERVICE)),
            Some(record) if roles.contains(&record.role) => {
                let (token, role, gallery) = (Some(record.id), Some(record.role), record.gallery.unwrap_or_default());
                Decision::Pass(Caller { token, role, anonymous: false, gallery })
            }
            Some(record) => {
                let names = roles.iter().map(Role::to_string).collect::<Vec<_>>().join(" or ");
                let why = format!("the role of this API key is {}; this needs {names}", record.role);
                Decision::Refuse(Problem::new(StatusCode::FORBIDDEN, why).code(code::DENIED))
            }
        }
    }
}

/// Returns the key in the header of a request to the API of CompreFace or, where browsers cannot send one, in its path.
fn api_key(req: &HttpRequest) -> Option<&str> {
    match req.path().strip_prefix(STATIC) {
        Some(rest) => rest.split('/').next(),
        None => req.headers().get(API_KEY)?.to_str().ok(),
    }
}

pub(super) const NOT_VALID: &str = "the token is not valid; it may have been revoked";

pub(super) fn unauthorized(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, detail)
}

/// What a request has sent in place of a token.
pub(super) enum Sent {
    Nothing,
    Token(Token),
    /// Something that is not a token.
    Other,
}

/// Returns the token in the Authorization header or, without one, in the cookie.
pub(super) fn sent(req: &HttpRequest) -> Sent {
    let of = |text: &str| text.parse().map_or(Sent::Other, Sent::Token);
    // Other schemes are those of a proxy.
    let authorization = req.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    if let Some((_, token)) = authorization
        .and_then(|value| value.split_once(' '))
        .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
    {
        return of(token.trim());
    }
    req.cookie(COOKIE).map_or(Sent::Nothing, |cookie| of(cookie.value()))
}

/// Returns who sends a request.
pub(super) fn caller(req: &HttpRequest) -> Caller {
    req.extensions().get::<Caller>().cloned().unwrap_or_default()
}
