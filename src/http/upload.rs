//! `POST /`: the contract of the report. A photo in, a label out, in plain text.

use actix_web::{
    HttpRequest, HttpResponse,
    http::StatusCode,
    web::{Data, Payload},
};
use futures_util::future::join_all;

use super::{
    error::{ApiError, ID_HEADER},
    form::{self, Photo},
    recognitions::{Key, recognise},
};
use crate::{actors::web_tier::WebTier, keys::stem, settings::ReplyStyle};

/// One line a file: `label`, or `stem:label`. A bad file among good ones has a line `error: …`; if all are bad, the
/// first one's status and line are the answer.
pub async fn upload(web: Data<WebTier>, request: HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    answer(&web, &request, payload).await.map_err(ApiError::plain)
}

async fn answer(web: &WebTier, request: &HttpRequest, payload: Payload) -> Result<HttpResponse, ApiError> {
    let form = form::read(web, request, payload).await?;
    let key = Key::of(request, form.photos.len())?;
    let results = join_all(form.photos.into_iter().map(|photo| label(web, photo, key.clone()))).await;
    if let Some(first) = results.iter().find_map(|r| r.as_ref().err())
        && results.iter().all(Result::is_err)
    {
        return Err(first.clone());
    }
    let mut ids = Vec::new();
    let mut lines = String::new();
    for result in results {
        match result {
            Ok((id, line)) => {
                ids.push(id);
                lines.push_str(&line);
            }
            Err(error) => lines.push_str(&format!("error: {error}")),
        }
        lines.push('\n');
    }
    let lines = if lines.lines().count() == 1 { lines.trim_end().to_owned() } else { lines };
    Ok(HttpResponse::build(StatusCode::OK)
        .content_type("text/plain; charset=utf-8")
        .insert_header((ID_HEADER, ids.join(",")))
        .body(lines))
}

async fn label(web: &WebTier, photo: Photo, key: Key) -> Result<(String, String), ApiError> {
    let file = photo.file.clone();
    let (id, reply) = recognise(web, photo, key).await?;
    let label = reply.outcome?.label;
    let line = match web.settings().http.reply {
        ReplyStyle::Label => label,
        ReplyStyle::StemLabel => format!("{}:{label}", stem(&file)),
    };
    Ok((id.to_string(), line))
}
