//! Whom a request is about, as its route and its parameters say before it is handled.

use actix_web::http::Method;

use super::params::Params;

/// Whom a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::http) enum Concerned {
    /// The person with this name.
    Person(String),
    /// Everybody in the gallery of the request's key.
    Everybody,
    /// Nobody, or whom the handler finds out.
    Unknown,
}

/// Returns whom a request with this method, route and query is about. `subject` is the name in the path.
pub(in crate::http) fn concerned(method: &Method, route: &str, subject: Option<String>, query: &str) -> Concerned {
    if let Some(subject) = subject {
        return Concerned::Person(subject);
    }
    let adds = *method == Method::POST;
    match route.trim_end_matches('/') {
        "/api/v1/recognition/subjects" if !adds => Concerned::Everybody,
        "/api/v1/recognition/faces" => match Params::parse(query).map(|params| params.subject) {
            Ok(Some(subject)) if !subject.trim().is_empty() => Concerned::Person(subject),
            // Only examples are listed without a subject if it is empty; without the parameter, all are deleted, too.
            Ok(Some(subject)) if *method == Method::GET && subject.is_empty() => Concerned::Everybody,
            Ok(None) if !adds => Concerned::Everybody,
            _ => Concerned::Unknown, // it is refused
        },
        _ => Concerned::Unknown,
    }
}
