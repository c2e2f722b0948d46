//! What `rollcall aws verify` does about runs that were killed, and behind a load balancer.

use std::{process::Stdio, time::Duration};

use aws_sdk_ec2::types::{IpPermission, IpRange, SecurityGroup};
use rollcall_testing::wait_until;
use serde_json::{Value, json};

use crate::{
    aws_verify::{a_worker_boots, assert_fault, checks, checks_of, cluster, objects, probes, verify},
    support::account::Account,
};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const STATE: &str = "rollcall-state-000000000000-us-east-1";
const TOKENS: &str = "access/tokens.json";
const CERTIFICATE: &str = "arn:aws:acm:us-east-1:000000000000:certificate/12345678";

/// Returns the records of the tokens.
async fn tokens(account: &Account) -> Vec<Value> {
    let object = account.s3().await.get_object().bucket(STATE).key(TOKENS).send().await.expect("tokens");
    let bytes = object.body.collect().await.expect("its bytes").into_bytes();
    serde_json::from_slice(&bytes).expect("JSON")
}

/// Returns the roles of the tokens of `verify`.
async fn roles(account: &Account) -> Vec<String> {
    let own = |record: &&Value| record["label"].as_str().is_some_and(|label| label.starts_with("rollcall aws verify "));
    tokens(account).await.iter().filter(own).map(|record| record["role"].as_str().expect("text").to_owned()).collect()
}

/// Returns the seen part of a check that has passed.
fn seen<'a>(checks: &'a [Value], name: &str) -> &'a str {
    let check = checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{name}: {checks:#?}"));
    assert_eq!(check["verdict"], "ok", "{check:#}");
    check["seen"].as_str().expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_run_has_left_is_removed_two_hours_later() {
    let account = cluster(&[]).await;
    let mut killed = verify(&account, &["--budget", "0.5"]);
    let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the program starts");
    wait_until("a worker boots, and both probes are launched", TIMEOUT, async || {
        assert!(killed.try_wait().expect("our child").is_none(), "it has ended");
        a_worker_boots(&account).await && probes(&account).await.len() == 2
    })
    .await;
    killed.kill().expect("it is our child");
    killed.wait().expect("it is our child");
    assert_eq!(roles(&account).await, ["read", "upload"], "no token of an administrator");
    // Probes that do not end by themselves; one of them is of a run that goes on.
    let (left, other) =
        (account.launch("rollcall:verify", "rollcall").await, account.launch("rollcall:verify", "rollcall").await);
    let age = async |id: &str| account.ec2.post_control("/age", json!({ "id": id, "seconds": 2 * 3600 + 60 })).await;
    age(&left).await;
    let put = async |key: &str| {
        account.s3().await.put_object().bucket(STATE).key(key).send().await.expect("an object");
    };
    put("verify/01arz3ndektsv4rrffq69g5fav-worker").await; // of 2016
    let state = async |id: &str| {
        let machines = account.machines().await;
        machines.into_iter().find(|(machine, _)| machine == id).expect("it was launched").1
    };

    // They are too young: their run may go on.
    let quick = ["--budget", "0.5", "--timeout", "1s"];
    let all = checks(&account, &quick);
    let removed = seen(&all, "earlier runs");
    assert!(removed.contains(&left) && !removed.contains(&other) && !removed.contains("token"), "{removed}");
    assert!(removed.contains("verify/01arz3ndektsv4rrffq69g5fav-worker"), "{removed}");
    assert_eq!((state(&left).await == "running", state(&other).await.as_str()), (false, "running"));
    assert_eq!(roles(&account).await.len(), 2);

    let mut records = tokens(&account).await;
    for record in &mut records {
        record["created_ms"] = json!(record["created_ms"].as_u64().expect("a time") - (2 * 3600 + 60) * 1_000);
    }
    let aged = serde_json::to_vec(&records).expect("JSON");
    account.s3().await.put_object().bucket(STATE).key(TOKENS).body(aged.into()).send().await.expect("written");
    let removed = checks(&account, &quick);
    assert_eq!(seen(&removed, "earlier runs").matches("token ").count(), 2, "{removed:#?}");
    assert_eq!(roles(&account).await, Vec::<String>::new());
    assert_eq!(tokens(&account).await.len(), 1, "the operator's token stays, although it is older");
    let audited = account.run_on_cluster(STATE, &["audit"]).done();
    assert!(audited.contains("rollcall token revoke"), "{audited}");
    let reports = objects(&account).await.into_iter().filter(|key| key.contains("/verify/"));
    let reports: Vec<String> = reports.collect();
    assert!(!reports.iter().any(|key| key.contains("01arz3ndektsv4rrffq69g5fav")), "{reports:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_load_balancer_its_address_is_required_and_each_open_security_group_is_named() {
    let account = Account::start(&[("LOAD_BALANCER_SPEED", "20")]).await;
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", "ami-12345678", "--certificate", CERTIFICATE];
    account.run(&[&up[..], &["--web-nodes", "2"]].concat()).done();
    let command = ["aws", "verify", "--budget", "0.5", "--timeout", "1s"];
    let why = account.run(&command).failed();
    assert!(why.contains("--url is missing") && why.contains(CERTIFICATE), "{why}");

    let with_url = || {
        let nobody = format!("https://localhost:{}", rollcall_testing::free_port());
        checks_of(account.command(&[&command[..], &["--json", "--url", &nobody]].concat()))
    };
    assert_eq!(seen(&with_url(), "network"), "the same");

    let ec2 = account.ec2().await;
    let groups = ec2.describe_security_groups().send().await.expect("a list").security_groups.unwrap_or_default();
    let named = |name: &str| {
        let is_named = |group: &&SecurityGroup| group.group_name() == Some(&format!("rollcall-{name}"));
        groups.iter().find(is_named).and_then(|group| group.group_id()).expect("a group").to_owned()
    };
    let open = async |group: &str, port: i32, range: &str| {
        let range = IpRange::builder().cidr_ip(range).build();
        let rule = IpPermission::builder().ip_protocol("tcp").from_port(port).to_port(port).ip_ranges(range).build();
        ec2.authorize_security_group_ingress()
            .group_id(named(group))
            .ip_permissions(rule)
            .send()
            .await
            .expect("a rule");
    };
    open("BalancerGroup", 80, "10.0.0.0/8").await;
    open("BalancerGroup", 443, "0.0.0.0/0").await;
    open("BalancedWebGroup", 5000, "10.0.0.0/8").await;
    open("WorkerGroup", 22, "10.0.0.0/8").await;
    let all = with_url();
    for fault in [
        "the load balancer can be reached: tcp 80 from 10.0.0.0/8",
        "the load balancer can be reached: tcp 443 from 0.0.0.0/0",
        "web nodes behind the load balancer can be reached: tcp 5000 from 10.0.0.0/8",
        "workers can be reached: tcp 22 from 10.0.0.0/8",
    ] {
        assert_fault(&all, "network", fault);
    }
    let balancer = groups.iter().find(|group| group.group_name() == Some("rollcall-BalancerGroup")).expect("a group");
    let rule = balancer.ip_permissions().iter().find(|rule| rule.from_port() == Some(443)).expect("a rule").clone();
    let revoked = ec2.revoke_security_group_ingress().group_id(named("BalancerGroup")).ip_permissions(rule);
    revoked.send().await.expect("revoked");
    assert_fault(&with_url(), "network", "the load balancer cannot be reached: tcp 443 from 10.0.0.0/8 is missing");
}
