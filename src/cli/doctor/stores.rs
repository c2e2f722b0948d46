//! Checks of the object store.

use std::sync::Arc;

use bytes::Bytes;

use super::finding::{Finding, remedy};
use crate::{
    access::TokenStore,
    cloud::{CloudError, ObjectStore, Precondition},
    inference::gallery::{GalleryStores, Manifest},
    recognition::{GalleryName, ModelId},
    settings::{Anonymous, Http, Settings},
};

/// What the finding on tokens is about.
const ACCESS: &str = "access";

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
    let tokens = TokenStore::new(store.clone(), settings.store.state.clone()).list().await;
    let access = tokens.map_err(|error| (error.to_string(), "see the finding on its bucket".to_owned()));
    findings.push(match access {
        Ok(tokens) => access_to(&settings.http, tokens.len()),
        Err(fault) => Finding::new(ACCESS, Err::<String, _>(fault)),
    });
    let gallery = GalleryStores::new(store, settings).gallery(&GalleryName::default()).check().await;
    let remedy = "see the finding on its bucket; `rollcall gallery import --replace` replaces a damaged gallery";
    let gallery = gallery.map_err(|e| (e.to_string(), remedy.to_owned())).and_then(|gallery| fit(&gallery, model));
    findings.push(Finding::new("gallery", gallery));
    findings
}

/// Returns who may use the server, or why nobody can.
fn access_to(http: &Http, tokens: usize) -> Finding {
    let result = match (http.is_local(), tokens) {
        (true, 0) => Ok(format!("{} is open to everyone on this machine until a token is created", http.listen)),
        _ if http.anonymous == Anonymous::Upload => {
            let detail = format!("everyone who can reach {} may upload (http.anonymous); {tokens} tokens", http.listen);
            return Finding::warning(ACCESS, detail, "set http.anonymous = \"none\" once every client sends a token");
        }
        (false, 0) => Err((
            format!("others can reach {} (http.listen), but there is no token", http.listen),
            "create one with `rollcall token create --role admin`".to_owned(),
        )),
        _ => Ok(format!("{tokens} tokens")),
    };
    Finding::new(ACCESS, result)
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
    fn an_address_that_others_can_reach_needs_a_token() {
        let mut http = crate::testing::settings().http;
        assert!(access_to(&http, 0).result.expect("no fault").contains("until a token is created"));
        http.listen = ([0, 0, 0, 0], 5000).into();
        assert!(access_to(&http, 0).result.expect_err("a fault").1.contains("rollcall token create"));
        assert_eq!(access_to(&http, 2).result, Ok("2 tokens".to_owned()));
        http.anonymous = Anonymous::Upload;
        for tokens in [0, 2] {
            let open = access_to(&http, tokens);
            assert!(open.is_warning, "{:?}", open.result);
            assert!(open.result.expect_err("a warning").0.contains("everyone who can reach 0.0.0.0:5000 may upload"));
        }
    }

    #[test]
    fn a_gallery_of_another_model_is_a_fault() {
        let (own, other) = (ModelId::known("m"), ModelId::known("other"));
        let ada = || vec![Person::new("Ada", vec![vec![1.0]])];
        let gallery = Manifest::of_snapshot(1, ada(), Some(own.clone()));
        assert_eq!(fit(&gallery, Some(&own)), Ok("1 people, embedded by m".to_owned()));
        let (fault, _) = fit(&gallery, Some(&other)).unwrap_err();
        assert!(fault.contains("the model m,") && fault.contains("those of other"), "{fault}");
        assert!(fit(&gallery, None).is_ok(), "there is another finding on an embedder that does not load");
        assert!(fit(&Manifest::of_snapshot(1, ada(), None), Some(&other)).unwrap().contains("not recorded"));
        assert!(fit(&Manifest::default(), Some(&other)).unwrap().contains("nobody"));
    }
}
