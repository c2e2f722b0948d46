//! HTTP: uploads in, answers out, the page, the fleet as it changes. The reference is `docs/api.md`.

mod error;
mod filename;
mod fleet;
mod form;
mod guard;
mod pages;
mod people;
mod recognitions;
mod upload;

use std::{net::TcpListener, sync::Arc, time::Duration};

use actix_web::{
    App, HttpRequest, HttpServer,
    dev::Server,
    http::{StatusCode, header},
    middleware::{DefaultHeaders, from_fn},
    web::{self, Data},
};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Semaphore, watch};

use crate::actors::web_tier::WebTier;
use error::ApiError;

/// How long a connection may take to send its request's head.
const HEAD_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept for its next request.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// Open connections a thread; more wait in the system's backlog.
const MAX_CONNECTIONS: usize = 10_000;
/// Scripts, styles and connections of this server only; photos also from memory.
const CONTENT_POLICY: &str = "default-src 'self'; img-src 'self' blob: data:; object-src 'none'; base-uri 'none'; \
                              form-action 'self'; frame-ancestors 'none'";

/// A server that runs, and the way to end its endless answers.
pub struct Serving {
    pub server: Server,
    /// `true` ends the event streams, which would otherwise outlast any grace.
    pub ending: watch::Sender<bool>,
}

/// Serves on `listener` until the server's handle stops it.
pub fn serve(web: WebTier, listener: TcpListener, metrics: PrometheusHandle) -> std::io::Result<Serving> {
    let threads = web.settings().http.threads;
    let ending = watch::Sender::new(false);
    let streams =
        Data::new(fleet::Streams { places: Arc::new(Semaphore::new(fleet::MAX_STREAMS)), ending: ending.subscribe() });
    let (web, metrics) = (Data::new(web), Data::new(metrics));
    let server = HttpServer::new(move || {
        let headers = DefaultHeaders::new()
            .add((header::CONTENT_SECURITY_POLICY, CONTENT_POLICY))
            .add((header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
            .add((header::REFERRER_POLICY, "no-referrer"))
            .add((header::X_FRAME_OPTIONS, "DENY"))
            .add((header::CACHE_CONTROL, "no-store"));
        App::new()
            .app_data(web.clone())
            .app_data(metrics.clone())
            .app_data(streams.clone())
            .wrap(from_fn(guard::same_site))
            .wrap(from_fn(guard::counted))
            .wrap(headers)
            .configure(routes)
    })
    .workers(threads)
    .max_connections(MAX_CONNECTIONS)
    .client_request_timeout(HEAD_TIMEOUT)
    .keep_alive(KEEP_ALIVE)
    .shutdown_timeout(5)
    .disable_signals()
    .listen(listener)?
    .run();
    Ok(Serving { server, ending })
}

fn routes(config: &mut web::ServiceConfig) {
    let wrong_method = |allowed: &'static str| {
        web::route().to(move || async move {
            Err::<&str, _>(ApiError::new(StatusCode::METHOD_NOT_ALLOWED, format!("this path takes {allowed}")))
        })
    };
    let resource = |path: &'static str, allowed| web::resource(path).default_service(wrong_method(allowed));
    config
        .service(resource("/", "GET and POST").route(web::get().to(pages::index)).route(web::post().to(upload::upload)))
        .service(resource("/pages/{file}", "GET").route(web::get().to(pages::file)))
        .service(resource("/v1/recognitions", "POST").route(web::post().to(recognitions::create)))
        .service(resource("/v1/recognitions/{id}", "GET and DELETE").route(web::get().to(recognitions::show)).route(web::delete().to(recognitions::delete)))
        .service(resource("/v1/people", "GET and POST").route(web::get().to(people::list)).route(web::post().to(people::add)))
        .service(resource("/v1/people/{name}", "DELETE").route(web::delete().to(people::remove)))
        .service(resource("/v1/fleet", "GET").route(web::get().to(fleet::show)))
        .service(resource("/v1/events", "GET").route(web::get().to(fleet::events)))
        .service(resource("/healthz", "GET").route(web::get().to(fleet::healthy)))
        .service(resource("/readyz", "GET").route(web::get().to(fleet::ready)))
        .service(resource("/metrics", "GET").route(web::get().to(fleet::metrics)))
        .default_service(web::route().to(|request: HttpRequest| async move {
            Err::<&str, _>(ApiError::not_found(format!("there is nothing at {}", request.path())))
        }));
}
