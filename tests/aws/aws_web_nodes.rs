//! Several web nodes behind a load balancer: clients notice neither an update nor, once it is found, that a node has died.

use std::{
    collections::BTreeSet,
    path::PathBuf,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::support::{
    account::{Account, program},
    inventory::Changes,
};
use aws_sdk_ec2::types::{AttributeBooleanValue, Filter};
use rollcall_testing::{
    uploads::{KNOWN, MACRON, form, photo},
    wait_until,
};
use serde_json::Value;
use tokio::{sync::watch, task::JoinHandle};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
/// Time between the requests of a client that watches the web tier.
const EVERY: Duration = Duration::from_millis(20);
const STATE: &str = "rollcall-state-000000000000-us-east-1";
/// Time between the uploads of such a client.
const UPLOAD_EVERY: Duration = Duration::from_millis(200);

/// Creates a network with subnets in two zones, on addresses of this machine: nodes see from where the load balancer connects.
pub async fn network(account: &Account) -> [String; 3] {
    let ec2 = account.ec2().await;
    let vpc = ec2.create_vpc().cidr_block("127.9.0.0/16").send().await.expect("a VPC").vpc.expect("it is described");
    let vpc = vpc.vpc_id.expect("an id");
    let mut ids = vec![vpc.clone()];
    connect(account, &vpc).await;
    for (range, zone) in [("127.9.1.0/24", "us-east-1a"), ("127.9.2.0/24", "us-east-1b")] {
        let subnet = ec2.create_subnet().vpc_id(&vpc).cidr_block(range).availability_zone(zone).send().await;
        let id = subnet.expect("a subnet").subnet.and_then(|subnet| subnet.subnet_id).expect("an id");
        // Workers need a public address to reach AWS.
        let assigns = AttributeBooleanValue::builder().value(true).build();
        let changed = ec2.modify_subnet_attribute().subnet_id(&id).map_public_ip_on_launch(assigns).send().await;
        changed.expect("it assigns public addresses");
        ids.push(id);
    }
    ids.try_into().expect("three ids")
}

/// Connects a VPC to the internet: the subnets without a route table of their own route there.
pub async fn connect(account: &Account, vpc: &str) {
    let ec2 = account.ec2().await;
    let gateway = ec2.create_internet_gateway().send().await.expect("a gateway").internet_gateway;
    let gateway = gateway.and_then(|gateway| gateway.internet_gateway_id).expect("an id");
    ec2.attach_internet_gateway().vpc_id(vpc).internet_gateway_id(&gateway).send().await.expect("attached");
    let of_vpc = Filter::builder().name("vpc-id").values(vpc).build();
    let tables = ec2.describe_route_tables().filters(of_vpc).send().await.expect("a list");
    let main = tables.route_tables()[0].route_table_id().expect("an id");
    let route = ec2.create_route().route_table_id(main).destination_cidr_block("0.0.0.0/0").gateway_id(gateway);
    route.send().await.expect("a route");
}

/// Copies an image of the cluster, which takes less time than another bake. Returns the folder of the copy.
async fn copy_image(account: &Account, from: &str) -> PathBuf {
    let ec2 = account.ec2().await;
    let copy = ec2.copy_image().source_image_id(from).source_region("us-east-1").name("copy").send().await;
    let id = copy.expect("a copy").image_id.expect("an id");
    // A copy has no tags but those that it is given.
    let source = ec2.describe_images().image_ids(from).send().await.expect("the image").images.expect("one").remove(0);
    let tags = source.tags.expect("tags").into_iter().filter(|tag| tag.key() != Some("Name"));
    ec2.create_tags().resources(&id).set_tags(Some(tags.collect())).send().await.expect("tagged");
    let copied = Command::new("cp").arg("-al").args([account.disk(from), account.disk(&id)]).status();
    assert!(copied.expect("cp starts").success());
    account.disk(&id)
}

/// Copies an image of the cluster, and lets the web nodes of the copy fail. Nobody waits for them for long.
pub async fn break_image(account: &Account, from: &str) {
    account.expect_no_signal();
    let broken = copy_image(account, from).await;
    let real = std::path::absolute(rollcall_testing::program()).expect("a path");
    let script = format!("case \"$*\" in *serve*) exit 1 ;; esac\nexec {} \"$@\"", real.display());
    std::fs::remove_file(broken.join("opt/rollcall/rollcall")).expect("it was there");
    std::fs::rename(program(&broken, &script), broken.join("opt/rollcall/rollcall")).expect("renamed");
}

/// Returns the ids of the web nodes that run.
pub async fn web_nodes(account: &Account) -> BTreeSet<String> {
    let machines = account.ec2.get_control("/instances").await;
    let machines = machines.as_array().expect("a list").iter();
    let ours = machines.filter(|m| m["tags"]["Name"] == "rollcall-web" && m["state"] == "running");
    ours.map(|m| m["id"].as_str().expect("text").to_owned()).collect()
}

/// Returns which of the machines have made a call to EC2.
async fn callers(account: &Account, action: &str, machines: &BTreeSet<String>) -> BTreeSet<String> {
    let callers: Value = account.ec2.get_control("/callers").await;
    let keys = callers[action].as_array().into_iter().flatten().filter_map(Value::as_str);
    keys.filter_map(|key| key.strip_prefix("ASIA")).filter(|id| machines.contains(*id)).map(str::to_owned).collect()
}

/// Returns the epoch of the controllers' lease, which grows by one with each takeover.
async fn lease_epoch(account: &Account) -> u64 {
    let lease = account.s3().await.get_object().bucket(STATE).key("controller-lease").send().await.expect("the lease");
    let lease = lease.body.collect().await.expect("its bytes").into_bytes();
    serde_json::from_slice::<Value>(&lease).expect("JSON")["epoch"].as_u64().expect("a number")
}

/// Clients that send requests until they are asked to end: one after another for `/readyz`, and uploads.
struct Clients {
    end: watch::Sender<bool>,
    looks: JoinHandle<usize>,
    uploads: JoinHandle<usize>,
    /// Counts what has happened to the web tier.
    phase: Arc<AtomicUsize>,
    /// What has failed, each with the phase in which its request began.
    failed: watch::Receiver<Vec<(usize, String)>>,
}

impl Clients {
    fn start(account: &Account, client: &reqwest::Client) -> Self {
        let (end, ended) = watch::channel(false);
        let (failed, failures) = watch::channel(Vec::new());
        let (failed, phase) = (Arc::new(failed), Arc::<AtomicUsize>::default());
        // Begins a request, and returns what reports its failure.
        let begin = {
            let phase = phase.clone();
            move || {
                let (failed, phase) = (failed.clone(), phase.load(Ordering::Relaxed));
                move |what: String| failed.send_modify(|all| all.push((phase, what)))
            }
        };
        let (url, of_looks, begin_look, ended_look) =
            (account.balanced("/readyz"), client.clone(), begin.clone(), ended.clone());
        let looks = tokio::spawn(async move {
            let mut requests = 0;
            while !*ended_look.borrow() {
                requests += 1;
                let fail = begin_look();
                match of_looks.get(&url).send().await {
                    Ok(response) if response.status() == 200 => {}
                    Ok(response) => fail(format!("/readyz: {}", response.status())),
                    Err(error) => fail(format!("/readyz: {error:?}")),
                }
                tokio::time::sleep(EVERY).await;
            }
            requests
        });
        let (url, client) = (account.balanced("/"), client.clone());
        let uploads = tokio::spawn(async move {
            let mut uploads = 0;
            while !*ended.borrow() {
                uploads += 1;
                let fail = begin();
                match upload(&client, &url).await {
                    Ok(label) if label == "Emmanuel_Macron" => {}
                    other => fail(format!("upload: {other:?}")),
                }
                tokio::time::sleep(UPLOAD_EVERY).await;
            }
            uploads
        });
        Self { end, looks, uploads, phase, failed: failures }
    }

    /// Begins a phase: what fails of requests that have begun before does not count.
    fn begin_phase(&self) {
        self.phase.fetch_add(1, Ordering::Relaxed);
    }

    /// Ends the clients, and returns what has failed in the last phase.
    async fn end(self) -> Vec<String> {
        self.end.send_replace(true);
        let requests = (self.looks.await.expect("no panic"), self.uploads.await.expect("no panic"));
        assert!(requests.0 > 0 && requests.1 > 0, "clients watched: {requests:?}");
        let last = self.phase.load(Ordering::Relaxed);
        self.failed.borrow().iter().filter(|(phase, _)| *phase == last).map(|(_, what)| what.clone()).collect()
    }
}

/// Uploads a photo, and returns the response's text, or its status.
async fn upload(client: &reqwest::Client, url: &str) -> Result<String, String> {
    let sent = client.post(url).multipart(form(&[("a.jpg", &photo(MACRON))])).send().await;
    let response = sent.map_err(|error| format!("{error:?}"))?;
    if response.status() != 200 {
        Err(response.status().to_string())
    } else {
        response.text().await.map_err(|e| e.to_string())
    }
}

async fn burst(account: &Account, client: &reqwest::Client) {
    let url = account.balanced("/");
    let labels = futures_util::future::join_all((0..4).map(|_| upload(client, &url))).await;
    assert_eq!(labels, vec![Ok("Emmanuel_Macron".to_owned()); 4], "{}", account.log());
}

/// Runs a command while clients send requests, and returns its output and what has failed.
async fn run_watched(
    account: &Arc<Account>,
    client: &reqwest::Client,
    arguments: &'static [&str],
) -> (bool, String, Vec<String>) {
    let clients = Clients::start(account, client);
    let same = account.clone();
    let output = tokio::task::spawn_blocking(move || same.run(arguments)).await.expect("no panic");
    (output.success, output.err, clients.end().await)
}

#[tokio::test(flavor = "multi_thread")]
async fn several_web_nodes_are_replaced_one_by_one_while_the_balancer_serves() {
    let account = Account::start(&[
        ("LOAD_BALANCER_SPEED", "20"),
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__LEASE", "3s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "2"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__LOG__LEVEL", "warn"),
    ])
    .await;
    let account = Arc::new(account);
    let [vpc, a, b] = network(&account).await;
    let before = account.inventory().await;
    let image = account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    let certificate = "arn:aws:acm:us-east-1:000000000000:certificate/12345678";
    let up = ["aws", "up", "--allow-from", "10.0.0.0/8", "--vpc", &vpc, "--subnet", &a];
    let balanced = ["--web-nodes", "2", "--web-subnets", &format!("{a},{b}"), "--certificate", certificate];
    let outputs = account.run(&[&up[..], &balanced[..]].concat()).done();
    assert!(outputs.contains("Address https://") && outputs.contains(".elb.amazonaws.com/"), "{outputs}");
    let first = web_nodes(&account).await;
    assert_eq!(first.len(), 2);
    wait_until("a controller is active", TIMEOUT, async || {
        !callers(&account, "DescribeInstances", &first).await.is_empty()
    })
    .await;
    let of_first = lease_epoch(&account).await;
    account.run_on_cluster(STATE, &["enroll", KNOWN]).done();
    let token = account.run_on_cluster(STATE, &["token", "create", "--role", "upload"]).done();
    let client = account.balanced_client(token.trim());

    // They serve as soon as `up` has ended, know a new token within a second, and believe the load balancer that clients use HTTPS.
    let ready = client.get(account.balanced("/readyz")).send().await.expect("a response");
    assert_eq!(ready.status(), 200);
    let sessions = async || {
        let url = account.balanced("/v1/session");
        let sent = (0..8).map(|_| client.post(&url).send());
        futures_util::future::try_join_all(sent).await.expect("responses")
    };
    wait_until("both know the token", TIMEOUT, async || sessions().await.iter().all(|r| r.status() == 200)).await;
    for session in sessions().await {
        let cookie = session.headers()["set-cookie"].to_str().expect("text");
        assert!(cookie.contains("Secure"), "{cookie}");
    }
    burst(&account, &client).await;

    // The machine of the node whose controller is active vanishes. It is replaced; the other node takes over.
    let active = callers(&account, "RunInstances", &first).await;
    let active = active.first().expect("one of them has launched the workers").clone();
    let active_so_far = callers(&account, "DescribeInstances", &first).await.len() as u64;
    let takeovers = lease_epoch(&account).await - of_first;
    assert!((1..=1 + takeovers).contains(&active_so_far), "only one controller is active: {active_so_far}");
    let clients = Clients::start(&account, &client);
    account.ec2.post_control("/kill", serde_json::json!({ "id": active })).await;
    wait_until("the machine that has vanished is replaced", TIMEOUT, async || web_nodes(&account).await.len() == 2)
        .await;
    clients.begin_phase();
    wait_until("another controller is active", TIMEOUT, async || {
        let now = web_nodes(&account).await;
        !callers(&account, "DescribeInstances", &now).await.is_empty()
    })
    .await;
    burst(&account, &client).await;
    let failed = clients.end().await;
    assert_eq!(failed, Vec::<String>::new(), "no request reaches a machine that is known to be gone");

    // A new image: both are replaced, and requests are answered all the time.
    let second = web_nodes(&account).await;
    copy_image(&account, image.trim()).await;
    let (done, err, failed) = run_watched(&account, &client, &["aws", "up"]).await;
    assert!(done, "{err}");
    assert_eq!(failed, Vec::<String>::new());
    let third = web_nodes(&account).await;
    assert!(third.len() == 2 && third.is_disjoint(&second), "{second:?} were replaced by {third:?}");

    // An image whose web nodes do not serve: `up` says so, and the nodes that do stay.
    break_image(&account, image.trim()).await;
    let (done, err, failed) = run_watched(&account, &client, &["aws", "up"]).await;
    assert!(!done && err.contains("WebScaling:"), "{err}");
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(web_nodes(&account).await, third);
    burst(&account, &client).await;

    // Each node has its reply queue, and those of nodes that are gone are gone.
    wait_until("the reply queues are those of the nodes", TIMEOUT, async || reply_queues(&account).await.len() == 2)
        .await;

    account.run(&["aws", "down", "--delete-data", "--delete-images"]).done();
    assert_eq!(account.changes(&before).await, Changes::default(), "only what was there before");
    assert!(client.get(account.balanced("/readyz")).send().await.is_err(), "no load balancer is left");
}

/// Returns the reply queues that exist and those that nodes hold.
async fn reply_queues(account: &Account) -> BTreeSet<String> {
    let held = account.s3().await.list_objects_v2().bucket(STATE).prefix("web-nodes/").send().await;
    let held = held.expect("a list").contents.unwrap_or_default().into_iter().filter_map(|object| object.key);
    let held = held.map(|key| key.trim_start_matches("web-nodes/").to_owned());
    let queues = account.sqs().await.list_queues().queue_name_prefix("rollcall-speaker_").send().await.expect("a list");
    let queues =
        queues.queue_urls.unwrap_or_default().into_iter().filter_map(|url| url.rsplit('/').next().map(str::to_owned));
    held.chain(queues).collect()
}
