//! Measures how many instances there are at the same time.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use rollcall::cloud::aws::ec2_client;
use tokio::task::JoinHandle;

use rollcall_testing::emulators;

use super::aws_cluster::Cluster;

/// Describes the fleet from outside, as fast as EC2 answers, and keeps the largest number of instances that were
/// neither terminated nor shutting down.
pub struct FleetWatch {
    most: Arc<AtomicUsize>,
    looks: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl FleetWatch {
    pub async fn start(cluster: &Cluster) -> Self {
        let client = ec2_client(&emulators::sdk(&cluster.ec2.url).await);
        let (most, looks, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let task = tokio::spawn({
            let (most, looks, over): (_, _, Arc<AtomicBool>) = (most.clone(), looks.clone(), Arc::clone(&over));
            async move {
                while !over.load(Ordering::Relaxed) {
                    let answer = client.describe_instances().send().await.expect("a description");
                    let states =
                        answer.reservations().iter().flat_map(|r| r.instances()).filter_map(|i| i.state()?.name());
                    let gone = ["shutting-down", "terminated"];
                    most.fetch_max(states.filter(|s| !gone.contains(&s.as_str())).count(), Ordering::Relaxed);
                    looks.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        Self { most, looks, over, task }
    }

    /// Returns the largest number of instances, and the number of descriptions.
    pub async fn end(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic");
        (self.most.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed))
    }
}
