//! Every object store keeps the contract of `rollcall::cloud::ObjectStore`. Workers open the same folder as their
//! parent, so the two handles of a world stand for two processes.

use std::sync::Arc;

use crate::contract::objects::World;
use rollcall::cloud::{ObjectStore as _, Precondition, local::LocalObjects};

async fn files() -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [a, b] = [(); 2].map(|()| Arc::new(LocalObjects::open(folder.path()).expect("a store")));
    World { stores: [a, b], bucket: "bucket".into(), _keep: Box::new(folder) }
}

#[cfg(feature = "aws")]
async fn s3() -> World {
    use rollcall::cloud::aws::{Encryption, S3Objects, s3_client};
    let sdk = rollcall_testing::emulators::sdk(&rollcall_testing::emulators::shared_ministack().await.url).await;
    let client = s3_client(&sdk, true);
    let bucket = format!("contract-{}", ulid::Ulid::generate()).to_lowercase();
    client.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let [a, b] = [(); 2].map(|()| Arc::new(S3Objects::new(client.clone(), Encryption::S3)));
    World { stores: [a, b], bucket, _keep: Box::new(()) }
}

crate::object_store_contract!(each, on_files, crate::object_store_contract::files);
#[cfg(feature = "aws")]
crate::object_store_contract!(concurrently, on_s3, crate::object_store_contract::s3);

/// A link to itself cannot be followed: reading the folder is an error.
#[tokio::test]
async fn a_folder_that_cannot_be_read_fails_the_check() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalObjects::open(folder.path()).expect("a store");
    store.check("bucket").await.expect("the first put creates it");
    let bucket = folder.path().join("objects/bucket");
    std::os::unix::fs::symlink(&bucket, &bucket).expect("a link to itself");
    store.check("bucket").await.expect_err("it cannot be read");
}

#[cfg(feature = "aws")]
#[tokio::test]
async fn a_bucket_that_is_missing_fails_the_check() {
    use rollcall::cloud::CloudError;
    let World { stores: [store, _], .. } = s3().await;
    let missing = store.check("contract-missing").await;
    assert!(matches!(missing, Err(CloudError::NotFound(_))), "{missing:?}");
}

#[tokio::test]
async fn a_listing_leaves_out_a_file_that_is_deleted_meanwhile() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = LocalObjects::open(folder.path()).expect("a store");
    store.put("bucket", "kept", "bytes".into(), Precondition::Always).await.expect("written");
    // A directory entry without a file behind it, which is what a reader sees if the file has just been deleted.
    std::os::unix::fs::symlink("gone", folder.path().join("objects/bucket/deleted")).expect("a link");
    let listed = store.list("bucket", "").await.expect("a listing");
    assert_eq!(listed.into_iter().map(|object| object.key).collect::<Vec<_>>(), ["kept"]);
}
