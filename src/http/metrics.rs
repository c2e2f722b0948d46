//! Metrics of each request, by route instead of path, so that the number of series is bounded.

use std::time::Instant;

use ::metrics::{counter, histogram};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
};

/// Counts the bytes of a request's body.
pub(super) fn uploaded(bytes: usize) {
    counter!("rollcall_http_upload_bytes_total").increment(bytes as u64);
}

/// Counts and times every request, as middleware.
#[expect(clippy::disallowed_methods, reason = "measures how long a response takes")]
pub(super) async fn observe(
    req: ServiceRequest,
    next: Next<impl MessageBody>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let started = Instant::now();
    let method = method_label(req.method());
    let response = next.call(req).await?;
    let route = response.request().match_pattern().unwrap_or_else(|| "unknown".to_owned());
    let status = response.status().as_str().to_owned();
    let took = started.elapsed().as_secs_f64();
    histogram!("rollcall_http_request_duration_seconds", "route" => route.clone(), "method" => method).record(took);
    counter!("rollcall_http_requests_total", "route" => route, "method" => method, "status" => status).increment(1);
    Ok(response)
}

/// Returns the label of a method. Unknown methods share one, so that clients cannot add series.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_of_the_api_has_a_label_and_all_others_share_one() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::PUT, Method::DELETE] {
            assert_eq!(method_label(&method), method.as_str());
        }
        for name in ["PATCH", "BREW", "X-1"] {
            assert_eq!(method_label(&Method::from_bytes(name.as_bytes()).expect("a method")), "other");
        }
    }
}
