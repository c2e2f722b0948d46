//! Checks of the object store.

use std::sync::Arc;

use bytes::Bytes;

use super::finding::{Finding, remedy};
use crate::{
    cloud::{CloudError, ObjectStore, Precondition},
    inference::gallery::{GalleryStores, Manifest},
    recognition::{GalleryName, ModelId},
    settings::Settings,
};

/// Writes, reads and lists each bucket, reads the gallery, and checks that the embedder's `model` fits it.
pub(super) async fn stores(settings: &Settings, store: Arc<dyn ObjectStore>, model: Option<&ModelId>) -> Vec<Finding> {
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
    let gallery = GalleryStores::new(store, settings).gallery(&GalleryName::default()).check().await;
    let remedy = "see the finding on its bucket; `rollcall gallery import --replace` replaces a damaged gallery";
    let gallery = gallery.map_err(|e| (e.to_string(), remedy.to_owned())).and_then(|gallery| fit(&gallery, model));
    findings.push(Finding::new("gallery", gallery));
    findings
}

/// Returns what the gallery contains, or why the embedder does not fit it, and the remedy.
fn fit(gallery: &Manifest, model: Option<&ModelId>) -> Result<String, (String, String)> {
    if let Some(Err(why)) = model.map(|model| gallery.check_model(model)) {
        return Err((
            why.to_string(),
            "run `rollcall enroll --replace DIR`, or follow the message's other advice".to_owned(),
        ));
    }
    let people = gallery.people();
    Ok(match &gallery.model {
        _ if people == 0 => "nobody is enrolled yet: every face will be unknown (rollcall enroll DIR)".to_owned(),
        Some(model) => format!("{people} people, embedded by {model}"),
        None => format!("{people} people, embedded by a model that was not recorded"),
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::gallery::Person;

    #[test]
    fn a_gallery_of_another_model_is_a_fault() {
        let (own, other) = (ModelId::known("m"), ModelId::known("other"));
        let ada = || vec![Person { name: "Ada".into(), embeddings: vec![vec![1.0]] }];
        let gallery = Manifest::of_snapshot(1, ada(), Some(own.clone()));
        assert_eq!(fit(&gallery, Some(&own)), Ok("1 people, embedded by m".to_owned()));
        let (fault, _) = fit(&gallery, Some(&other)).unwrap_err();
        assert!(fault.contains("the model m,") && fault.contains("those of other"), "{fault}");
        assert!(fit(&gallery, None).is_ok(), "there is another finding on an embedder that does not load");
        assert!(fit(&Manifest::of_snapshot(1, ada(), None), Some(&other)).unwrap().contains("not recorded"));
        assert!(fit(&Manifest::default(), Some(&other)).unwrap().contains("nobody"));
    }
}
