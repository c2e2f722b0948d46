//! `rollcall backup` and `rollcall restore`.

use std::{
    fs::File,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::Context as _;
use reqwest::Method;

use super::{
    audit::{CommandLog, Subject},
    server::{CA, Server, time},
};
use crate::{
    backup::{self, Backups, Restored},
    cloud::local::{Broker, LocalObjects, queued_jobs, queues_in_use},
    results::ResultStore,
    settings::{CloudKind, Settings},
};

/// Arguments of `rollcall backup`.
#[derive(clap::Args)]
pub(super) struct BackupArgs {
    /// The backup. It takes the place of a file of this name when it is complete
    file: PathBuf,
    /// Address of the server; by default, the data folder of this configuration is backed up, by http.listen if a server
    /// is using it
    #[arg(long)]
    url: Option<String>,
    /// File of the authority, in PEM, that has signed the certificate of an https:// address; by default any that this
    /// machine trusts
    #[arg(long, env = CA, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Arguments of `rollcall restore`.
#[derive(clap::Args)]
pub(super) struct RestoreArgs {
    /// The backup
    file: PathBuf,
}

/// Writes a backup.
///
/// # Errors
/// Something cannot be read or written. There is no new file then, and one that was there before remains.
pub(super) async fn back_up(args: BackupArgs, settings: &Settings) -> anyhow::Result<()> {
    let BackupArgs { file, url, ca } = args;
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let shown = file.display();
    // Only its owner can read it.
    let mut unfinished = tempfile::Builder::new()
        .prefix(".rollcall-backup-")
        .tempfile_in(folder)
        .with_context(|| format!("cannot write {shown}"))?;
    let dir = &settings.local.data_dir;
    if url.is_none() {
        check_local(settings)?;
    }
    if url.is_some() || queues_in_use(dir).with_context(|| format!("cannot use {}", dir.display()))? {
        let server = Server { url, ca, json: false };
        let mut response = server.send(Method::GET, "/v1/backup", settings).await?;
        let incomplete = "the server ended the backup before it was complete: its log may have the reason";
        while let Some(part) = response.chunk().await.context(incomplete)? {
            unfinished.write_all(&part).with_context(|| format!("cannot write {shown}"))?;
        }
    } else {
        anyhow::ensure!(dir.join("objects").is_dir(), "there is no data folder {}", dir.display());
        let objects = LocalObjects::open(dir).with_context(|| format!("cannot use {}", dir.display()))?;
        let backups = Backups::new(settings, Arc::new(Broker::open(dir)?));
        let out = unfinished.reopen()?;
        let write = async {
            let written = tokio::task::spawn_blocking(move || backups.write(BufWriter::new(out))).await?;
            written.with_context(|| format!("cannot back up {}", dir.display()))
        };
        CommandLog::new(settings, Arc::new(objects)).run("backup", Subject::default(), write).await?;
    }
    unfinished.as_file().sync_all().with_context(|| format!("cannot write {shown}"))?;
    let bytes = unfinished.as_file().metadata()?.len();
    // What counts is what is in the file.
    let manifest = backup::verify(BufReader::new(unfinished.reopen()?), bytes);
    let manifest = manifest.context("the backup is not complete, and was not kept")?;
    unfinished.persist(&file).map_err(|error| error.error).with_context(|| format!("cannot write {shown}"))?;
    File::open(folder)?.sync_all()?;
    println!("backed up to {shown}: {bytes} bytes, begun {}", time(manifest.created_ms));
    println!("it contains photos, and what identifies people: keep it as safe as the data folder");
    Ok(())
}

/// Restores a backup.
///
/// # Errors
/// The data folder is not empty, or the backup is not whole. Nothing is left then.
pub(super) async fn restore(args: RestoreArgs, settings: &Settings) -> anyhow::Result<()> {
    check_local(settings)?;
    let dir = &settings.local.data_dir;
    let restored = backup::restore(&args.file, dir)?;
    let lost = fail_lost(&restored, settings).await?;
    let manifest = restored.manifest.clone();
    restored.finish()?;
    println!("restored {}, as of {}", dir.display(), time(manifest.created_ms));
    for (id, file) in lost {
        println!("lost: job {id}, {file}: it was accepted while the backup was made; upload it again");
    }
    Ok(())
}

/// Stores jobs as failed that the restored queues do not have, so that nobody waits for them.
async fn fail_lost(restored: &Restored, settings: &Settings) -> anyhow::Result<Vec<(crate::job::JobId, String)>> {
    let mut settings = settings.clone();
    settings.local.data_dir = restored.path().to_owned();
    let objects = Arc::new(LocalObjects::open(restored.path())?);
    let log = CommandLog::new(&settings, objects.clone());
    let fail = async {
        let queued = queued_jobs(restored.path())?.iter().filter_map(|group| group.parse().ok()).collect();
        let results = ResultStore::new(objects, settings.store.clone());
        Ok(results.fail_lost(&queued, "the job is not in the backup that was restored: upload it again").await?)
    };
    log.run("restore", Subject::default(), fail).await
}

fn check_local(settings: &Settings) -> anyhow::Result<()> {
    anyhow::ensure!(
        settings.cloud.kind == CloudKind::Local,
        "cloud.kind is \"aws\": use the backups of S3, and its versions of objects"
    );
    Ok(())
}
