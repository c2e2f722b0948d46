//! Every cloud of machines keeps the contract of `rollcall::cloud::Compute`.

#[path = "contract/compute.rs"]
mod contract;

use std::{path::PathBuf, sync::Arc};

use contract::World;
use rollcall::cloud::local::{Launcher, LocalCompute};

async fn processes() -> World {
    let name_prefix = "contract-".to_owned();
    let fleet = || {
        LocalCompute::new(Launcher {
            program: PathBuf::from("/bin/sh"),
            args: ["-c", "exec sleep 600", "worker"].map(Into::into).into(),
            name_prefix: name_prefix.clone(),
        })
    };
    let (compute, other) = (fleet(), fleet());
    // A worker says over the socket that it is ready; these have none.
    let boot = {
        let compute = compute.clone();
        Box::new(move |id: &_| compute.ready(id))
    };
    World { compute: Arc::new(compute), other: Arc::new(other), boot, name_prefix, _keep: Box::new(()) }
}

compute_contract!(of_processes, crate::processes);
