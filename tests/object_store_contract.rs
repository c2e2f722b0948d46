//! Every object store keeps the contract of `rollcall::cloud::ObjectStore`. Workers open the same folder as their
//! parent, so the two handles of a world stand for two processes.

#[path = "contract/objects.rs"]
mod contract;

use std::sync::Arc;

use contract::World;
use rollcall::cloud::local::LocalObjects;

async fn files() -> World {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let [a, b] = [(); 2].map(|()| Arc::new(LocalObjects::open(folder.path()).expect("a store")));
    World { stores: [a, b], bucket: "bucket".into(), _keep: Box::new(folder) }
}

object_store_contract!(on_files, crate::files);
