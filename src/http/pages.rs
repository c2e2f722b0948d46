//! The pages and their assets, embedded in the binary.

use actix_web::{
    HttpResponse,
    http::header::{self, ETag, EntityTag, IfNoneMatch},
    web,
};
use rust_embed::{EmbeddedFile, RustEmbed};

use super::{
    error::{ErrorFormat, Problem},
    openapi::ErrorLine,
};

#[derive(RustEmbed)]
#[folder = "pages/"]
struct Pages;

/// `GET /`: returns the page.
#[utoipa::path(
    get, path = "/", operation_id = "pages_index", tag = "Pages", summary = "The page", 
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "It has not changed"),
        ErrorLine
    )
)]
pub(super) async fn index(seen: web::Header<IfNoneMatch>) -> HttpResponse {
    serve("index.html", &seen)
}

/// `GET /api`: returns a page to try the API.
#[utoipa::path(
    get, path = "/api", operation_id = "pages_try_api", tag = "Pages", summary = "A page to try the API", 
    responses(
        (status = 200, description = "A page to try the API", body = String, content_type = "text/html"),
        (status = 304, description = "It has not changed"),
        ErrorLine
    )
)]
pub(super) async fn try_api(seen: web::Header<IfNoneMatch>) -> HttpResponse {
    serve("try.html", &seen)
}

/// `GET /fleet`: returns the page that shows what the fleet did.
#[utoipa::path(
    get, path = "/fleet", operation_id = "pages_fleet", tag = "Pages", summary = "What the fleet did, and why",
    responses(
        (status = 200, description = "The page", body = String, content_type = "text/html"),
        (status = 304, description = "It has not changed"),
        ErrorLine
    )
)]
pub(super) async fn fleet(seen: web::Header<IfNoneMatch>) -> HttpResponse {
    serve("fleet.html", &seen)
}

/// `GET /assets/{file}`: returns an asset of the page.
#[utoipa::path(
    get, path = "/assets/{file}", operation_id = "pages_asset", tag = "Pages", summary = "A file of the pages", params(("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "A file of the pages", content((String = "text/html"), (String = "text/css"), (String = "text/javascript"), (String = "image/svg+xml"), (String = "application/octet-stream"))),
        (status = 304, description = "It has not changed"),
        ErrorLine
    )
)]
pub(super) async fn asset(path: web::Path<String>, seen: web::Header<IfNoneMatch>) -> HttpResponse {
    serve(&path, &seen)
}

fn serve(name: &str, seen: &IfNoneMatch) -> HttpResponse {
    let Some(file) = Pages::get(name) else {
        return Problem::not_found(format!("there is no asset {name:?}")).respond(ErrorFormat::Line);
    };
    let tag = tag(&file);
    let unchanged = match seen {
        IfNoneMatch::Any => true,
        IfNoneMatch::Items(tags) => tags.iter().any(|seen| seen.weak_eq(&tag)),
    };
    let mut response = if unchanged { HttpResponse::NotModified() } else { HttpResponse::Ok() };
    // Browsers revalidate on each load, so that a new binary shows its new page at once.
    response.insert_header((header::CACHE_CONTROL, "no-cache")).insert_header(ETag(tag));
    if unchanged {
        return response.finish();
    }
    response.content_type(media_type(name)).body(file.data)
}

/// Returns the entity tag of a file: the first 128 bits of its SHA-256.
fn tag(file: &EmbeddedFile) -> EntityTag {
    let hash = file.metadata.sha256_hash();
    EntityTag::new_strong(hash[..16].iter().map(|byte| format!("{byte:02x}")).collect())
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    }
}
