//! Workers need no public address: with VPC endpoints, or through a NAT gateway, they reach all that they need.

use std::time::Duration;

use aws_sdk_ec2::{
    Client,
    types::{AttributeBooleanValue, Instance, VpcEndpointType},
};
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};
use rollcall_testing::wait_until;

use crate::{
    aws_web_nodes::connect,
    support::{account::Account, inventory::Changes},
};

/// Settings of all machines: as quick as the emulators allow.
const MACHINES: [(&str, &str); 6] = [
    ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
    ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
    ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
    ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
    ("ROLLCALL__WORKER__THREADS", "1"),
    ("ROLLCALL__LOG__LEVEL", "info"),
];
/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Returns the machines that run, except the one with the elastic address.
async fn workers(account: &Account) -> Vec<Instance> {
    let machines =
        account.ec2().await.describe_instances().send().await.expect("a list").reservations.unwrap_or_default();
    let machines = machines.into_iter().flat_map(|reservation| reservation.instances.unwrap_or_default());
    let is_worker = |machine: &Instance| machine.tags().iter().any(|tag| tag.key() == Some("rollcall:cluster"));
    machines.filter(is_worker).collect()
}

/// Returns the workers that have not ended.
pub async fn alive(account: &Account) -> Vec<Instance> {
    let mut workers = workers(account).await;
    workers.retain(|worker| {
        let state = worker.state().and_then(|state| state.name()).map(|name| name.as_str());
        !matches!(state, Some("shutting-down" | "terminated"))
    });
    workers
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_without_a_public_address_do_their_work_through_vpc_endpoints() {
    let account = Account::start(&MACHINES).await;
    let neighbour = account.launch("Name", "a machine of others in the same network").await;
    let before = account.inventory().await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--private-workers", "--endpoints"];
    let outputs = account.run(&up).done();
    let bucket = outputs.lines().find_map(|line| line.strip_prefix("StateBucket ")).expect("its name");
    account.run_on_cluster(bucket, &["enroll", KNOWN]).done();
    let response = post(&account.web("/"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());

    let workers = workers(&account).await;
    let [worker] = &workers[..] else { panic!("{workers:?}") };
    assert_eq!(worker.public_ip_address(), None);
    let groups: Vec<_> =
        worker.network_interfaces()[0].groups().iter().filter_map(|group| group.group_name()).collect();
    assert!(matches!(groups[..], [group] if group.contains("WorkerGroup")), "{groups:?}");

    let id = worker.instance_id().expect("an id");
    wait_until("its log has arrived", TIMEOUT, async || {
        account.run(&["aws", "logs", "--instance", id]).done().contains("rollcall-worker")
    })
    .await;

    // Names of AWS's services lead to the endpoints in the whole network: they serve what else is there.
    let machines = account.ec2.get_control("/instances").await;
    let machine = machines.as_array().expect("a list").iter().find(|machine| machine["id"] == neighbour.as_str());
    assert_eq!(machine.expect("it")["reached"], serde_json::json!(["ec2", "logs", "s3", "sqs"]));

    // The endpoints are gone with the stack.
    account.run(&["aws", "down", "--delete-data", "--delete-images"]).done();
    let endpoints = account.ec2().await.describe_vpc_endpoints().send().await.expect("a list");
    let states = endpoints.vpc_endpoints().iter().filter_map(|endpoint| endpoint.state()).map(|state| state.as_str());
    assert!(states.clone().count() > 0 && states.clone().all(|state| state == "deleted"), "{endpoints:?}");
    wait_until("nothing is left", TIMEOUT, async || {
        let changes = account.changes(&before).await;
        changes.added.is_empty() && changes.gone.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_of_a_stack_become_private_even_if_up_ends_before_the_update() {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
        ("ROLLCALL__LOG__LEVEL", "info"),
    ])
    .await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let ec2 = account.ec2().await;
    let subnets = ec2.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let (vpc, subnet) = (subnets[0].vpc_id().expect("an id"), subnets[0].subnet_id().expect("an id"));
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8", "--vpc", vpc, "--subnet", subnet]).done();
    account.run_on_cluster("rollcall-state-000000000000-us-east-1", &["enroll", KNOWN]).done();
    let upload = async || {
        let response = post(&account.web("/"), form(&[("a.jpg", &photo(MACRON))])).await;
        assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());
    };
    upload().await;
    let alive = async || alive(&account).await;
    assert!(alive().await.iter().all(|worker| worker.public_ip_address().is_some()));

    // The command does not wait for the end. What it has begun goes on.
    let why = account.run(&["aws", "up", "--private-workers", "--endpoints", "--timeout", "0s"]).failed();
    assert!(why.contains("still changing"), "{why}");
    wait_until("no worker with a public address is left", TIMEOUT, async || {
        alive().await.iter().all(|worker| worker.public_ip_address().is_none())
    })
    .await;
    upload().await;
    let workers = alive().await;
    assert!(!workers.is_empty() && workers.iter().all(|worker| worker.public_ip_address().is_none()), "{workers:?}");
}

/// Creates a subnet in a zone with a route table of its own, which leads nowhere. Returns the ids of both.
pub async fn subnet_in(ec2: &Client, vpc: &str, range: &str, zone: &str) -> [String; 2] {
    let subnet = ec2
        .create_subnet()
        .vpc_id(vpc)
        .cidr_block(range)
        .availability_zone(zone)
        .send()
        .await
        .expect("a subnet")
        .subnet;
    let subnet = subnet.and_then(|subnet| subnet.subnet_id).expect("an id");
    let table = ec2.create_route_table().vpc_id(vpc).send().await.expect("a route table").route_table;
    let table = table.and_then(|table| table.route_table_id).expect("an id");
    ec2.associate_route_table().subnet_id(&subnet).route_table_id(&table).send().await.expect("associated");
    [subnet, table]
}

async fn subnet(ec2: &Client, vpc: &str, range: &str) -> [String; 2] {
    subnet_in(ec2, vpc, range, "us-east-1a").await
}

/// Creates a VPC with host names, and with a subnet that routes to the internet and assigns public addresses. Returns the ids
/// of both.
pub async fn network(account: &Account) -> [String; 2] {
    let ec2 = account.ec2().await;
    let vpc = ec2.create_vpc().cidr_block("10.9.0.0/16").send().await.expect("a VPC").vpc.expect("it is described");
    let vpc = vpc.vpc_id.expect("an id");
    connect(account, &vpc).await;
    set_host_names(&ec2, &vpc, true).await;
    let public = ec2.create_subnet().vpc_id(&vpc).cidr_block("10.9.0.0/24").send().await.expect("a subnet").subnet;
    let public = public.and_then(|subnet| subnet.subnet_id).expect("an id");
    let assigns = AttributeBooleanValue::builder().value(true).build();
    let changed = ec2.modify_subnet_attribute().subnet_id(&public).map_public_ip_on_launch(assigns).send().await;
    changed.expect("it assigns public addresses");
    [vpc, public]
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_in_private_subnets_do_their_work_through_a_nat_gateway() {
    let account = Account::start(&MACHINES).await;
    let ec2 = account.ec2().await;
    let [vpc, public] = network(&account).await;
    let [private, table] = subnet(&ec2, &vpc, "10.9.1.0/24").await;
    let address = ec2.allocate_address().send().await.expect("an address").allocation_id.expect("an id");
    let nat = ec2.create_nat_gateway().subnet_id(&public).allocation_id(address).send().await.expect("a NAT gateway");
    let nat = nat.nat_gateway.and_then(|nat| nat.nat_gateway_id).expect("an id");
    let route = ec2.create_route().route_table_id(table).destination_cidr_block("0.0.0.0/0").nat_gateway_id(nat);
    route.send().await.expect("a route");
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();

    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--vpc", &vpc, "--subnet", &public];
    let outputs = account.run(&[&up[..], &["--worker-subnets", &private, "--private-workers"]].concat()).done();
    let bucket = outputs.lines().find_map(|line| line.strip_prefix("StateBucket ")).expect("its name");
    account.run_on_cluster(bucket, &["enroll", KNOWN]).done();
    let machines = account.ec2.get_control("/instances").await;
    let web = machines.as_array().expect("a list").iter().find(|machine| machine["tags"]["Name"] == "rollcall-web");
    let url = format!("http://127.0.0.1:{}/", web.expect("a web node")["port"]);
    let response = post(&url, form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());

    let workers = workers(&account).await;
    let [worker] = &workers[..] else { panic!("{workers:?}") };
    assert_eq!((worker.public_ip_address(), worker.subnet_id()), (None, Some(private.as_str())));
    let endpoints = ec2.describe_vpc_endpoints().send().await.expect("a list");
    assert_eq!(endpoints.vpc_endpoints().len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_would_reach_nothing_are_refused_before_anything_is_created() {
    let account = Account::start(&[]).await;
    let ec2 = account.ec2().await;
    let [vpc, public] = network(&account).await;
    let [private, table] = subnet(&ec2, &vpc, "10.9.1.0/24").await;
    let defaults = ec2.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let elsewhere = defaults.iter().find(|subnet| subnet.vpc_id() != Some(&vpc)).and_then(|subnet| subnet.subnet_id());
    let before = account.inventory().await;

    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678"];
    let in_vpc = [&up[..], &["--vpc", &vpc, "--subnet", &public]].concat();
    let refused = |more: &[&str], of: &[&str]| account.run(&[of, more].concat()).failed();
    // They share the subnet of the web node, from which only public addresses lead to the internet.
    let shared = refused(&["--private-workers"], &up);
    let own = refused(&["--worker-subnets", &private], &in_vpc);
    let without_address = refused(&["--worker-subnets", &public, "--private-workers"], &in_vpc);
    let refusals = [(&shared, "subnet-"), (&own, &private), (&without_address, public.as_str())];
    for (why, subnet) in refusals {
        assert!(why.contains("leads nowhere for machines without a public address"), "{why}");
        assert!(why.contains(subnet) && why.contains("--endpoints"), "{why}");
    }
    assert!(own.contains(&table), "{own}");
    let other = refused(&["--worker-subnets", elsewhere.expect("a default subnet")], &in_vpc);
    assert!(other.contains(&format!("but the stack is in {vpc}")), "{other}");
    assert_eq!(account.changes(&before).await, Changes::default());

    // Endpoints lead to AWS. A later change is checked too.
    account.run(&[&in_vpc[..], &["--worker-subnets", &public]].concat()).done();
    let why = account.run(&["aws", "up", "--worker-subnets", &private]).failed();
    assert!(why.contains("leads nowhere"), "{why}");
    account.run(&["aws", "up", "--worker-subnets", &private, "--private-workers", "--endpoints"]).done();
    let endpoints = ec2.describe_vpc_endpoints().send().await.expect("a list");
    let s3 = endpoints.vpc_endpoints().iter().find(|e| e.service_name().is_some_and(|name| name.ends_with(".s3")));
    assert_eq!(s3.expect("an endpoint of S3").route_table_ids(), [table]);
}

#[tokio::test(flavor = "multi_thread")]
async fn subnets_in_which_web_nodes_could_not_be_made_are_refused_before_anything_is_created() {
    let account = Account::start(&[]).await;
    let ec2 = account.ec2().await;
    let [vpc, public] = network(&account).await;
    let [private, _] = subnet(&ec2, &vpc, "10.9.1.0/24").await;
    let [twin, _] = subnet(&ec2, &vpc, "10.9.2.0/24").await;
    let [other, _] = subnet_in(&ec2, &vpc, "10.9.3.0/24", "us-east-1b").await;
    let defaults = ec2.describe_subnets().send().await.expect("a list").subnets.unwrap_or_default();
    let default_in = |zone: &str| {
        let found = defaults.iter().find(|s| s.vpc_id() != Some(&vpc) && s.availability_zone() == Some(zone));
        found.and_then(|subnet| subnet.subnet_id()).expect("a default subnet").to_owned()
    };
    let before = account.inventory().await;
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678", "--vpc", &vpc];
    let refused = |more: &[&str]| account.run(&[&up[..], more].concat()).failed();

    let elsewhere = refused(&["--subnet", &default_in("us-east-1a")]);
    assert!(elsewhere.contains(&format!("but the stack is in {vpc}")), "{elsewhere}");
    let without_gateway = refused(&["--subnet", &private, "--worker-subnets", &public]);
    assert!(without_gateway.contains(&format!("the web node's subnet {private} has no route")), "{without_gateway}");
    let certificate = "arn:aws:acm:us-east-1:000000000000:certificate/1";
    let balanced = |subnets: &[&str]| {
        let subnets = subnets.join(",");
        refused(&["--subnet", &public, "--web-nodes", "2", "--certificate", certificate, "--web-subnets", &subnets])
    };
    let elsewhere = balanced(&[&default_in("us-east-1a"), &default_in("us-east-1b")]);
    assert!(elsewhere.contains(&format!("but the stack is in {vpc}")), "{elsewhere}");
    let twice = balanced(&[&private, &twin, &other]);
    assert!(twice.contains("two of them are in us-east-1a"), "{twice}");
    assert_eq!(account.changes(&before).await, Changes::default());
}

/// Sets whether a VPC has host names for private addresses, as the default VPC does.
async fn set_host_names(ec2: &Client, vpc: &str, on: bool) {
    let value = AttributeBooleanValue::builder().value(on).build();
    ec2.modify_vpc_attribute().vpc_id(vpc).enable_dns_hostnames(value).send().await.expect("it is set");
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_that_ec2_would_refuse_are_refused_before_anything_is_created() {
    let account = Account::start(&[]).await;
    let ec2 = account.ec2().await;
    let [vpc, public] = network(&account).await;
    let [private, table] = subnet(&ec2, &vpc, "10.9.1.0/24").await;
    set_host_names(&ec2, &vpc, false).await;
    let before = account.inventory().await;
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678", "--vpc", &vpc, "--subnet", &public];
    let private_up = [&up[..], &["--worker-subnets", &private, "--private-workers"]].concat();
    let with_endpoints = [&private_up[..], &["--endpoints"]].concat();
    let why = account.run(&with_endpoints).failed();
    assert!(why.contains(&format!("--endpoints: {vpc} does not resolve host names (enableDnsHostnames)")), "{why}");
    set_host_names(&ec2, &vpc, true).await;

    // Somebody else's endpoint of one service.
    let make = async |service: &str| {
        let make = ec2.create_vpc_endpoint().vpc_id(&vpc).service_name(format!("com.amazonaws.us-east-1.{service}"));
        let make = match service {
            "s3" => make.vpc_endpoint_type(VpcEndpointType::Gateway).route_table_ids(&table),
            _ => make.vpc_endpoint_type(VpcEndpointType::Interface).subnet_ids(&private).private_dns_enabled(true),
        };
        let made = make.send().await.expect("an endpoint").vpc_endpoint;
        made.and_then(|endpoint| endpoint.vpc_endpoint_id).expect("an id")
    };
    let sqs = make("sqs").await;
    let why = account.run(&with_endpoints).failed();
    assert!(why.contains(&format!("{vpc} has a VPC endpoint for sqs already ({sqs})")), "{why}");
    assert!(why.contains("add those for ec2, logs, s3"), "{why}");
    // Workers have no other way, and one of four services is not enough.
    let why = account.run(&private_up).failed();
    assert!(why.contains("leads nowhere"), "{why}");

    let others = [make("ec2").await, make("logs").await, make("s3").await];
    let why = account.run(&with_endpoints).failed();
    assert!(others.iter().all(|id| why.contains(id)) && why.contains("leave --endpoints out"), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());
    // They serve the workers as well as endpoints of the stack, if their security groups admit them.
    let why = account.run(&private_up).failed();
    assert!(why.contains("do not admit the subnet") && why.contains("TCP 443"), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());
    let group = ec2.create_security_group().group_name("endpoints").description("x").vpc_id(&vpc).send().await;
    let group = group.expect("a group").group_id.expect("an id");
    let rule = ec2.authorize_security_group_ingress().group_id(&group).ip_protocol("tcp").from_port(443).to_port(443);
    rule.cidr_ip("10.9.0.0/16").send().await.expect("a rule");
    for id in [&sqs, &others[0], &others[1]] {
        let change = ec2.modify_vpc_endpoint().vpc_endpoint_id(id).add_security_group_ids(&group);
        change.send().await.expect("changed");
    }
    account.run(&private_up).done();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stack_stays_in_its_network() {
    let account = Account::start(&[]).await;
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678"]).done();
    let [vpc, public] = network(&account).await;
    let before = account.inventory().await;
    let why = account.run(&["aws", "up", "--vpc", &vpc, "--subnet", &public]).failed();
    assert!(why.contains(&format!("--vpc {vpc}: the stack rollcall is in vpc-")), "{why}");
    assert!(why.contains("rollcall aws down"), "{why}");
    let why = account.run(&["aws", "up", "--subnet", &public]).failed();
    assert!(why.contains(&format!("the subnet {public} is in {vpc}, but the stack is in vpc-")), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());
}
