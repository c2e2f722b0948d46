//! The example's job, which is not a recognition, runs on the emulated cloud: from no instances to a result, and back
//! to none.

use std::process::Stdio;

use sha2::{Digest as _, Sha256};

use crate::support::aws_cluster::Cluster;

#[tokio::test]
async fn a_job_of_another_kind_runs_on_sqs_s3_and_ec2_from_nothing_and_back() {
    let cluster = Cluster::start_running(&rollcall_testing::example("checksum"), &[]).await;
    assert_eq!(cluster.instances().await, [], "nothing runs before the first job");
    let mut command = cluster.command(&["sum", "Cargo.toml", "README.md"]);
    let output = tokio::task::spawn_blocking(move || command.stderr(Stdio::inherit()).output());
    let output = output.await.expect("no panic").expect("the example runs");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    for file in ["Cargo.toml", "README.md"] {
        let digest = Sha256::digest(std::fs::read(file).expect("readable"));
        let sum: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(text.lines().any(|line| line.contains(&sum) && line.ends_with(file)), "{file}: {text}");
    }
    assert!(!cluster.instances().await.is_empty(), "an instance was launched for them");
    assert_eq!(cluster.count(&["pending", "running", "stopping"]).await, 0, "and none is left");
}
