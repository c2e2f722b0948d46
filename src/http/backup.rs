//! `/v1/backup`: everything that this machine stores, as one archive.

use std::io::{self, BufWriter, Write};

use actix_web::{HttpResponse, http::StatusCode, web};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::{
    error::{Problem, RETRY_AFTER},
    openapi::Problems,
    state::State,
};
use crate::backup::BackupError;

/// Size of the parts in which the archive is sent.
const PART: usize = 256 << 10;
/// Parts that wait for the client.
const WAITING: usize = 4;

type Part = Result<Bytes, BackupError>;

/// `GET /v1/backup`: streams a backup. The connection breaks if it cannot be completed; the end of the archive tells, too.
#[utoipa::path(
    get, path = "/v1/backup", operation_id = "backup_create", tag = "Server", summary = "Download a backup of everything on this machine",
    responses((status = 200, description = "A tar", body = String, content_type = "application/x-tar"), Problems)
)]
pub(super) async fn create(state: web::Data<State>) -> Result<HttpResponse, Problem> {
    let backups = state.backups.clone().ok_or_else(|| {
        Problem::new(StatusCode::NOT_IMPLEMENTED, "only the embedded cloud makes backups: SQS and S3 have their own")
    })?;
    let place =
        backups.begin().await.ok_or_else(|| Problem::unavailable("another backup is being made", RETRY_AFTER))?;
    let (send, mut receive) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let written = backups.write(BufWriter::with_capacity(PART, Parts(send.clone())));
        drop(place);
        if let Err(error) = written {
            tracing::error!(%error, "a backup could not be completed");
            let _ = send.blocking_send(Err(error)); // the client may be gone
        }
    });
    // Most errors are known before the first part is full.
    let first = match receive.recv().await {
        Some(Err(error)) => return Err(Problem::unavailable(error.to_string(), RETRY_AFTER)),
        first => first,
    };
    let parts = futures_util::stream::unfold((first, receive), |(first, mut receive)| async {
        let part = match first {
            Some(part) => part,
            None => receive.recv().await?,
        };
        Some((part.map_err(io::Error::other), (None, receive)))
    });
    Ok(HttpResponse::Ok().content_type("application/x-tar").streaming(parts))
}

/// Passes what is written on to the client.
struct Parts(mpsc::Sender<Part>);

impl Write for Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the client is gone"))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
