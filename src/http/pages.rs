//! The page: files of `pages/`, inside the program.

use actix_web::{HttpResponse, http::header, web::Path};
use rust_embed::RustEmbed;

use super::error::ApiError;

#[derive(RustEmbed)]
#[folder = "pages/"]
struct Pages;

/// `GET /`.
pub async fn index() -> Result<HttpResponse, ApiError> {
    page("index.html")
}

/// `GET /pages/{file}`.
pub async fn file(name: Path<String>) -> Result<HttpResponse, ApiError> {
    page(&name)
}

fn page(name: &str) -> Result<HttpResponse, ApiError> {
    let file = Pages::get(name).ok_or_else(|| ApiError::not_found("no such page"))?;
    let kind = match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("svg") => "image/svg+xml",
        _ => "application/octet-stream",
    };
    Ok(HttpResponse::Ok()
        .content_type(kind)
        .insert_header((header::CACHE_CONTROL, "no-cache"))
        .body(file.data.into_owned()))
}
