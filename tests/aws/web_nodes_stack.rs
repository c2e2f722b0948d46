//! The stack with several web nodes behind a load balancer: what it creates, how it is changed, and that its times fit.

use std::{collections::BTreeMap, time::Duration};

use crate::{
    deployment::{alive, variables},
    support::{account::Account, inventory::Changes},
};
use aws_sdk_ec2::{
    Client,
    types::{Instance, SecurityGroup},
};
use rollcall::settings::{Layers, Machine, Settings};

const UP: [&str; 6] = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678"];
const CERTIFICATE: &str = "arn:aws:acm:us-east-1:000000000000:certificate/12345678";

/// Returns the number behind a key of the template.
fn number(template: &str, key: &str) -> u64 {
    let lines: Vec<&str> = template.lines().filter(|line| line.contains(key)).collect();
    let [line] = lines[..] else { panic!("{key}: {lines:?}") };
    let (_, value) = line.split_once(key).expect("the key");
    let digits = value.trim_start_matches(|c: char| !c.is_ascii_digit());
    digits.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).expect("a number")
}

#[test]
fn each_time_of_the_load_balancer_is_longer_than_the_one_that_it_covers() {
    let layers = Layers::load(None, std::collections::HashMap::new()).expect("the defaults");
    let http = Settings::from_layers(&layers, Machine::with_cores(2)).expect("valid settings").http;
    let template = std::fs::read_to_string("deploy/cloudformation.yaml").expect("the template");
    let seconds = |key: &str| Duration::from_secs(number(&template, key));
    let longest = http.upload_timeout + http.deadline;
    let idle = seconds("idle_timeout.timeout_seconds");
    let keep_alive = Duration::from_secs(60 * number(&template, "HTTP__KEEP_ALIVE="));
    assert!(template.contains(&format!("HTTP__KEEP_ALIVE={}m", keep_alive.as_secs() / 60)), "in minutes");
    assert!(longest < idle && idle < keep_alive, "{longest:?} < {idle:?} < {keep_alive:?}");
    let deregistration = seconds("deregistration_delay.timeout_seconds");
    assert!(longest < deregistration, "{longest:?} < {deregistration:?}");
    // The group does not replace a node that is about to pass its first checks.
    let checks = number(&template, "UnhealthyThresholdCount:") * number(&template, "HealthCheckIntervalSeconds:");
    assert!(checks < number(&template, "HealthCheckGracePeriod:"));
    assert!(seconds("HealthCheckTimeoutSeconds:") < seconds("HealthCheckIntervalSeconds:"));
    // The documentation states them.
    let documentation = std::fs::read_to_string("docs/aws.md").expect("the documentation");
    let chain = format!(
        "{} s + {} s < {} s < {} s",
        http.upload_timeout.as_secs(),
        http.deadline.as_secs(),
        idle.as_secs(),
        keep_alive.as_secs()
    );
    assert!(documentation.contains(&chain), "docs/aws.md does not say: {chain}");
}

async fn group(ec2: &Client, name: &str) -> Option<SecurityGroup> {
    let groups = ec2.describe_security_groups().send().await.expect("a list");
    groups.security_groups.unwrap_or_default().into_iter().find(|group| group.group_name() == Some(name))
}

fn tag<'a>(instance: &'a Instance, key: &str) -> Option<&'a str> {
    instance.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value())
}

/// Returns the variables that the newest version of the web nodes' launch template writes.
pub async fn web_variables(ec2: &Client) -> BTreeMap<String, String> {
    let versions = ec2.describe_launch_template_versions().launch_template_name("rollcall-web").send().await;
    let versions = versions.expect("a list").launch_template_versions.unwrap_or_default();
    let newest = versions.into_iter().max_by_key(|version| version.version_number()).expect("a version");
    variables(newest.launch_template_data().and_then(|data| data.user_data()).expect("user data"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_changes_between_one_web_node_and_several() {
    let account = Account::start(&[("LOAD_BALANCER_SPEED", "20")]).await;
    let (before, ec2) = (account.inventory().await, account.ec2().await);

    let documentation = std::fs::read_to_string("docs/aws.md").expect("the documentation");
    let cost = documentation.lines().find_map(|line| line.strip_prefix("| **total with two web nodes** | | **"));
    let cost = format!("costs about {} $ a month", cost.expect("what it costs").trim_end_matches("** |"));

    // What is missing is reported before anything is created.
    let two = [&UP[..], &["--web-nodes", "2"]].concat();
    let why = account.run(&two).failed();
    assert!(why.contains("--certificate is missing") && why.contains("us-east-1"), "{why}");
    let two = [&two[..], &["--certificate", CERTIFICATE]].concat();
    let subnets = ec2.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let why = account.run(&[&two[..], &["--web-subnets", subnets[0].subnet_id().expect("an id")]].concat()).failed();
    assert!(why.contains("at least two zones"), "{why}");
    let why = account.run(&[&UP[..], &["--certificate", CERTIFICATE]].concat()).failed();
    assert!(why.contains("--web-nodes"), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());

    let created = account.run(&two);
    assert!(created.err.contains(&cost), "{}", created.err);
    let outputs = created.done();
    assert!(outputs.contains("Address https://") && outputs.contains(".elb.amazonaws.com/\n"), "{outputs}");
    let nodes = alive(&ec2).await;
    assert_eq!(nodes.len(), 2);
    let zones = nodes.iter().map(|node| node.placement().and_then(|placement| placement.availability_zone()));
    assert_eq!(zones.collect::<std::collections::BTreeSet<_>>().len(), 2, "each in its own zone");
    for node in &nodes {
        assert_eq!((tag(node, "Name"), tag(node, "rollcall:cluster")), (Some("rollcall-web"), None));
        let profile = node.iam_instance_profile().and_then(|profile| profile.arn()).expect("a role");
        assert!(profile.contains("WebProfile"), "{profile}");
        assert_eq!(node.instance_type().map(|kind| kind.as_str()), Some("t3.small"));
        let groups = node.network_interfaces().iter().flat_map(|interface| interface.groups());
        let mut groups: Vec<_> = groups.filter_map(|group| group.group_name()).collect();
        groups.sort_unstable();
        assert_eq!(groups, ["rollcall-BalancedWebGroup", "rollcall-WorkerGroup"]);
    }
    // Clients reach the load balancer, and only that reaches the nodes.
    let balancer = group(&ec2, "rollcall-BalancerGroup").await.expect("a group");
    let [https] = balancer.ip_permissions() else { panic!("{balancer:?}") };
    assert_eq!((https.from_port(), https.ip_ranges()[0].cidr_ip()), (Some(443), Some("10.0.0.0/8")));
    let web = group(&ec2, "rollcall-BalancedWebGroup").await.expect("a group");
    let [http] = web.ip_permissions() else { panic!("{web:?}") };
    assert_eq!((http.from_port(), http.ip_ranges().len()), (Some(5000), 0));
    assert_eq!(http.user_id_group_pairs()[0].group_id(), balancer.group_id());
    let workers = group(&ec2, "rollcall-WorkerGroup").await.expect("a group");
    assert_eq!(workers.ip_permissions().len(), 0, "it admits nobody");
    // They believe what the load balancer says of clients, and say that they are ready when it has found them so.
    let of_group = web_variables(&ec2).await;
    assert_eq!(of_group["ROLLCALL__AWS__STACK_RESOURCE"], "WebScaling");
    assert_eq!(of_group["ROLLCALL__AWS__HEALTH_CHECKS"], "2");
    let mut zones: Vec<_> = subnets.iter().map(|s| (s.availability_zone(), s.cidr_block().expect("a range"))).collect();
    zones.sort_unstable();
    assert_eq!(of_group["ROLLCALL__HTTP__PROXIES"], format!("{},{}", zones[0].1, zones[1].1));
    let settings = account.command(&["config", "show"]).envs(&of_group).output().expect("the program starts");
    assert!(settings.status.success(), "{}", String::from_utf8_lossy(&settings.stderr));
    assert_eq!(ec2.describe_addresses().send().await.expect("a list").addresses().len(), 0, "no elastic address");

    // One more, without a word about the rest.
    let changed = account.run(&["aws", "up", "--web-nodes", "3"]);
    assert!(changed.success && !changed.err.contains(&cost), "{}", changed.err);
    rollcall_testing::wait_until("there are three", Duration::from_secs(60), async || alive(&ec2).await.len() == 3)
        .await;

    // To one and back.
    let outputs = account.run(&["aws", "up", "--web-nodes", "1"]).done();
    assert!(outputs.contains("Address http://") && outputs.contains(":5000/"), "{outputs}");
    let single = alive(&ec2).await;
    assert_eq!(single.len(), 1);
    assert!(group(&ec2, "rollcall-BalancerGroup").await.is_none());
    let of_single = web_variables(&ec2).await;
    assert_eq!(of_single["ROLLCALL__AWS__STACK_RESOURCE"], "Web");
    assert!(!of_single.contains_key("ROLLCALL__HTTP__PROXIES"), "{of_single:?}");
    let changed = account.run(&["aws", "up", "--web-nodes", "2"]);
    assert!(changed.err.contains(&cost), "{}", changed.err);
    let outputs = changed.done();
    assert!(outputs.contains("Address https://"), "{outputs}");
    let nodes = alive(&ec2).await;
    assert!(nodes.len() == 2 && nodes.iter().all(|node| node.instance_id() != single[0].instance_id()));

    let left = account.run(&["aws", "down", "--delete-data"]).done();
    assert_eq!(left, "nothing is left: the cluster costs nothing\n");
    assert_eq!(account.changes(&before).await, Changes::default(), "only what was there before");
}
