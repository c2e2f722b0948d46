//! For those who watch the process: is it there, can it take work, what has it done.

use std::time::Duration;

use actix_web::{HttpResponse, web};

use super::{
    State,
    error::{Problem, Style},
};

const RETRY_AFTER: Duration = Duration::from_secs(1);

/// `GET /healthz`: the process answers.
pub async fn alive() -> HttpResponse {
    text("ok\n")
}

/// `GET /readyz`: queue and store can be reached.
pub async fn ready(state: web::Data<State>) -> HttpResponse {
    match state.web.ready().await {
        Ok(()) => text("ready\n"),
        Err(error) => Problem::busy(format!("not ready: {error}"), RETRY_AFTER).respond(Style::Line),
    }
}

/// `GET /metrics`, for Prometheus.
pub async fn metrics(state: web::Data<State>) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; version=0.0.4; charset=utf-8").body(state.metrics.render())
}

fn text(body: &'static str) -> HttpResponse {
    HttpResponse::Ok().content_type("text/plain; charset=utf-8").body(body)
}
