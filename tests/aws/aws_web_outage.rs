//! An outage of SQS makes no web node ready, and replaces none: a group that heeded the load balancer would terminate all of them
//! at once.

use std::time::Duration;

use rollcall_testing::{
    uploads::{MACRON, form, photo},
    wait_until,
};

use crate::{
    aws_web_nodes::{network, web_nodes},
    support::{account::Account, outage::Outage},
};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Looks of the group at its machines while the load balancer finds all of them unhealthy. One is enough to replace them.
const LOOKS: usize = 10;

/// Returns how often the group has looked while the load balancer found all of its machines unhealthy.
fn unhealthy_looks(account: &Account) -> usize {
    let looks = std::fs::read_to_string(account.disk("unhealthy-looks")).unwrap_or_default();
    looks.parse().unwrap_or_default()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_web_node_is_replaced_while_none_is_ready_because_sqs_is_out() {
    let sqs = Outage::prepare().await;
    let account = Account::start(&[
        ("LOAD_BALANCER_SPEED", "100"),
        ("AWS_ENDPOINT_URL_SQS", &sqs.url),
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__LOG__LEVEL", "warn"),
    ])
    .await;
    sqs.of(&account.ministack.url);
    let [vpc, a, b] = network(&account).await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let certificate = "arn:aws:acm:us-east-1:000000000000:certificate/12345678";
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--vpc", &vpc, "--subnet", &a];
    let balanced = ["--web-nodes", "2", "--web-subnets", &format!("{a},{b}"), "--certificate", certificate];
    account.run(&[&up[..], &balanced[..]].concat()).done();
    let nodes = web_nodes(&account).await;
    assert_eq!(nodes.len(), 2);
    let token =
        account.run_on_cluster("rollcall-state-000000000000-us-east-1", &["token", "create", "--role", "upload"]);
    let client = account.balanced_client(token.done().trim());
    let status = async || client.get(account.balanced("/readyz")).send().await.expect("a response").status().as_u16();
    assert_eq!(status().await, 200);

    // Nodes that begin count as unhealthy too, once they should have come up.
    let begun = unhealthy_looks(&account);
    println!("{begun} looks while the nodes began");
    sqs.set(true);
    wait_until("no node is ready, or one is replaced", TIMEOUT, async || {
        unhealthy_looks(&account) >= begun + LOOKS || web_nodes(&account).await != nodes
    })
    .await;
    assert_eq!(web_nodes(&account).await, nodes, "the group has replaced web nodes");
    assert_eq!(status().await, 503);

    sqs.set(false);
    wait_until("a node is ready again", TIMEOUT, async || status().await == 200).await;
    assert_eq!(web_nodes(&account).await, nodes);
    wait_until("uploads are answered", TIMEOUT, async || {
        let sent = client.post(account.balanced("/")).multipart(form(&[("a.jpg", &photo(MACRON))])).send().await;
        sent.is_ok_and(|response| response.status() == 200)
    })
    .await;
}
