//! What every request passes: protection against other sites' pages, and counting.
//!
//! There is no login, so a page of another site must not be able to act through a visitor's browser. A changing request
//! whose `Origin` is not this server is refused. A server on loopback also refuses other host names, which is what a
//! DNS-rebinding page would send.

use std::net::IpAddr;

use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
    web::Data,
};
use tokio::time::Instant;

use super::error::ApiError;
use crate::actors::web_tier::WebTier;

/// Refuses what comes from other sites.
pub async fn same_site(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let text = |name| request.headers().get(name).and_then(|v| v.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let local = request.app_data::<Data<WebTier>>().is_some_and(|web| web.settings().http.listen.ip().is_loopback());
    if local && !is_loopback(host) {
        let detail = "this server only answers to localhost; set http.listen to serve others";
        return Err(ApiError::new(StatusCode::MISDIRECTED_REQUEST, detail).into());
    }
    let safe = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let foreign = text(header::ORIGIN).is_some_and(|origin| origin.split("://").nth(1) != Some(host));
    if !safe && foreign {
        return Err(ApiError::new(StatusCode::FORBIDDEN, "requests from other sites' pages are refused").into());
    }
    next.call(request).await
}

/// Whether a `Host` header (with or without a port) names this machine's loopback.
fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

/// Counts and times requests by route.
pub async fn counted(
    request: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let start = Instant::now();
    let route = request.match_pattern().unwrap_or_else(|| "none".to_owned());
    let method = request.method().to_string();
    let result = next.call(request).await;
    let status = match &result {
        Ok(response) => response.status(),
        Err(error) => error.as_response_error().status_code(),
    };
    let labels = [("route", route), ("method", method), ("status", status.as_str().to_owned())];
    metrics::counter!("rollcall_http_requests_total", &labels).increment(1);
    metrics::histogram!("rollcall_http_seconds", &labels).record(start.elapsed().as_secs_f64());
    result
}

#[cfg(test)]
mod tests {
    use super::is_loopback;

    #[test]
    fn loopback_hosts_are_told_from_others() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "127.9.9.9", "[::1]:80", "[::1]"] {
            assert!(is_loopback(host), "{host}");
        }
        for host in ["", "example.com", "localhost.example.com", "10.0.0.1:8080", "[2001:db8::1]:80", "127.0.0.1.example.com"] {
            assert!(!is_loopback(host), "{host}");
        }
    }
}
