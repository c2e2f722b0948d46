//! Checks of the object store.

use std::sync::Arc;

use bytes::Bytes;

use super::finding::{Finding, remedy};
use crate::{
    cloud::{CloudError, ObjectStore, Precondition},
    inference::gallery_store::GalleryStore,
    settings::Settings,
};

/// Writes, reads and lists each bucket, and reads the gallery.
pub(super) async fn stores(settings: &Settings, store: Arc<dyn ObjectStore>) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (key, bucket) in [
        ("store.input", &settings.store.input),
        ("store.output", &settings.store.output),
        ("store.state", &settings.store.state),
    ] {
        let result = try_bucket(&*store, bucket).await.map(|()| "can be written, read and listed");
        findings.push(Finding::new(
            format!("bucket {bucket}"),
            result.map_err(|e| remedy(e, &format!("create the bucket, or set {key}"))),
        ));
    }
    let gallery = GalleryStore::new(store, settings.store.state.clone(), settings.gallery.clone()).load().await;
    let gallery = gallery.map(|gallery| match gallery.people.len() {
        0 => "nobody is enrolled yet: every face will be unknown (rollcall enroll DIR)".to_owned(),
        n => format!("{n} people"),
    });
    let remedy = "see the finding on its bucket; `rollcall gallery import --replace` replaces a damaged gallery";
    findings.push(Finding::new("gallery", gallery.map_err(|e| (e.to_string(), remedy.to_owned()))));
    findings
}

async fn try_bucket(store: &dyn ObjectStore, bucket: &str) -> Result<(), CloudError> {
    let key = format!("doctor-{}", ulid::Ulid::generate());
    store.put(bucket, &key, Bytes::from_static(b"rollcall doctor"), Precondition::Absent).await?;
    let used = async {
        store.get(bucket, &key).await?;
        store.list(bucket, &key).await
    };
    let used = used.await;
    store.delete(bucket, &key).await?;
    used.map(drop)
}
