//! Checks that every adapter of `rollcall::cloud::Compute` satisfies the contract.

use std::{path::PathBuf, sync::Arc};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall::cloud::{
    Compute as _, InstanceId,
    local::{Launcher, LocalCompute},
};

use crate::contract::compute::{Stop, World};

async fn processes() -> World {
    let name_prefix = "contract-".to_owned();
    let new_adapter = || {
        LocalCompute::new(Launcher {
            program: PathBuf::from("/bin/sh"),
            args: ["-c", "exec sleep 600", "worker"].map(Into::into).into(),
            name_prefix: name_prefix.clone(),
        })
    };
    let (compute, other) = (new_adapter(), new_adapter());
    // A worker reports over the socket that it is ready; these processes have no socket.
    let boot = {
        let compute = compute.clone();
        Box::new(move |id: &_| compute.ready(id))
    };
    // A worker that stops itself first reports that it is stopping, and then exits.
    let stop: Stop = {
        let compute = compute.clone();
        Box::new(move |id: &InstanceId| {
            let (compute, id) = (compute.clone(), id.clone());
            Box::pin(async move {
                let instances = compute.describe().await.expect("the instances are described");
                let pid = instances.into_iter().find(|i| i.id == id).and_then(|i| i.pid);
                let pid = pid.expect("the instance has a process");
                compute.stopping(&id).expect("the instance is running");
                kill(Pid::from_raw(pid as i32), Signal::SIGTERM).expect("the process can be signalled");
            })
        })
    };
    World { compute: Arc::new(compute), other: Arc::new(other), boot, stop, name_prefix }
}

#[cfg(feature = "aws")]
async fn ec2() -> World {
    use rollcall::{
        cloud::aws::{Ec2Compute, Ec2Options, READY_TAG, ec2_client},
        settings::Launching,
    };
    let name_prefix = "contract-".to_owned();
    let client =
        ec2_client(&rollcall_testing::emulators::sdk(&rollcall_testing::emulators::shared_ec2().await.url).await);
    let new_adapter = || {
        let options = Ec2Options {
            cluster: ulid::Ulid::generate().to_string(),
            name_prefix: name_prefix.clone(),
            launch: Launching { image: Some("ami-12345678".into()), ..Launching::default() },
            ..Ec2Options::default()
        };
        Arc::new(Ec2Compute::new(client.clone(), options))
    };
    let (compute, other) = (new_adapter(), new_adapter());
    // A worker asks EC2 to stop its instance.
    let stop: Stop = {
        let client = client.clone();
        Box::new(move |id: &InstanceId| {
            let call = client.stop_instances().instance_ids(&id.0);
            Box::pin(async move { drop(call.send().await.expect("EC2 accepts the stop")) })
        })
    };
    // A worker tags its instance when it is ready.
    let boot: Box<dyn Fn(&InstanceId) + Send + Sync> = Box::new(move |id| {
        let now = (rollcall::clock::now_ms() / 1000).to_string();
        let tag = aws_sdk_ec2::types::Tag::builder().key(READY_TAG).value(now).build();
        tokio::spawn(client.create_tags().resources(&id.0).tags(tag).send());
    });
    World { compute, other, boot, stop, name_prefix }
}

crate::compute_contract!(each, of_processes, crate::compute_contract::processes);
#[cfg(feature = "aws")]
crate::compute_contract!(concurrently, on_ec2, crate::compute_contract::ec2);
