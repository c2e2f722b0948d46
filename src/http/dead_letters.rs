//! `/v1/dead-letters`: jobs that the queue has given up.

use actix_web::{HttpResponse, web};
use serde_json::json;

use super::{
    error::{Problem, location},
    recognitions::parse_id,
    state::State,
};
use crate::job::JobId;

/// `GET /v1/dead-letters`: lists the dead letters, the one that was given up first coming first.
pub(super) async fn list(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    Ok(HttpResponse::Ok().json(json!({ "dead_letters": state.web.dead_letters().await? })))
}

/// `POST /v1/dead-letters/{id}`: sends a dead letter again.
pub(super) async fn send_again(path: web::Path<String>, state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let id = parse_id(&path)?;
    if !state.web.send_dead_letter_again(id).await? {
        return Err(no_dead_letter(id));
    }
    Ok(HttpResponse::Accepted().insert_header(("Location", location(id))).finish())
}

/// `DELETE /v1/dead-letters/{id}`: purges a dead letter with its image and result.
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
