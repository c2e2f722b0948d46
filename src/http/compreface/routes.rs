//! The routes of the API of CompreFace.

use actix_web::{HttpRequest, Resource, http::StatusCode, web};

use super::{embeddings, examples, refusal::Refusal, services, subjects};
use crate::http::code;

/// Every route, with its methods.
pub const ROUTES: [(&str, &str); 14] = [
    ("/api/v1/recognition/subjects", "GET, POST, DELETE"),
    ("/api/v1/recognition/subjects/{subject}", "PUT, DELETE"),
    ("/api/v1/recognition/faces", "GET, POST, DELETE"),
    ("/api/v1/recognition/faces/delete", "POST"),
    ("/api/v1/recognition/faces/{id}", "DELETE"),
    ("/api/v1/recognition/faces/{id}/img", "GET"),
    ("/api/v1/recognition/faces/{id}/verify", "POST"),
    ("/api/v1/recognition/recognize", "POST"),
    ("/api/v1/recognition/embeddings/recognize", "POST"),
    ("/api/v1/recognition/embeddings/faces/{id}/verify", "POST"),
    ("/api/v1/detection/detect", "POST"),
    ("/api/v1/verification/verify", "POST"),
    ("/api/v1/verification/embeddings/verify", "POST"),
    ("/api/v1/static/{key}/images/{id}", "GET"),
];

/// Configures every route.
pub(in crate::http) fn configure(cfg: &mut web::ServiceConfig) {
    let subjects = |path| {
        resource(path)
            .route(web::get().to(subjects::list))
            .route(web::post().to(subjects::add))
            .route(web::delete().to(subjects::remove_all))
    };
    cfg.service(subjects("/api/v1/recognition/subjects"))
        .service(subjects("/api/v1/recognition/subjects/")) // as the documentation of CompreFace lists subjects
        .service(
            resource("/api/v1/recognition/subjects/{subject}")
                .route(web::put().to(subjects::rename))
                .route(web::delete().to(subjects::remove)),
        )
        .service(
            resource("/api/v1/recognition/faces")
                .route(web::get().to(examples::list))
                .route(web::post().to(examples::add))
                .route(web::delete().to(examples::remove_all)),
        )
        .service(resource("/api/v1/recognition/faces/delete").route(web::post().to(examples::remove_several)))
        .service(resource("/api/v1/recognition/faces/{id}").route(web::delete().to(examples::remove)))
        .service(resource("/api/v1/recognition/faces/{id}/img").route(web::get().to(examples::download)))
        .service(resource("/api/v1/recognition/faces/{id}/verify").route(web::post().to(services::verify_example)))
        .service(resource("/api/v1/recognition/recognize").route(web::post().to(services::recognise)))
        .service(resource("/api/v1/recognition/embeddings/recognize").route(web::post().to(embeddings::recognise)))
        .service(
            resource("/api/v1/recognition/embeddings/faces/{id}/verify")
                .route(web::post().to(embeddings::verify_example)),
        )
        .service(resource("/api/v1/detection/detect").route(web::post().to(services::detect)))
        .service(resource("/api/v1/verification/verify").route(web::post().to(services::verify)))
        .service(resource("/api/v1/verification/embeddings/verify").route(web::post().to(embeddings::verify)))
        .service(resource("/api/v1/static/{key}/images/{id}").route(web::get().to(examples::download_static)));
}

/// Creates the resource of a route, which responds to methods other than its own with 404, as CompreFace.
fn resource(path: &'static str) -> Resource {
    web::resource(path).default_service(web::to(async |req: HttpRequest| {
        let why = format!("Request method '{}' not supported", req.method());
        Err::<&str, _>(Refusal::with_status(StatusCode::NOT_FOUND, code::UNDEFINED, why))
    }))
}
