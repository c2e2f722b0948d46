//! Clusters whose names begin with that of another: neither its commands nor its machines concern them.

use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post, status_and_text};

use crate::support::{
    account::{Account, CommandOutput, command_output},
    iam::{ACCOUNT, Context, REGION, Template, decide, right},
};

const CLUSTER: &str = "rollcall";
/// Characters that a cluster's name may have.
const LONGEST_NAME: usize = 32;
/// Names that begin with the other's, and with those of its queues and buckets.
const LONGER: [&str; 6] =
    ["rollcall-speaker", "rollcall-speakers", "rollcall-speaker-2", "rollcall-2", "rollcall-state", "rollcalls"];

/// What web nodes of the release before have called themselves: a ULID.
const NODE: &str = "01kb8w3t5n6q7r8s9v0x1y2z3a";
/// Ends of the names of a cluster's queues, the last two being the queues of nodes of this release and the one before.
const QUEUES: [&str; 6] = [
    "-dead.fifo",
    "-listener.fifo",
    "-speaker",
    "-status",
    "-speaker_01kb8w3t5n6q7r8s9v0x1y2z3a",
    "-speaker-01kb8w3t5n6q7r8s9v0x1y2z3a",
];

/// Returns the names of all clusters of which some queue is named like `cluster`'s reply queue, a hyphen, and as many characters as
/// the name of a node has.
fn lookalikes(cluster: &str) -> Vec<String> {
    let start = format!("{cluster}-speaker-");
    let names = QUEUES.iter().filter_map(|end| {
        let left = NODE.len().checked_sub(end.len())?;
        Some(format!("{start}{}", &NODE[..left])).filter(|name| name.len() <= LONGEST_NAME)
    });
    names.collect()
}

/// Returns the queues, buckets and objects, and log streams of a cluster, by service.
fn resources(cluster: &str) -> Vec<(&'static str, String)> {
    let mut all = Vec::new();
    for name in QUEUES {
        all.push(("sqs", format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{cluster}{name}")));
    }
    for purpose in ["input", "output", "state"] {
        let bucket = format!("arn:aws:s3:::{cluster}-{purpose}-{ACCOUNT}-{REGION}");
        let keys =
            ["", "/x", "/recognitions/x", "/claims/x", "/gallery/x", "/galleries/x/y", "/access/x", "/web-nodes/x"];
        all.extend(keys.map(|key| ("s3", format!("{bucket}{key}"))));
    }
    let group = format!("arn:aws:logs:{REGION}:{ACCOUNT}:log-group:/rollcall/{cluster}");
    all.push(("logs", format!("{group}:log-stream:i-1")));
    all
}

#[test]
fn no_right_of_a_cluster_concerns_one_whose_name_begins_with_its_name() {
    let mut allowed = 0;
    let longer = LONGER.iter().map(|longer| (CLUSTER, (*longer).to_owned()));
    // The shorter the name, the more of them are possible.
    let lookalikes = [CLUSTER, "a"].map(|of| lookalikes(of).into_iter().map(move |other| (of, other)));
    assert_eq!(lookalikes.clone().map(Iterator::count), [1, 4]);
    let pairs: Vec<_> = longer.chain(lookalikes.into_iter().flatten()).collect();
    for (of, other) in pairs.iter().flat_map(|(of, other)| [(*of, other.as_str()), (other, *of), (of, *of)]) {
        let template = Template::read(&[("Cluster", of), ("BucketSuffix", &format!("-{REGION}"))]);
        for role in ["WorkerRole", "WebRole"] {
            let statements = template.role(role);
            let actions = || statements.iter().flat_map(|statement| &statement.actions);
            for (service, resource) in resources(other) {
                for action in actions().filter(|action| action.starts_with(&format!("{service}:"))) {
                    let decision = decide(&statements, &right(action, &resource, Context::new()));
                    assert!(of == other || decision.is_err(), "{role} of {of}: {action} on {resource}");
                    allowed += usize::from(decision.is_ok());
                }
            }
        }
    }
    assert!(allowed > 100, "its own resources, so that the names here are those of the template: {allowed}");
}

/// Runs a command on a cluster.
fn run(account: &Account, cluster: &str, arguments: &[&str]) -> CommandOutput {
    let mut command = account.command(arguments);
    command.env("ROLLCALL__CLOUD__CLUSTER", cluster).env("ROLLCALL__CLOUD__KIND", "aws");
    command.env("ROLLCALL__STORE__STATE", format!("{cluster}-state-{ACCOUNT}-{REGION}"));
    command_output(command.output().expect("the program starts"))
}

/// Uploads a photo to a cluster's web node, and checks that it is recognised.
async fn assert_recognises(account: &Account, cluster: &str) {
    let machines = account.ec2.get_control("/instances").await;
    let is_web = |machine: &&serde_json::Value| {
        machine["tags"]["Name"] == format!("{cluster}-web") && machine["state"] == "running"
    };
    let web = machines.as_array().expect("a list").iter().find(is_web).expect("a web node");
    let response = post(&format!("http://127.0.0.1:{}/", web["port"]), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(status_and_text(response).await, (200, "Emmanuel_Macron".to_owned()), "{}", account.log());
}

#[tokio::test(flavor = "multi_thread")]
async fn taking_a_cluster_down_leaves_one_whose_name_begins_with_its_name_working() {
    let longer = LONGER[0];
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "2s"),
        ("ROLLCALL__LOG__LEVEL", "info"),
    ])
    .await;
    let image = account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--image", image.trim()];
    let empty = account.inventory().await;
    run(&account, longer, &up).done();
    run(&account, longer, &["enroll", KNOWN]).done();
    let before = account.inventory().await;
    run(&account, CLUSTER, &up).done();
    run(&account, CLUSTER, &["enroll", KNOWN]).done();
    tokio::join!(assert_recognises(&account, CLUSTER), assert_recognises(&account, longer));
    let shown = run(&account, CLUSTER, &["aws", "status"]).done();
    assert!(shown.contains("rollcall-listener.fifo: ") && !shown.contains("rollcall-speaker-"), "{shown}");
    // A web node that was killed has left its reply queue.
    let left = account.sqs().await.create_queue().queue_name("rollcall-speaker_killed");
    left.tags("rollcall:cluster", CLUSTER).send().await.expect("a queue");

    let down = ["aws", "down", "--delete-data"];
    run(&account, CLUSTER, &down).done();
    let after = account.inventory().await;
    let gone: Vec<_> = before.difference(&after).filter(|what| !what.starts_with("machine ")).collect();
    assert!(gone.is_empty(), "{gone:?}");
    let kept = |what: &&String| {
        ["queue ", "bucket ", "stack ", "log group ", "launch template ", "security group "]
            .iter()
            .any(|kind| what.starts_with(kind))
    };
    let more: Vec<_> = after.difference(&before).filter(kept).collect();
    assert!(more.is_empty(), "{more:?}");
    assert_recognises(&account, longer).await;

    // The other way round.
    run(&account, CLUSTER, &up).done();
    run(&account, CLUSTER, &["enroll", KNOWN]).done();
    run(&account, longer, &down).done();
    assert_recognises(&account, CLUSTER).await;
    run(&account, CLUSTER, &down).done();
    assert_eq!(account.changes(&empty).await.added, Vec::<String>::new());
}
