//! Host and origin checks: pages of other sites must not reach this server through a visitor's browser.

use std::net::IpAddr;

use actix_web::{
    Error, HttpResponse,
    body::{BoxBody, EitherBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web,
};

use super::{
    error::{ErrorFormat, Problem},
    health,
    state::State,
};

/// Rejects requests from other origins and, on loopback, requests to other host names; used as middleware.
pub(super) async fn check<B: MessageBody>(
    req: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<EitherBody<B, BoxBody>>, Error> {
    match refusal(&req) {
        Some(response) => Ok(req.into_response(response).map_into_right_body()),
        None => Ok(next.call(req).await?.map_into_left_body()),
    }
}

/// Returns the response to a request that is rejected.
fn refusal(req: &ServiceRequest) -> Option<HttpResponse> {
    let text = |name| req.headers().get(name).map(|value: &header::HeaderValue| value.to_str().unwrap_or_default());
    let http = req.app_data::<web::Data<State>>().map(|state| &state.web.settings().http);
    let loopback = http.is_some_and(|http| http.listen.ip().is_loopback());
    let hosts = http.map_or(&[][..], |http| &http.hosts);
    let host = text(header::HOST);
    let problem = if !loopback && !is_allowed(host, hosts) && !health::ROUTES.contains(&req.path()) {
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "this server is not known by this host name (http.hosts)")
    } else if loopback && host.is_some_and(|host| !names_this_machine(host) && !is_listed(host, hosts)) {
        // DNS rebinding: an attacker's host name that resolves to 127.0.0.1.
        Problem::new(StatusCode::MISDIRECTED_REQUEST, "this server listens on loopback only; use http://localhost")
    } else if changes_state(req.method()) && text(header::ORIGIN).is_some_and(|origin| !same_host(origin, host)) {
        Problem::new(StatusCode::FORBIDDEN, "requests from pages of other sites are rejected (Origin is not this Host)")
    } else {
        return None;
    };
    Some(problem.close_connection(true).respond(ErrorFormat::of(req.path())))
}

/// Returns whether a request of this method may change state.
fn changes_state(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Returns whether a Host header is one of `hosts`, of which an empty list allows any.
fn is_allowed(host: Option<&str>, hosts: &[String]) -> bool {
    hosts.is_empty() || host.is_some_and(|host| is_listed(host, hosts))
}

fn is_listed(host: &str, hosts: &[String]) -> bool {
    hosts.iter().any(|listed| listed.eq_ignore_ascii_case(host))
}

/// Returns whether a Host header names the loopback interface, with any port.
fn names_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.strip_prefix('[').and_then(|v6| v6.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Returns whether an Origin header (`scheme://host[:port]`, or `null`) has this Host. The scheme may differ, because a
/// proxy may terminate TLS.
fn same_host(origin: &str, host: Option<&str>) -> bool {
    match (origin.split_once("://"), host) {
        (Some((_, authority)), Some(host)) => authority.eq_ignore_ascii_case(host),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_names_are_accepted() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:5000", "[::1]", "[::1]:8080"] {
            assert!(names_this_machine(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "evil.example:8080",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "10.0.0.1",
            "[2001:db8::1]:80",
        ] {
            assert!(!names_this_machine(host), "{host}");
        }
    }

    #[test]
    fn a_host_must_be_in_the_list_unless_it_is_empty() {
        let hosts = ["faces.example".to_owned(), "10.0.0.1:5000".to_owned()];
        for host in ["faces.example", "FACES.example", "10.0.0.1:5000"] {
            assert!(is_allowed(Some(host), &hosts), "{host}");
        }
        for host in [None, Some("evil.example"), Some("10.0.0.1"), Some("faces.example.evil")] {
            assert!(!is_allowed(host, &hosts), "{host:?}");
            assert!(is_allowed(host, &[]), "{host:?}");
        }
    }

    #[test]
    fn the_origin_must_be_the_host() {
        assert!(same_host("http://localhost:8080", Some("localhost:8080")));
        assert!(same_host("https://Faces.example", Some("faces.example")));
        for origin in ["null", "http://evil.example", "http://localhost:9000", "localhost:8080"] {
            assert!(!same_host(origin, Some("localhost:8080")), "{origin}");
        }
        assert!(!same_host("http://localhost", None));
    }
}
