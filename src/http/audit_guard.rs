//! Writes the audit log: each change before it begins and when it has ended, each look when it has ended.

use std::str::FromStr;

use actix_web::{
    Error, HttpMessage as _, HttpRequest,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode},
    middleware::Next,
    web,
};
use percent_encoding::percent_decode_str;

use super::{
    access::{self, COMPREFACE, caller},
    client_address::client_address,
    compreface::{Concerned, concerned},
    error::{ErrorFormat, Problem},
    gallery_query::gallery,
    state::State,
};
use crate::{
    audit::{Actor, Entry, NotAudited, Outcome},
    clock::now_ms,
    inference::gallery::PhotoId,
    job::JobId,
    pseudonyms::Pseudonym,
    recognition::{GalleryName, UNKNOWN},
};

/// Why a request is audited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reason {
    /// It changes what is stored of people. It is refused if that cannot be written down first.
    Change,
    /// It returns what is stored of people.
    Look,
}

/// Returns why a request is audited; `None` if it is not.
fn reason(method: &Method, path: &str) -> Option<Reason> {
    let reads = matches!(*method, Method::GET | Method::HEAD);
    match path {
        _ if access::needs_admin(method, path) => Some(if reads { Reason::Look } else { Reason::Change }),
        "/v1/people" | "/v1/galleries" if reads => Some(Reason::Look),
        _ if reads && path.starts_with(COMPREFACE) => Some(Reason::Look),
        _ if reads && path.starts_with("/v1/recognitions/") => Some(Reason::Look),
        _ => None,
    }
}

/// The route of results.
const RESULT: &str = "/v1/recognitions/{id}";

/// The people whom a response is about, as its handler has found out.
struct Seen(Vec<Pseudonym>);

/// The entry of a change that has begun.
struct Begun(Entry);

/// Tells the audit log whom the response to a request is about, in addition to whom it was told before.
pub(super) fn seen<'a>(req: &HttpRequest, state: &State, gallery: &GalleryName, names: impl Iterator<Item = &'a str>) {
    let known = names.filter(|name| *name != UNKNOWN);
    let mut people = req.extensions_mut().remove::<Seen>().map_or_else(Vec::new, |Seen(people)| people);
    for name in known.map(|name| state.audit.pseudonym(gallery, name)) {
        if !people.contains(&name) {
            people.push(name);
        }
    }
    req.extensions_mut().insert(Seen(people));
}

/// Writes down that a change, which has begun, is about to concern these people, whom its handler has found out.
///
/// # Errors
/// It cannot be written down, so nobody may be changed.
pub(super) async fn begins(
    req: &HttpRequest,
    state: &State,
    gallery: &GalleryName,
    names: &[String],
) -> Result<(), NotAudited> {
    seen(req, state, gallery, names.iter().map(String::as_str));
    let begun = req.extensions().get::<Begun>().map(|Begun(entry)| entry.clone());
    let Some(mut entry) = begun else { return Ok(()) }; // what is no change has nothing to write down
    entry.people = names.iter().map(|name| state.audit.pseudonym(gallery, name)).collect();
    entry.at = crate::audit::time(now_ms());
    state.audit.written(entry).await
}

/// Writes the audit log; used as middleware, after access was granted.
pub(super) async fn check<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    let state = req.app_data::<web::Data<State>>().cloned();
    // What is no route does nothing.
    let (Some(state), Some(route), Some(reason)) = (state, req.match_pattern(), reason(req.method(), req.path()))
    else {
        return Ok(next.call(req).await?.map_into_left_body());
    };
    let entry = entry(req.request(), &state, &route);
    if reason == Reason::Change
        && let Err(error) = state.audit.written(entry.clone()).await
    {
        let response = Problem::from(error).close_connection(true).respond(ErrorFormat::of(req.path()));
        return Ok(req.into_response(response).map_into_right_body());
    }
    req.extensions_mut().insert(Begun(entry.clone()));
    let response = next.call(req).await;
    let status = match &response {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let mut ended = entry;
    match response.as_ref().ok().and_then(|response| response.request().extensions_mut().remove::<Seen>()) {
        Some(Seen(people)) => ended.people = people,
        // A client that asks until its job is done has seen nobody yet.
        None if route == RESULT && reason == Reason::Look => return Ok(response?.map_into_left_body()),
        None => {}
    }
    (ended.at, ended.outcome) = (crate::audit::time(now_ms()), Outcome::Status(status.as_u16()));
    state.audit.record(ended);
    Ok(response?.map_into_left_body())
}

/// Returns the entry of a request that is about to begin.
fn entry(req: &HttpRequest, state: &State, route: &str) -> Entry {
    let caller = caller(req);
    let by = match (caller.token, caller.role) {
        (Some(id), Some(role)) => Actor::Token { id: id.to_string(), role },
        _ if caller.anonymous => Actor::Anonymous,
        _ => Actor::Local,
    };
    let mut entry = Entry::new(now_ms(), by, format!("{} {route}", req.method()), Outcome::Begun);
    entry.from = client_address(req, &state.web.settings().http);
    let in_path = |name| segment(route, req.path(), name);
    if route.starts_with(COMPREFACE) {
        let gallery = caller.gallery;
        match concerned(req.method(), route, in_path("{subject}"), req.query_string()) {
            Concerned::Person(name) => entry.people = vec![state.audit.pseudonym(&gallery, &name)],
            Concerned::Everybody => entry.everybody = true,
            Concerned::Unknown => {}
        }
        entry.gallery = Some(gallery);
        entry.id = id::<PhotoId>(in_path("{id}"));
    } else if route.starts_with("/v1/people") {
        entry.gallery = gallery(req).ok(); // one that is not valid is refused
        entry.everybody = route == "/v1/people" && *req.method() == Method::GET;
        if let (Some(gallery), Some(name)) = (&entry.gallery, in_path("{name}")) {
            entry.people = vec![state.audit.pseudonym(gallery, &name)];
        }
    } else {
        entry.id = id::<JobId>(in_path("{id}"));
    }
    entry
}

/// Returns what a path has in the place of a parameter of its route, such as `{id}`.
fn segment(route: &str, path: &str, parameter: &str) -> Option<String> {
    let (_, given) = route.split('/').zip(path.split('/')).find(|(part, _)| *part == parameter)?;
    Some(percent_decode_str(given).decode_utf8_lossy().into_owned())
}

/// Returns an id of some kind as text; never what is no id.
fn id<T: FromStr + ToString>(given: Option<String>) -> Option<String> {
    given?.parse::<T>().ok().map(|id| id.to_string())
}

impl From<NotAudited> for Problem {
    fn from(error: NotAudited) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_concerns_people_is_audited_and_uploads_and_metrics_are_not() {
        let (get, post, delete) = (Method::GET, Method::POST, Method::DELETE);
        for (method, path, expected) in [
            (&post, "/v1/people", Some(Reason::Change)),
            (&delete, "/v1/people/Ada", Some(Reason::Change)),
            (&post, "/v1/people/Ada/rejections", Some(Reason::Change)),
            (&delete, "/v1/recognitions/01M864JVNGTP55MXPP8BHGACKE", Some(Reason::Change)),
            (&post, "/v1/dead-letters/01M864JVNGTP55MXPP8BHGACKE", Some(Reason::Change)),
            (&delete, "/v1/dead-letters/01M864JVNGTP55MXPP8BHGACKE", Some(Reason::Change)),
            (&get, "/v1/people", Some(Reason::Look)),
            (&get, "/v1/galleries", Some(Reason::Look)),
            (&get, "/v1/dead-letters", Some(Reason::Look)),
            (&get, "/v1/dead-letters/01M864JVNGTP55MXPP8BHGACKE", Some(Reason::Look)),
            (&get, "/v1/backup", Some(Reason::Look)),
            (&get, "/v1/recognitions/01M864JVNGTP55MXPP8BHGACKE", Some(Reason::Look)),
            (&post, "/api/v1/recognition/faces", Some(Reason::Change)),
            (&delete, "/api/v1/recognition/faces", Some(Reason::Change)),
            (&post, "/api/v1/recognition/faces/delete", Some(Reason::Change)),
            (&get, "/api/v1/recognition/subjects", Some(Reason::Look)),
            (&get, "/api/v1/static/key/images/6b135f5b-a365-8522-b1f1-4c9ac2dd0728", Some(Reason::Look)),
            (&post, "/api/v1/recognition/recognize", None),
            (&post, "/api/v1/verification/verify", None),
            (&post, "/v1/recognitions", None),
            (&post, "/", None),
            (&get, "/", None),
            (&get, "/metrics", None),
            (&get, "/v1/fleet", None),
            (&get, "/healthz", None),
        ] {
            assert_eq!(reason(method, path), expected, "{method} {path}");
        }
    }
}
