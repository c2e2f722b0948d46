//! `/v1/dead-letters`: jobs that the queue has given up.

use actix_web::{HttpResponse, web};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    error::{Problem, location},
    openapi::Problems,
    recognitions::parse_id,
    state::State,
};
use crate::{
    job::JobId,
    results::{DeadLetter, DeadLetterDetails},
};

/// Jobs that were given up.
#[derive(Serialize, ToSchema)]
struct DeadLetters {
    dead_letters: Vec<DeadLetter>,
}

/// `GET /v1/dead-letters`: lists the dead letters, the one that was given up first coming first.
#[utoipa::path(
    get, path = "/v1/dead-letters", operation_id = "dead_letters_list", tag = "Dead letters", summary = "List dead letters",
    responses((status = 200, description = "The dead letters", body = DeadLetters), Problems)
)]
pub(super) async fn list(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(DeadLetters { dead_letters: state.web.dead_letters().await? }))
}

/// `GET /v1/dead-letters/{id}`: shows one dead letter.
#[utoipa::path(
    get, path = "/v1/dead-letters/{id}", operation_id = "dead_letters_show", tag = "Dead letters", summary = "Show a dead letter", params(("id" = String, Path, description = "The id of the job")),
    responses((status = 200, description = "The dead letter", body = DeadLetterDetails), Problems)
)]
pub(super) async fn show(path: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&path)?;
    let letter = state.web.dead_letter(id).await?.ok_or_else(|| no_dead_letter(id))?;
    Ok(HttpResponse::Ok().json(letter))
}

/// `POST /v1/dead-letters/{id}`: sends a dead letter again.
#[utoipa::path(
    post, path = "/v1/dead-letters/{id}", operation_id = "dead_letters_send_again", tag = "Dead letters", summary = "Send a dead letter again", params(("id" = String, Path, description = "The id of the job")),
    responses((status = 202, description = "It is queued"), Problems)
)]
pub(super) async fn send_again(path: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&path)?;
    if !state.web.send_dead_letter_again(id).await? {
        return Err(no_dead_letter(id));
    }
    Ok(HttpResponse::Accepted().insert_header(("Location", location(id))).finish())
}

/// `DELETE /v1/dead-letters/{id}`: purges a dead letter with its image and result.
#[utoipa::path(
    delete, path = "/v1/dead-letters/{id}", operation_id = "dead_letters_purge", tag = "Dead letters", summary = "Purge a dead letter with its photo and result", params(("id" = String, Path, description = "The id of the job")),
    responses((status = 204, description = "It is deleted"), Problems)
)]
pub(super) async fn purge(path: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&path)?;
    if !state.web.purge_dead_letter(id).await? {
        return Err(no_dead_letter(id));
    }
    Ok(HttpResponse::NoContent().finish())
}

fn no_dead_letter(id: JobId) -> Problem {
    Problem::not_found(format!("job {id} is not a dead letter")).id(id)
}
