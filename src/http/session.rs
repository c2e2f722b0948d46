//! `/v1/session`: the page signs in with a token, and out again.

use actix_web::{
    HttpRequest, HttpResponse,
    cookie::{Cookie, SameSite},
    http::header,
    web,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    access::{COOKIE, NOT_VALID, Sent, sent, unauthorized},
    client_address::is_https,
    error::Problem,
    openapi::Problems,
    state::State,
};
use crate::access::Role;

/// Who may do what.
#[derive(Serialize, ToSchema)]
struct Session {
    /// Whether requests need a token.
    access_control: bool,
    /// The role of the request's token, if it has a valid one.
    #[schema(required)]
    role: Option<Role>,
    /// The role of requests without a token, if they have one.
    #[schema(required)]
    anonymous: Option<Role>,
}

/// The role of whoever has signed in.
#[derive(Serialize, ToSchema)]
struct SignedIn {
    role: Role,
}

/// `GET /v1/session`: returns whether this server has access control, the role of the request's token, and that of
/// requests without one.
#[utoipa::path(
    get, path = "/v1/session", operation_id = "session_show", tag = "Server", summary = "Show the role of the request",
    responses((status = 200, description = "Whether there is access control, and the roles", body = Session), Problems)
)]
pub(super) async fn show(req: HttpRequest, state: web::Data<State>) -> HttpResponse {
    let access = &state.access;
    let role = match sent(&req) {
        Sent::Token(token) => access.find(&token).await.map(|record| record.role),
        Sent::Nothing | Sent::Other => None,
    };
    let on = access.is_on(&req).await;
    HttpResponse::Ok().json(Session { access_control: on, role, anonymous: access.anonymous() })
}

/// `POST /v1/session`: sets a cookie with the request's token, which the page signs in with.
#[utoipa::path(
    post, path = "/v1/session", operation_id = "session_sign_in", tag = "Server", summary = "Sign the page in with a token", security(("token" = [])),
    responses((status = 200, description = "A cookie with the token is set", body = SignedIn), Problems)
)]
pub(super) async fn sign_in(req: HttpRequest, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let token = match sent(&req) {
        Sent::Token(token) => token,
        Sent::Other => return Err(unauthorized(NOT_VALID)),
        Sent::Nothing => return Err(unauthorized("send the token as Authorization: Bearer TOKEN")),
    };
    let record = state.access.find(&token).await.ok_or_else(|| unauthorized(NOT_VALID))?;
    // A proxy that terminates TLS may not say so, but the page knows its own origin.
    let origin = req.headers().get(header::ORIGIN).and_then(|origin| origin.to_str().ok());
    let secure = is_https(&req, &state.web.settings().http) || origin.is_some_and(|o| o.starts_with("https://"));
    Ok(HttpResponse::Ok().cookie(cookie(token.reveal(), secure)).json(SignedIn { role: record.role }))
}

/// `DELETE /v1/session`: removes the cookie.
#[utoipa::path(
    delete, path = "/v1/session", operation_id = "session_sign_out", tag = "Server", summary = "Sign the page out",
    responses((status = 204, description = "The cookie is removed"), Problems)
)]
pub(super) async fn sign_out() -> HttpResponse {
    let mut removal = cookie(String::new(), false);
    removal.make_removal();
    HttpResponse::NoContent().cookie(removal).finish()
}

fn cookie(value: String, secure: bool) -> Cookie<'static> {
    Cookie::build(COOKIE, value).path("/").http_only(true).same_site(SameSite::Strict).secure(secure).finish()
}
