//! Measures how many instances there are at the same time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use reqwest::Client;
use serde_json::Value;
use tokio::task::JoinHandle;

use super::aws_cluster::Cluster;

/// Pause between two samples: an instance exists for much longer. Without it, sampling would take a core.
const PAUSE: Duration = Duration::from_millis(20);

/// Reads the fleet from the emulator all the time, and keeps the largest number of instances that were neither
/// terminated nor shutting down.
pub struct FleetWatch {
    most: Arc<AtomicUsize>,
    samples: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl FleetWatch {
    pub async fn start(cluster: &Cluster) -> Self {
        let url = format!("{}/instances", cluster.ec2.control);
        let (most, samples, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let task = tokio::spawn({
            let (most, samples, over): (_, _, Arc<AtomicBool>) = (most.clone(), samples.clone(), Arc::clone(&over));
            async move {
                let client = Client::new();
                while !over.load(Ordering::Relaxed) {
                    let response = client.get(&url).send().await.expect("the emulator responds");
                    let instances: Vec<Value> = response.json().await.expect("JSON");
                    let live = |i: &&Value| i["state"] != "shutting-down" && i["state"] != "terminated";
                    most.fetch_max(instances.iter().filter(live).count(), Ordering::Relaxed);
                    samples.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self { most, samples, over, task }
    }

    /// Returns the largest number of instances, and the number of samples.
    pub async fn end(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic");
        (self.most.load(Ordering::Relaxed), self.samples.load(Ordering::Relaxed))
    }
}
