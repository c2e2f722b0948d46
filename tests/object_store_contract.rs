//! Every object store keeps the contract of `rollcall::cloud::ObjectStore`. Workers open the same folder as their
//! parent, so the two handles of a world stand for two processes.

#[path = "contract/objects.rs"]
mod contract;
#[cfg(feature = "aws")]
#[path = "support/emulators.rs"]
mod emulators;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/wait.rs"]
mod wait;

use std::sync::Arc;

use contract::World;
use rollcall::cloud::local::LocalObjects;

async fn files() -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [a, b] = [(); 2].map(|()| Arc::new(LocalObjects::open(folder.path()).expect("a store")));
    World { stores: [a, b], bucket: "bucket".into(), _keep: Box::new(folder) }
}

#[cfg(feature = "aws")]
async fn s3() -> World {
    use rollcall::cloud::aws::{Encryption, S3Objects, s3_client};
    let sdk = emulators::sdk(&emulators::shared_ministack().await.url).await;
    let client = s3_client(&sdk, true);
    let bucket = format!("contract-{}", ulid::Ulid::generate()).to_lowercase();
    client.create_bucket().bucket(&bucket).send().await.expect("a bucket");
    let [a, b] = [(); 2].map(|()| Arc::new(S3Objects::new(client.clone(), Encryption::S3)));
    World { stores: [a, b], bucket, _keep: Box::new(()) }
}

object_store_contract!(on_files, crate::files);
#[cfg(feature = "aws")]
object_store_contract!(on_s3, crate::s3);
