//! API calls per image: many images share a call to SQS, and the number of calls to EC2 does not depend on the uploads.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::support::aws_cluster::{Cluster, Node};
use futures_util::{StreamExt as _, future::join_all, stream};
use rollcall_testing::uploads::{self, faceless, form, post, status_and_text};
use rollcall_testing::wait_until;
use serde_json::Value;

const IMAGES: usize = 1_000;
const CONCURRENCY: usize = 100;
/// Like two instances of the default type.
const WORKERS: usize = 2;
const THREADS: usize = 2;
const DESCRIBE_EVERY: Duration = Duration::from_millis(300);
/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// How long the cluster at rest is watched.
const REST: Duration = Duration::from_secs(60);
/// The calls of a cluster at rest in a minute, with their names in docs/aws.md, which states these numbers.
const AT_REST: [(&str, usize, &str); 5] = [
    ("GetQueueAttributes", 12, "readings of the queue's depth"),
    ("ReceiveMessage", 4, "long polls"),
    ("PutObject", 7, "PUT"),
    ("GetObject", 1, "GET for the leases"),
    ("DescribeInstances", 4, "descriptions of the fleet"),
];
/// What a second web node adds.
const SECOND_AT_REST: [(&str, usize, &str); 2] = [
    ("ReceiveMessage", 3, "long polls of its reply queue"),
    ("GetObject", 16, "GET for the controller's lease and its view of the fleet"),
];
/// Calls that carry images and replies; the others are the controller's, at fixed intervals.
const CARRIERS: [&str; 4] =
    ["SendMessageBatch", "ReceiveMessage", "DeleteMessageBatch", "ChangeMessageVisibilityBatch"];

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_images_take_at_most_two_thousand_sqs_calls() {
    let image = faceless(320, 240);
    let (cluster, node) = busy_cluster(&image).await;
    let client = reqwest::Client::new();
    let url = node.url("/");
    let upload = async |n: usize| {
        let response = client.post(&url).multipart(form(&[(&format!("{n}.png"), &image)])).send().await;
        assert_eq!(status_and_text(response.expect("a response")).await.0, 200, "image {n}");
    };
    stream::iter(0..CONCURRENCY).for_each_concurrent(CONCURRENCY, &upload).await; // a warm-up
    let counts = || [cluster.node_calls.counts(), cluster.worker_calls.counts()];
    let (before, described) = (counts(), describes(&cluster).await);
    let began = Instant::now();
    stream::iter(1..=IMAGES).for_each_concurrent(CONCURRENCY, &upload).await;
    let took = began.elapsed();
    let after = counts();
    let of = |counts: &[BTreeMap<String, usize>; 2], action: &str| -> usize {
        counts.iter().map(|counts| counts.get(action).unwrap_or(&0)).sum()
    };
    let calls = |action: &str| of(&after, action) - of(&before, action);
    let carried: usize = CARRIERS.iter().map(|action| calls(action)).sum();
    let each: Vec<String> = CARRIERS.iter().map(|action| format!("{action} {}", calls(action))).collect();
    println!("{carried} calls of SQS for {IMAGES} images in {took:.1?}: {}", each.join(", "));
    println!("all calls for {IMAGES} images: {:?}", by_kind(&before, &after));
    assert!(carried <= 2 * IMAGES, "{carried} calls for {IMAGES} images: {}", each.join(", "));
    let described = describes(&cluster).await - described;
    let scheduled = took.as_secs_f64() / DESCRIBE_EVERY.as_secs_f64();
    println!("{described} descriptions in that time; {scheduled:.0} at the configured interval");
    assert!(described as f64 <= scheduled + 2.0, "{described} descriptions in {took:?}");
}

/// Starts a cluster whose workers are all ready and have processed such an image. Returns it with its node.
async fn busy_cluster(image: &[u8]) -> (Cluster, Node) {
    let cluster = Cluster::start(&[
        ("ROLLCALL__WORKER__THREADS", &THREADS.to_string()),
        ("ROLLCALL__WORKER__IDLE_STOP", "60s"),
        ("ROLLCALL__FLEET__POLICY", "one-per-job"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", &WORKERS.to_string()),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", &format!("{}ms", DESCRIBE_EVERY.as_millis())),
    ])
    .await;
    let node = cluster.node("serve").await;
    let uploads = (0..WORKERS * THREADS).map(|n| {
        let url = node.url("/");
        async move { post(&url, form(&[(&format!("{n}.png"), image)])).await.status() }
    });
    assert!(join_all(uploads).await.iter().all(|status| *status == 200));
    wait_until("every worker is ready", TIMEOUT, async || {
        let fleet = reqwest::get(node.url("/v1/fleet")).await.expect("a response");
        fleet.json::<Value>().await.expect("JSON")["counts"]["running"] == WORKERS
    })
    .await;
    (cluster, node)
}

/// Returns an image of about 150 KiB that no format compresses: the largest that a message carries are little larger.
fn large() -> Vec<u8> {
    let mut x = 1u32;
    let noise = image::RgbImage::from_fn(256, 200, |_, _| {
        x = x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        image::Rgb([(x >> 24) as u8, (x >> 16) as u8, (x >> 8) as u8])
    });
    uploads::encode(noise.into(), image::ImageFormat::Png)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_image_in_a_message_is_billed_as_several_requests() {
    const LARGE: usize = 100;
    let image = large();
    assert!((140..160).contains(&(image.len() >> 10)), "{} bytes", image.len());
    let (cluster, node) = busy_cluster(&faceless(320, 240)).await;
    let billed = |action: &str| -> usize {
        let requests = cluster.node_calls.billed_for(action) + cluster.worker_calls.billed_for(action);
        (requests.fifo + requests.standard) as usize
    };
    let before = ["SendMessageBatch", "ReceiveMessage"].map(billed);
    stream::iter(0..LARGE)
        .for_each_concurrent(20, async |n| {
            let response = post(&node.url("/"), form(&[(&format!("{n}.png"), &image)])).await;
            assert_eq!(response.status(), 200, "image {n}");
        })
        .await;
    let after = ["SendMessageBatch", "ReceiveMessage"].map(billed);
    let [sent, received] = [0, 1].map(|action| after[action] - before[action]);
    println!(
        "SQS bills {sent} requests that send and {received} that receive, for {LARGE} images of {} bytes",
        image.len()
    );
    // In base64, an image is a little more than three times 64 KiB; a reply adds a part of a request.
    for requests in [sent, received] {
        assert!((3 * LARGE..5 * LARGE).contains(&requests), "{requests} requests for {LARGE} images");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_worker_holds_a_job_that_an_idle_one_could_do() {
    // Each job takes several times as long as the emulator sleeps in a waiting receive (0.1 s).
    let image = faceless(6_000, 6_000);
    let (_cluster, node) = busy_cluster(&image).await;
    for round in 0..4 {
        // As many uploads as there are threads.
        let uploads = (0..WORKERS * THREADS).map(|n| {
            let (url, image) = (node.url("/v1/recognitions"), &image);
            async move {
                let response = post(&url, form(&[(&format!("{round}-{n}.png"), image)])).await;
                let body: Value = response.json().await.expect("JSON");
                body["worker"].as_str().unwrap_or_else(|| panic!("{body}")).to_owned()
            }
        });
        let mut by_worker = BTreeMap::<String, usize>::new();
        for worker in join_all(uploads).await {
            *by_worker.entry(worker).or_default() += 1;
        }
        assert!(by_worker.len() == WORKERS && by_worker.values().all(|jobs| *jobs == THREADS), "{by_worker:?}");
    }
}

/// Returns the number of calls between two counts by action, those to S3 without their bucket.
fn by_kind(before: &[BTreeMap<String, usize>], after: &[BTreeMap<String, usize>]) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for (before, after) in before.iter().zip(after) {
        for (call, n) in after {
            let kind = call.split(' ').next().unwrap_or_default().to_owned();
            *kinds.entry(kind).or_default() += n - before.get(call).unwrap_or(&0);
        }
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_at_rest_makes_the_documented_api_calls_and_no_others() {
    let docs = std::fs::read_to_string("docs/aws.md").expect("the documentation");
    let docs = docs.split_whitespace().collect::<Vec<_>>().join(" ");
    let (one, two) = tokio::join!(calls_at_rest(1), calls_at_rest(2));
    let of_second = SECOND_AT_REST.map(|(call, more, _)| (call, stated_at_rest(call) + more));
    for (nodes, (calls, minutes)) in [(1, one), (2, two)] {
        println!("{nodes} web nodes at rest for {:.0} s: {calls:?}", minutes * 60.0);
        let stated = |call: &str| match of_second.iter().find(|(of, _)| nodes == 2 && *of == call) {
            Some((_, stated)) => *stated,
            None => stated_at_rest(call),
        };
        for (call, n) in &calls {
            // One more, because the measurement begins at any point of an interval, and for the search for reply queues of dead
            // nodes, every quarter of an hour.
            let may = stated(call) > 0 || call == "ListObjectsV2";
            let most = if may { stated(call) as f64 * minutes + 1.0 } else { 0.0 };
            assert!(*n as f64 <= most, "{nodes}: {call}: {n} in {minutes:.1} minutes at rest, of {calls:?}");
        }
        let all = AT_REST.iter().map(|(call, ..)| *call).chain(of_second.map(|(call, _)| call));
        for call in all {
            let n = calls.get(call).copied().unwrap_or(0);
            assert!(2 * n >= stated(call), "{nodes}: {call}: {n} in {minutes:.1} minutes at rest, of {calls:?}");
        }
    }
    for (_, stated, phrase) in AT_REST.iter().chain(&SECOND_AT_REST) {
        assert!(docs.contains(&format!("{stated} {phrase}")), "docs/aws.md states other calls than {stated} {phrase}");
    }
}

/// The node has no controller, which reads the queue's depth too.
#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_health_checks_at_once_make_one_call_to_the_queue_and_one_to_the_store() {
    let cluster = Cluster::start(&[]).await;
    let node = cluster.node("web").await;
    let (client, url) = (reqwest::Client::new(), node.url("/readyz"));
    let counts = || [cluster.node_calls.counts()];
    let (before, began) = (counts(), Instant::now());
    let checks = (0..100).map(async |_| client.get(&url).send().await.expect("a response").status());
    assert!(join_all(checks).await.iter().all(|status| *status == 200));
    let calls = by_kind(&before, &counts());
    // The node itself was waited for in the same way, so there may be no call at all.
    let most = 1 + began.elapsed().as_secs() as usize / 10;
    for call in ["GetQueueAttributes", "HeadBucket"] {
        let n = calls.get(call).copied().unwrap_or(0);
        assert!(n <= most, "{call}: {n} for 100 requests: {calls:?}");
    }
    // The node looks for orphans when it starts, whoever asks.
    assert!(calls.get("ListObjectsV2").copied().unwrap_or(0) <= 2, "{calls:?}");
    assert!(cluster.node_calls.counts().contains_key("HeadBucket state"), "{calls:?}");
    node.end();
    assert_eq!(cluster.iam.denied(), Vec::<String>::new());
}

/// Returns how often a cluster with one web node makes a call in a minute at rest.
fn stated_at_rest(call: &str) -> usize {
    AT_REST.iter().find(|(of, ..)| *of == call).map_or(0, |(_, stated, _)| *stated)
}

/// Runs a cluster without uploads. Returns its calls after the start, by action, and for how many minutes they were counted.
async fn calls_at_rest(web_nodes: usize) -> (BTreeMap<String, usize>, f64) {
    // The intervals of AWS, not the shorter ones of tests.
    let cluster = Cluster::start(&[
        ("ROLLCALL__AWS__METRICS", "true"),
        ("ROLLCALL__FLEET__POLL_EVERY", "auto"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "auto"),
    ])
    .await;
    let version = cluster.template_version().await;
    let mut nodes = Vec::new();
    for _ in 0..web_nodes {
        nodes.push(cluster.node_with("serve", &version.settings()).await);
    }
    let counts = async || [cluster.node_calls.counts(), cluster.worker_calls.counts(), ec2_calls(&cluster).await];
    // The calls at the start do not count. Should others go on for a minute, they do.
    let (mut before, mut began) = (counts().await, Instant::now());
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let earlier = std::mem::replace(&mut before, counts().await);
        began = Instant::now();
        if by_kind(&earlier, &before).iter().all(|(call, n)| *n == 0 || stated_at_rest(call) > 0) {
            break;
        }
    }
    tokio::time::sleep(REST).await;
    let (after, minutes) = (counts().await, began.elapsed().as_secs_f64() / 60.0);
    nodes.into_iter().for_each(Node::end);
    (by_kind(&before, &after), minutes)
}

/// Returns the number of calls to EC2 so far by action.
async fn ec2_calls(cluster: &Cluster) -> BTreeMap<String, usize> {
    serde_json::from_value(cluster.ec2.get_control("/calls").await).expect("a number of calls by action")
}

async fn describes(cluster: &Cluster) -> usize {
    ec2_calls(cluster).await.get("DescribeInstances").copied().unwrap_or(0)
}
