//! HTTP: uploads and their responses, people, the fleet, health, and the page. The handlers reach the actors only
//! through [`WebTier`]. The reference is `docs/api.md`.

mod access;
mod access_guard;
mod audit_guard;
mod backup;
mod body;
mod client_address;
mod code;
mod compreface;
mod cost;
mod dead_letters;
mod embed;
mod error;
mod face_box;
mod fleet;
mod fleet_history;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzzing;
mod gallery_query;
mod gallery_sizes;
mod health;
mod health_checks;
mod metrics;
mod names;
mod openapi;
mod origin_guard;
mod pages;
mod people;
mod photo_outcome;
mod rate_limits;
mod readiness;
mod receiving;
mod recognition_body;
mod recognitions;
mod rejections;
mod routes;
mod session;
mod state;
mod tls;
mod upload;
mod web_tier;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{App, HttpRequest, HttpResponse, HttpServer, dev::Server, http::StatusCode, middleware, web};
use metrics_exporter_prometheus::PrometheusHandle;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::sync::{Semaphore, watch};

pub use access::AccessControl;
pub use compreface::COMPREFACE_ROUTES;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) use compreface::fuzzing as compreface_fuzzing;
use error::{ErrorFormat, Problem};
use gallery_sizes::GallerySizes;
pub use health_checks::HealthChecks;
pub use openapi::description;
#[cfg(feature = "aws")]
pub(crate) use recognitions::derived_id;
pub use routes::ROUTES;
use state::State;
pub use tls::check as check_certificate;
pub use web_tier::WebTier;

use crate::{audit::AuditLog, backup::Backups};

/// How long a client may take to send a request's head, so that idle connections do not pile up.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Requests that are still running this long after the server was asked to stop are dropped; their jobs continue.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
/// Connections in addition to those of waiting uploads: pages, event streams, idle ones.
const SPARE_CONNECTIONS: usize = 4096;
/// Maximum number of event streams. Each open page holds one; beyond that, pages get 503 and poll instead.
const MAX_STREAMS: usize = 256;
/// Interval of the task that aggregates the raw samples of histograms, and forgets clients that are within their limits;
/// without it, both would pile up, the samples until `/metrics` is requested.
const UPKEEP: Duration = Duration::from_secs(5);

/// A server that runs when awaited, and a switch that ends its event streams.
pub struct Serving {
    pub server: Server,
    /// `true` ends the event streams, which would otherwise last until the shutdown timeout.
    pub end_streams: watch::Sender<bool>,
    /// What load balancers have found out about the server.
    pub health_checks: HealthChecks,
}

/// Serves on `listener` until the server's handle stops it.
///
/// Must be called inside an actix system. Raises this process's soft limit of open files to the hard one.
///
/// # Errors
/// The certificate or the socket cannot be used.
pub fn serve(
    web: WebTier,
    access: AccessControl,
    audit: AuditLog,
    backups: Option<Backups>,
    listener: TcpListener,
    metrics: PrometheusHandle,
) -> anyhow::Result<Serving> {
    raise_open_files();
    let http = web.settings().http.clone();
    let end_streams = watch::Sender::new(false);
    let health_checks = HealthChecks::default();
    let state = web::Data::new(State {
        web,
        access,
        audit,
        backups,
        metrics: metrics.clone(),
        end_streams: end_streams.subscribe(),
        streams: Arc::new(Semaphore::new(MAX_STREAMS)),
        health_checks: health_checks.clone(),
        gallery_sizes: GallerySizes::default(),
    });
    let shared = state.clone();
    let server = HttpServer::new(move || {
        App::new()
            .app_data(shared.clone())
            .wrap(middleware::from_fn(audit_guard::check))
            .wrap(middleware::from_fn(access_guard::check))
            .wrap(middleware::from_fn(origin_guard::check))
            .wrap(security_headers())
            .wrap(middleware::from_fn(metrics::observe))
            .configure(configure)
    })
    .workers(http.threads)
    .max_connections((http.max_waiting + SPARE_CONNECTIONS).div_ceil(http.threads))
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(http.keep_alive)
    .shutdown_timeout(SHUTDOWN_TIMEOUT.as_secs())
    .disable_signals();
    let server = match &http.tls {
        Some(files) => server.listen_rustls_0_23(listener, tls::server_config(files)?)?,
        None => server.listen(listener)?,
    };
    let server = server.run();

    actix_web::rt::spawn(cost::follow(state.web.fleet(), state.web.settings().prices.clone()));
    actix_web::rt::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            metrics.run_upkeep();
            state.web.limits().forget_idle();
        }
    });
    Ok(Serving { server, end_streams, health_checks })
}

/// Configures every route. Needs the shared state that [`serve`] sets.
pub fn configure(cfg: &mut web::ServiceConfig) {
    let query = web::QueryConfig::default();
    cfg.app_data(query.error_handler(|error, req| {
        let problem = Problem::bad_request(error.to_string());
        actix_web::error::InternalError::from_response(error, problem.respond(ErrorFormat::of(req.path()))).into()
    }))
    .service(
        resource("/")
            .route(web::get().to(pages::index))
            .route(web::head().to(pages::index))
            .route(web::post().to(recognitions::plain)),
    )
    .service(resource("/api").route(web::get().to(pages::try_api)))
    .service(resource("/v1/openapi.json").route(web::get().to(openapi::document)))
    .service(resource("/fleet").route(web::get().to(pages::fleet)).route(web::head().to(pages::fleet)))
    .service(resource("/assets/{file}").route(web::get().to(pages::asset)))
    .service(resource("/v1/recognitions").route(web::post().to(recognitions::create)))
    .service(
        resource("/v1/recognitions/{id}")
            .route(web::get().to(recognitions::find))
            .route(web::delete().to(recognitions::delete)),
    )
    .service(resource("/v1/people").route(web::get().to(people::list)).route(web::post().to(people::add)))
    .service(resource("/v1/galleries").route(web::get().to(people::galleries)))
    .service(resource("/v1/people/{name}").route(web::delete().to(people::remove)))
    .service(resource("/v1/people/{name}/rejections").route(web::post().to(rejections::add)))
    .service(resource("/v1/dead-letters").route(web::get().to(dead_letters::list)))
    .service(
        resource("/v1/dead-letters/{id}")
            .route(web::get().to(dead_letters::show))
            .route(web::post().to(dead_letters::send_again))
            .route(web::delete().to(dead_letters::purge)),
    )
    .service(resource("/v1/backup").route(web::get().to(backup::create)))
    .service(
        resource("/v1/session")
            .route(web::get().to(session::show))
            .route(web::post().to(session::sign_in))
            .route(web::delete().to(session::sign_out)),
    )
    .service(resource("/v1/fleet").route(web::get().to(fleet::show)))
    .service(resource("/v1/fleet/decisions").route(web::get().to(fleet::decisions)))
    .service(resource("/v1/fleet/history").route(web::get().to(fleet_history::show)))
    .service(resource("/v1/events").route(web::get().to(fleet::events)))
    .service(resource("/healthz").route(web::get().to(health::alive)).route(web::head().to(health::alive)))
    .service(resource("/readyz").route(web::get().to(health::ready)).route(web::head().to(health::ready)))
    .service(resource("/metrics").route(web::get().to(health::metrics)))
    .configure(compreface::configure)
    .default_service(web::to(unknown_route));
}

/// Creates the resource of a route, which responds to methods other than its own with 405.
fn resource(path: &'static str) -> actix_web::Resource {
    let allow = ROUTES.iter().find(|(known, _)| *known == path).map_or("", |(_, methods)| methods);
    web::resource(path).default_service(web::to(move |req: HttpRequest| async move {
        Problem::new(StatusCode::METHOD_NOT_ALLOWED, format!("{} has no {}; use {allow}", req.path(), req.method()))
            .allow(allow)
            .respond(ErrorFormat::of(req.path()))
    }))
}

async fn unknown_route(req: HttpRequest) -> HttpResponse {
    // The path may contain a key.
    let path = if req.path().starts_with(access::COMPREFACE) { "this path" } else { req.path() };
    Problem::new(StatusCode::NOT_FOUND, format!("there is nothing at {path}")).respond(ErrorFormat::of(req.path()))
}

/// Returns the default headers: the page loads nothing from other origins and cannot be framed; responses are not
/// cached unless they say otherwise.
fn security_headers() -> middleware::DefaultHeaders {
    middleware::DefaultHeaders::new()
        .add((
            "Content-Security-Policy",
            "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; \
             form-action 'self'; frame-ancestors 'none'",
        ))
        .add(("X-Content-Type-Options", "nosniff"))
        .add(("X-Frame-Options", "DENY"))
        .add(("Referrer-Policy", "no-referrer"))
        .add(("Cache-Control", "no-store"))
}

/// Raises the soft limit of open files to the hard one: each waiting upload holds a connection, and there may be more
/// of them than the usual soft limit of 1,024 files.
fn raise_open_files() {
    let raised =
        getrlimit(Resource::RLIMIT_NOFILE).and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

#[cfg(test)]
mod tests;
