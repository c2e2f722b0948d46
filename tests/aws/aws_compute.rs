//! Instances on EC2 under adverse conditions: no capacity, throttling, quotas, lost responses, interruption notices.

use std::time::Duration;

use rollcall::{
    cloud::{
        CloudError, Compute, InstanceId, InstanceState, Metadata, Queues,
        aws::{Ec2Compute, Ec2Metadata, Ec2Options, SqsQueues, ec2_client, sqs_client},
    },
    settings::Launching,
};
use rollcall_testing::{Emulator, wait_until};
use serde_json::json;

/// Longest wait for anything that is expected to happen.
const TIMEOUT: Duration = Duration::from_secs(60);

fn launching() -> Launching {
    Launching {
        image: Some("ami-12345678".into()),
        instance_types: ["c7i.large", "c6i.large"].map(Into::into).into(),
        capacity_memory: Duration::from_secs(600),
        ..Launching::default()
    }
}

fn with(launch: Launching) -> Ec2Options {
    Ec2Options { cluster: "moody".into(), name_prefix: "worker-".into(), launch, ..Ec2Options::default() }
}

fn options() -> Ec2Options {
    with(launching())
}

async fn fleet(options: Ec2Options) -> (Emulator, Ec2Compute) {
    let ec2 = Emulator::ec2(None, &[]).await;
    let compute = Ec2Compute::new(ec2_client(&rollcall_testing::emulators::sdk(&ec2.url).await), options);
    (ec2, compute)
}

async fn launches(ec2: &Emulator) -> u64 {
    ec2.get_control("/calls").await["RunInstances"].as_u64().unwrap_or(0)
}

#[tokio::test]
async fn a_type_without_capacity_is_replaced_by_the_next_and_remembered() {
    let (ec2, compute) = fleet(options()).await;
    let lost = json!([{"action": "RunInstances", "code": "InsufficientInstanceCapacity", "status": 500, "times": 9, "instance_type": "c7i.large"}]);
    ec2.post_control("/faults", lost).await;
    assert_eq!(compute.launch("one", 2).await.expect("the other type").len(), 2);
    assert_eq!(launches(&ec2).await, 2);
    assert_eq!(compute.launch("two", 1).await.expect("the other type").len(), 1);
    assert_eq!(launches(&ec2).await, 3, "the type without capacity is remembered and not requested again");
}

#[tokio::test]
async fn a_launch_that_one_type_cannot_fill_is_completed_with_the_next() {
    let (ec2, compute) = fleet(options()).await;
    ec2.post_control("/faults", json!([{"action": "RunInstances", "capacity": 2, "instance_type": "c7i.large"}])).await;
    let ids = compute.launch("five", 5).await.expect("launched");
    assert_eq!(ids.len(), 5);
    assert_eq!(compute.launch("five", 5).await.expect("the same"), ids);
    assert_eq!(compute.describe().await.expect("described").len(), 5);
    assert_eq!(launches(&ec2).await, 2, "a repeated token launches nothing");
}

#[tokio::test]
async fn missing_capacity_is_reported_and_the_token_can_be_retried_later() {
    let (ec2, compute) = fleet(with(Launching { capacity_memory: Duration::ZERO, ..launching() })).await;
    ec2.post_control(
        "/faults",
        json!([{"action": "RunInstances", "code": "InsufficientInstanceCapacity", "status": 500, "times": 2}]),
    )
    .await;
    let refused = compute.launch("one", 1).await;
    assert!(matches!(refused, Err(CloudError::NoCapacity(_))), "{refused:?}");
    assert_eq!(compute.launch("one", 1).await.expect("there is some now").len(), 1);
}

#[tokio::test]
async fn throttling_and_faults_are_reported_at_once_and_can_be_retried() {
    let (ec2, compute) = fleet(options()).await;
    for (code, status) in [("RequestLimitExceeded", 503), ("InternalError", 500), ("VcpuLimitExceeded", 400)] {
        let before = launches(&ec2).await;
        ec2.post_control("/faults", json!([{"action": "RunInstances", "code": code, "status": status, "times": 1}]))
            .await;
        let refused = compute.launch(code, 1).await.expect_err("refused");
        let right = match code {
            "RequestLimitExceeded" => refused == CloudError::Throttled,
            "InternalError" => matches!(refused, CloudError::Unavailable(_)),
            _ => matches!(refused, CloudError::Quota(_)),
        };
        assert!(right && refused.retryable(), "{code}: {refused:?}");
        assert_eq!(launches(&ec2).await, before + 1, "{code}: one call per launch, without retries");
        assert_eq!(compute.launch(code, 1).await.expect("launched").len(), 1);
    }
    assert_eq!(compute.describe().await.expect("described").len(), 3);
}

#[tokio::test]
async fn a_quota_reached_half_way_leaves_what_was_launched() {
    let (ec2, compute) = fleet(options()).await;
    let faults = json!([
        {"action": "RunInstances", "capacity": 1, "instance_type": "c7i.large"},
        {"action": "RunInstances", "code": "VcpuLimitExceeded", "times": 9, "instance_type": "c6i.large"},
    ]);
    ec2.post_control("/faults", faults).await;
    assert_eq!(compute.launch("three", 3).await.expect("one of three").len(), 1);
}

#[tokio::test]
async fn a_launch_with_a_lost_response_is_not_duplicated() {
    let (ec2, first) = fleet(options()).await;
    let ids = first.launch("lost", 2).await.expect("launched");
    // A controller that has not received the response, as after a broken connection.
    let again = Ec2Compute::new(ec2_client(&rollcall_testing::emulators::sdk(&ec2.url).await), options());
    assert_eq!(again.launch("lost", 2).await.expect("the same"), ids);
    assert_eq!(again.describe().await.expect("described").len(), 2);
}

#[tokio::test]
async fn a_new_controller_rebuilds_the_fleet_from_ec2_and_continues_the_names() {
    let (ec2, first) = fleet(options()).await;
    first.launch("a", 2).await.expect("launched");
    let second = Ec2Compute::new(ec2_client(&rollcall_testing::emulators::sdk(&ec2.url).await), options());
    let known = second.describe().await.expect("described");
    assert!(known.iter().all(|i| i.token == "a"), "{known:?}");
    second.launch("b", 1).await.expect("launched");
    let mut names: Vec<String> = second.describe().await.expect("described").into_iter().map(|i| i.name).collect();
    names.sort();
    assert_eq!(names, ["worker-1", "worker-2", "worker-3"]);
}

#[tokio::test]
async fn spot_comes_first_and_on_demand_where_there_is_none() {
    let (ec2, compute) = fleet(with(Launching { spot: true, instance_types: vec![], ..launching() })).await;
    compute.launch("spot", 1).await.expect("launched");
    let faults = json!([{"action": "RunInstances", "code": "MaxSpotInstanceCountExceeded", "times": 1}]);
    ec2.post_control("/faults", faults).await;
    compute.launch("on demand", 1).await.expect("launched");
    assert_eq!(launches(&ec2).await, 3);
    wait_until("nothing is pending", TIMEOUT, async || {
        let machines = ec2.get_control("/instances").await;
        machines.as_array().expect("a list").iter().all(|machine| machine["state"] != "pending")
    })
    .await;
    // EC2 does not stop one-time spot instances: they terminate themselves.
    for instance in compute.describe().await.expect("described") {
        assert_eq!(metadata(&ec2, &instance.id).await.stop_self().await, Ok(()));
    }
    for instance in compute.describe().await.expect("described") {
        let spot = instance.token == "spot";
        let ends = if spot {
            [InstanceState::ShuttingDown, InstanceState::Terminated]
        } else {
            [InstanceState::Stopping, InstanceState::Stopped]
        };
        assert!(ends.contains(&instance.state), "{instance:?}");
    }
}

/// Returns the metadata of an instance on that emulator.
async fn metadata(ec2: &Emulator, id: &InstanceId) -> Ec2Metadata {
    let queues = SqsQueues::new(
        sqs_client(&rollcall_testing::emulators::sdk(&rollcall_testing::emulators::shared_ministack().await.url).await),
        Duration::ZERO,
        "moody",
    );
    let spec = rollcall::cloud::QueueSpec {
        name: format!("probe-{}", ulid::Ulid::generate()),
        fifo: false,
        visibility: Duration::from_secs(30),
        max_receives: 1000,
        dead_letter: None,
        durable: true,
    };
    let probe = queues.create(spec).await.expect("a queue");
    let machines = ec2.get_control("/instances").await;
    let machine = machines.as_array().expect("a list").iter().find(|machine| machine["id"] == id.0).expect("there");
    let endpoint = machine["metadata"].as_str().expect("a URL").to_owned();
    let imds = aws_config::imds::Client::builder().endpoint(endpoint).expect("a URL").build();
    Ec2Metadata::new(imds, ec2_client(&rollcall_testing::emulators::sdk(&ec2.url).await), probe)
}

#[tokio::test]
async fn an_instance_learns_its_id_and_interruption_notice_and_stops_itself() {
    let (ec2, compute) = fleet(with(Launching { instance_types: vec![], ..launching() })).await;
    let id = compute.launch("one", 1).await.expect("launched").remove(0);
    let metadata = metadata(&ec2, &id).await;

    assert_eq!(metadata.instance_id().await, Ok(id.clone()));
    let state = async || compute.describe().await.expect("described")[0].state;
    wait_until("EC2 calls it running", TIMEOUT, async || ec2.get_control("/instances").await[0]["state"] == "running")
        .await;
    assert_eq!(state().await, InstanceState::Pending, "its worker is not ready");
    assert_eq!(metadata.ready().await, Ok(()));
    assert_eq!(state().await, InstanceState::Running);
    assert_eq!(metadata.interruption().await, Ok(None));
    assert_eq!(metadata.rebalance_recommendation().await, Ok(None));
    let rebalance = json!({"id": id.0, "rebalance": {"noticeTime": "2026-01-01T00:00:00Z"}});
    ec2.post_control("/notice", rebalance).await;
    assert_eq!(metadata.interruption().await, Ok(None), "a recommendation is none");
    let recommended = metadata.rebalance_recommendation().await.expect("a response").expect("a recommendation");
    assert!(recommended.contains("noticeTime"), "{recommended}");
    let notice = json!({"id": id.0, "notice": {"action": "terminate", "time": "2026-01-01T00:00:00Z"}});
    ec2.post_control("/notice", notice).await;
    let notice = metadata.interruption().await.expect("a response").expect("a notice");
    assert!(notice.reason.contains("terminate"), "{notice:?}");

    // When a whole fleet stops at once, AWS throttles, and further calls would make it worse: the machine is powered off.
    let fail = |code: &str, status: u16, times: u8| json!([{"action": "StopInstances", "code": code, "status": status, "times": times}]);
    ec2.post_control("/faults", fail("RequestLimitExceeded", 503, 1)).await;
    assert_eq!(metadata.stop_self().await, Err(CloudError::Throttled));
    // Other failures pass.
    ec2.post_control("/faults", fail("InternalError", 500, 2)).await;
    assert_eq!(metadata.stop_self().await, Ok(()));
    let state = compute.describe().await.expect("described")[0].state;
    assert!(matches!(state, InstanceState::Stopping | InstanceState::Stopped), "{state:?}");
}
