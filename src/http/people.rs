//! `/v1/people`: the people in the gallery. The photos of a new person go through the queue like any other; their
//! embeddings are added to the gallery and never returned to clients.

use actix_web::{HttpRequest, HttpResponse, http::StatusCode, web};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::{
    audit_guard,
    embed::{Embedded, embed},
    error::Problem,
    face_box::FaceBox,
    gallery_query::gallery,
    openapi::{NewPerson, Problems},
    photo_outcome::PhotoOutcome,
    state::State,
    upload::receive,
};
use crate::{
    erasure::Erasure,
    recognition::{GalleryName, common_model},
    settings::RecogniserKind,
};

const HOW_TO_ADD: &str = "e.g. curl -F name=Ada -F photos=@ada_1.jpg -F photos=@ada_2.jpg";

/// A person who is known.
#[derive(Serialize, ToSchema)]
struct KnownPerson {
    name: String,
    /// Number of photos.
    photos: u64,
}

/// A page of people.
#[derive(Serialize, ToSchema)]
struct People {
    /// Version of the gallery.
    version: u64,
    /// Number of people on all pages.
    total: u64,
    people: Vec<KnownPerson>,
    /// What to send as `after` for the next page, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    next: Option<String>,
}

/// The names of the galleries.
#[derive(Serialize, ToSchema)]
struct GalleryNames {
    galleries: Vec<GalleryName>,
}

/// A person who was added, or to whom photos were added.
#[derive(Serialize, ToSchema)]
struct AddedPerson {
    name: String,
    /// Number of photos that were added.
    added: usize,
    /// Number of photos of the person.
    photos_total: u64,
    /// Version of the gallery.
    version: u64,
    photos: Vec<PhotoOutcome>,
}

/// What was erased of a person.
#[derive(Serialize, ToSchema)]
struct ErasedPerson {
    erased: Erasure,
}

/// Most people in one response.
const MAX_PAGE: usize = 10_000;

/// Which people to list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// Those whose names follow this one.
    after: Option<String>,
    /// How many at most.
    #[param(minimum = 1, maximum = 10_000)]
    #[serde(default = "default_page")]
    limit: usize,
}

fn default_page() -> usize {
    1_000
}

/// `GET /v1/people`: lists people by name.
#[utoipa::path(
    get, path = "/v1/people", operation_id = "people_list", tag = "People", summary = "List people", params(Which, ("gallery" = Option<String>, Query, description = "The gallery; without it, the default one")),
    responses((status = 200, description = "A page of people by name", body = People), Problems)
)]
pub async fn list(
    req: HttpRequest,
    which: web::Query<Which>,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let Which { after, limit } = which.into_inner();
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(Problem::bad_request(format!("limit must be 1 to {MAX_PAGE}, not {limit}")));
    }
    let page = state.web.gallery(&gallery(&req)?).people(after.as_deref(), limit).await?;
    let next = page.people.last().filter(|_| page.more).map(|(name, _)| name.clone());
    let people = page.people.into_iter().map(|(name, photos)| KnownPerson { name, photos: photos as u64 }).collect();
    Ok(HttpResponse::Ok().json(People { version: page.version, total: page.total as u64, people, next }))
}

/// `GET /v1/galleries`: lists the galleries.
#[utoipa::path(
    get, path = "/v1/galleries", operation_id = "people_galleries", tag = "People", summary = "List galleries",
    responses((status = 200, description = "The galleries", body = GalleryNames), Problems)
)]
pub async fn galleries(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(GalleryNames { galleries: state.web.gallery_names().await? }))
}

/// `POST /v1/people`: adds a person from a form with `name` and one or more photos, or one photo and the `box` of a face.
#[utoipa::path(
    post, path = "/v1/people", operation_id = "people_add", tag = "People", summary = "Add a person, or photos of one", params(("gallery" = Option<String>, Query, description = "The gallery; without it, the default one")),
    request_body(content = NewPerson, content_type = "multipart/form-data"),
    responses((status = 201, description = "At least one photo was added", body = AddedPerson), Problems)
)]
pub async fn add(req: HttpRequest, payload: web::Payload, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let gallery = gallery(&req)?;
    let received = receive(&req, payload, &state.web).await?;
    if state.web.settings().recognition.kind != RecogniserKind::Face {
        let detail = "people are known by their faces; this server runs a classifier (recognition.kind)";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    let name = received.texts.iter().find(|(field, _)| field == "name").map(|(_, text)| text.trim());
    let Some(name) = name.filter(|name| !name.is_empty()) else {
        return Err(Problem::bad_request(format!("the form has no `name`; {HOW_TO_ADD}")));
    };

    let bbox = FaceBox::of_form(&received.texts, received.files.len())?;

    audit_guard::seen(&req, &state, &gallery, [name].into_iter());
    let embedded = join_all(received.files.into_iter().map(|file| embed(&state, file))).await;
    let mut photos = Vec::new();
    let (mut embeddings, mut models, mut images) = (Vec::new(), Vec::new(), Vec::new());
    let mut outage = None;
    for Embedded { file, photo, found } in embedded {
        let mut warnings = Vec::new();
        let (faces, problem) = match found {
            Ok(found) => match (found.faces.len(), found.chosen(bbox)) {
                (faces, Ok(chosen)) => {
                    embeddings.push(chosen.embedding);
                    models.push(chosen.model);
                    images.push(photo);
                    warnings = chosen.warnings;
                    (Some(faces), None)
                }
                (faces, Err(problem)) => (Some(faces), Some(problem)),
            },
            Err(problem) => {
                let line = problem.line();
                outage = outage.or(problem.status.is_server_error().then_some(problem));
                (None, Some(line))
            }
        };
        photos.push(PhotoOutcome { file, added: problem.is_none(), faces, warnings, problem });
    }
    let model = common_model(&models).map_err(|why| Problem::new(StatusCode::INTERNAL_SERVER_ERROR, why))?;
    let Some(model) = model else {
        let none = || Problem::new(StatusCode::UNPROCESSABLE_ENTITY, format!("no photo of {name} could be used"));
        return Err(outage.unwrap_or_else(none).with_extension("photos", json!(photos)));
    };

    let added = embeddings.len();
    let store = state.web.gallery(&gallery);
    let enrolled = store.add(name, embeddings, model).await?;
    state.web.saw_gallery(&gallery, enrolled.version);
    if state.web.settings().gallery.keep_photos {
        for (id, image) in enrolled.ids.iter().zip(images) {
            store.keep_photo(name, *id, image).await?;
        }
    }
    let (photos_total, version) = (enrolled.photos as u64, enrolled.version);
    Ok(HttpResponse::Created().json(AddedPerson { name: name.to_owned(), added, photos_total, version, photos }))
}

/// How much of a person to remove.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Removal {
    /// Whether also the results that name them.
    #[serde(default)]
    results: bool,
}

/// `DELETE /v1/people/{name}`: removes a person from the gallery; with `results=true`, erases them.
#[utoipa::path(
    delete, path = "/v1/people/{name}", operation_id = "people_remove", tag = "People", summary = "Remove a person, or erase them",
    params(("name" = String, Path, description = "The person"), Removal, ("gallery" = Option<String>, Query, description = "The gallery; without it, the default one")),
    responses(
        (status = 200, description = "The person and what names them is erased", body = ErasedPerson),
        (status = 204, description = "The person is removed from the gallery"),
        Problems
    )
)]
pub async fn remove(
    req: HttpRequest,
    path: web::Path<String>,
    removal: web::Query<Removal>,
    state: web::Data<State>,
) -> Result<HttpResponse, Problem> {
    let (gallery, name) = (gallery(&req)?, path.into_inner());
    if removal.results {
        let erasure = state.web.erase(&gallery, &name).await?;
        if erasure.is_empty() {
            return Err(Problem::not_found(format!("nobody is called {name:?}, and no result names them")));
        }
        return Ok(HttpResponse::Ok().json(ErasedPerson { erased: erasure }));
    }
    let Some(manifest) = state.web.gallery(&gallery).remove(&name).await? else {
        return Err(Problem::not_found(format!("nobody is called {name:?}")));
    };
    state.web.saw_gallery(&gallery, manifest.version);
    Ok(HttpResponse::NoContent().finish())
}
