//! The description of the API in OpenAPI 3.1, made from the handlers and the types that they respond with, and a page to try
//! it.

mod errors;
mod forms;

use std::sync::LazyLock;

use actix_web::{HttpResponse, web};
use bytes::Bytes;
use utoipa::{
    Modify, OpenApi,
    openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme},
};

pub(super) use errors::{ErrorLine, ProblemDetails, Problems, Refusals};
pub(super) use forms::{NewPerson, PhotoFile, Photos, RejectedPhoto, VerificationPhotos};

use super::{
    backup, compreface, dead_letters, fleet, fleet_history, health, pages, people, recognition_body, recognitions,
    rejections, session,
};

/// The API.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Rollcall",
        description = "Face recognition that scales itself. Errors under /v1 are problem details (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    paths(
        recognitions::plain, recognitions::create, recognitions::find, recognitions::delete,
        people::list, people::add, people::remove, people::galleries, rejections::add,
        dead_letters::list, dead_letters::show, dead_letters::send_again, dead_letters::purge,
        backup::create,
        session::show, session::sign_in, session::sign_out,
        fleet::show, fleet::decisions, fleet::events, fleet_history::show,
        health::alive, health::ready, health::metrics,
        pages::index, pages::fleet, pages::try_api, pages::asset, document,
    ),
    components(schemas(
        errors::ProblemDetails, errors::CompreFaceError, recognition_body::Seen, recognition_body::RecognitionBody,
    )),
    modifiers(&Security),
)]
struct Api;

/// Adds how requests are authenticated.
struct Security;

impl Modify for Security {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_default();
        let token =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("a token of rollcall token create"));
        components.add_security_scheme("token", SecurityScheme::Http(token.build()));
        let key = ApiKeyValue::new("x-api-key");
        components.add_security_scheme("key", SecurityScheme::ApiKey(ApiKey::Header(key)));
    }
}

/// Returns the description of the API.
pub(super) fn api() -> utoipa::openapi::OpenApi {
    let mut api = Api::openapi();
    api.merge(compreface::CompreFaceApi::openapi());
    api
}

/// Returns the description of the API as JSON.
pub fn description() -> String {
    // It consists of maps with text as keys.
    serde_json::to_string(&api()).expect("the description can be serialised")
}

/// The description as JSON.
static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| description().into());

/// The description of this API.
#[utoipa::path(
    get, path = "/v1/openapi.json", operation_id = "openapi_document", tag = "Server",
    responses((status = 200, description = "The document in OpenAPI 3.1", body = Object, content_type = "application/json"), Problems)
)]
pub(super) async fn document() -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(web::Bytes::clone(&DOCUMENT))
}

#[cfg(test)]
mod tests;
