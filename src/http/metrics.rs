//! Metrics of each request, by route instead of path, so that the number of series is bounded.

use std::time::Instant;

use ::metrics::{counter, describe_counter, describe_histogram, histogram};
use actix_web::{
    Error,
    body::MessageBody,
    dev::{ServiceRequest, ServiceResponse},
    http::Method,
    middleware::Next,
};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};

const REQUESTS: &str = "rollcall_http_requests_total";
const SECONDS: &str = "rollcall_http_request_seconds";
const UPLOADED: &str = "rollcall_http_upload_bytes_total";
/// Buckets of the latency histogram, seconds: from a health check to an upload that waits for an instance to boot.
const BUCKETS: [f64; 14] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 120.0];

/// Installs the process's metrics recorder.
///
/// # Errors
/// A recorder is already installed.
pub(crate) fn install() -> Result<PrometheusHandle, BuildError> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &BUCKETS)?
        .install_recorder()?;
    describe_counter!(REQUESTS, "Requests handled, by route, method and status");
    describe_histogram!(SECONDS, "Seconds from a request's head to the response's head, by route and method");
    describe_counter!(UPLOADED, "Bytes of request bodies received");
    Ok(handle)
}

/// Counts the bytes of a request's body.
pub(super) fn uploaded(bytes: usize) {
    counter!(UPLOADED).increment(bytes as u64);
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
    histogram!(SECONDS, "route" => route.clone(), "method" => method).record(started.elapsed().as_secs_f64());
    counter!(REQUESTS, "route" => route, "method" => method, "status" => status).increment(1);
    Ok(response)
}

/// Returns the label of a method. Unknown methods share one, so that clients cannot add series.
fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_method_of_the_api_has_a_label_and_all_others_share_one() {
        for method in [Method::GET, Method::HEAD, Method::POST, Method::DELETE] {
            assert_eq!(method_label(&method), method.as_str());
        }
        for name in ["PUT", "BREW", "X-1"] {
            assert_eq!(method_label(&Method::from_bytes(name.as_bytes()).expect("a method")), "other");
        }
    }
}
