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

/// Pause between two looks: an instance exists for much longer. Without it, looking would take a core.
const PAUSE: Duration = Duration::from_millis(20);

/// Reads the fleet from the emulator all the time, and keeps the largest number of instances that were neither
/// terminated nor shutting down.
pub struct FleetWatch {
    most: Arc<AtomicUsize>,
    looks: Arc<AtomicUsize>,
    over: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl FleetWatch {
    pub async fn start(cluster: &Cluster) -> Self {
        let url = format!("{}/instances", cluster.ec2.control);
        let (most, looks, over) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default(), Arc::default());
        let task = tokio::spawn({
            let (most, looks, over): (_, _, Arc<AtomicBool>) = (most.clone(), looks.clone(), Arc::clone(&over));
            async move {
                let client = Client::new();
                while !over.load(Ordering::Relaxed) {
                    let answer = client.get(&url).send().await.expect("the emulator answers");
                    let instances: Vec<Value> = answer.json().await.expect("JSON");
                    let live = |i: &&Value| i["state"] != "shutting-down" && i["state"] != "terminated";
                    most.fetch_max(instances.iter().filter(live).count(), Ordering::Relaxed);
                    looks.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(PAUSE).await;
                }
            }
        });
        Self { most, looks, over, task }
    }

    /// Returns the largest number of instances, and the number of looks.
    pub async fn end(self) -> (usize, usize) {
        self.over.store(true, Ordering::Relaxed);
        self.task.await.expect("no panic");
        (self.most.load(Ordering::Relaxed), self.looks.load(Ordering::Relaxed))
    }
}
