//! The logs and metrics of every machine reach the cluster's log group, and the command line shows them.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader},
    process::Stdio,
    time::Duration,
};

use crate::support::account::Account;
use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use rollcall_testing::uploads::{KNOWN, MACRON, form, photo, post};
use rollcall_testing::wait_until;
use serde_json::{Value, json};

/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(120);
const GROUP: &str = "/rollcall/rollcall";
const STATE: &str = "rollcall-state-000000000000-us-east-1";

/// Returns all events of the group.
async fn events(account: &Account) -> Vec<FilteredLogEvent> {
    let call = account.logs().await.filter_log_events().log_group_name(GROUP);
    let pages = call.into_paginator().send().collect::<Result<Vec<_>, _>>().await.expect("the group");
    pages.into_iter().flat_map(|page| page.events.unwrap_or_default()).collect()
}

/// Returns the streams of the events that contain a text.
async fn streams(account: &Account, text: &str) -> BTreeSet<String> {
    let events = events(account).await.into_iter();
    let with = events.filter(|event| event.message().expect("a message").contains(text));
    with.map(|event| event.log_stream_name().expect("a stream").to_owned()).collect()
}

/// Returns what the emulator tells of the machine whose process has such a unit beside it.
async fn machine(account: &Account, id: &str) -> Value {
    let machines = account.ec2.get_control("/instances").await;
    machines.as_array().expect("a list").iter().find(|machine| machine["id"] == id).expect("the machine").clone()
}

fn pid(value: &Value) -> Pid {
    Pid::from_raw(value.as_i64().expect("a process").try_into().expect("a process id"))
}

/// Returns the entries of Rollcall's units in the journal of a machine.
fn journal(account: &Account, id: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(account.disk(id).join("journal")).expect("a journal");
    let (whole, _) = text.rsplit_once('\n').expect("an entry");
    let is_ours = |entry: &Value| {
        let units = ["UNIT", "_SYSTEMD_UNIT"].map(|key| entry[key].as_str().unwrap_or_default());
        units.iter().any(|unit| unit.starts_with("rollcall-"))
    };
    whole.lines().map(|line| serde_json::from_str(line).expect("JSON")).filter(is_ours).collect()
}

/// Waits until a machine's forwarder has sent all entries, and has written its position.
async fn wait_until_forwarded(account: &Account, id: &str) {
    let position = account.disk(id).join("var/lib/rollcall-logs/cursor");
    wait_until("all entries are sent and the position is written", TIMEOUT, async || {
        let written = std::fs::read_to_string(&position).unwrap_or_default();
        journal(account, id).last().is_some_and(|entry| entry["__CURSOR"] == written.trim())
    })
    .await;
}

/// Sets up a cluster, and returns it with the id of its web node.
async fn cluster(up: &[&str]) -> (Account, String) {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "2s"),
        ("ROLLCALL__FLEET__BILLING_MINIMUM", "0s"),
    ])
    .await;
    account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    account.run(&[&["aws", "up", "--allow-from", "10.0.0.0/8"], up].concat()).done();
    let enroll = account
        .command(&["enroll", KNOWN])
        .env("ROLLCALL__CLOUD__KIND", "aws")
        .env("ROLLCALL__STORE__STATE", STATE)
        .status();
    assert!(enroll.expect("the program starts").success());
    wait_until("the web node logs", TIMEOUT, async || !streams(&account, "rollcall-serve").await.is_empty()).await;
    let web = streams(&account, "rollcall-serve").await.pop_first().expect("a web node");
    (account, web)
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_of_every_machine_reach_the_clusters_group_and_the_command_line() {
    let (account, web) = cluster(&["--log-days", "7"]).await;
    let groups = account.logs().await.describe_log_groups().send().await.expect("a list");
    let [group] = groups.log_groups() else { panic!("one group: {groups:?}") };
    assert_eq!((group.log_group_name(), group.retention_in_days()), (Some(GROUP), Some(7)));

    let mut follow =
        account.command(&["aws", "logs", "--follow"]).stdout(Stdio::piped()).spawn().expect("the program starts");
    assert_eq!(post(&account.web("/"), form(&[("x.jpg", &photo(MACRON))])).await.status(), 200);
    // The worker stops its machine when it is idle. What it and systemd log until then is sent before the machine is off.
    wait_until("the worker's log is complete", TIMEOUT, async || !streams(&account, "draining").await.is_empty()).await;
    let worker = streams(&account, "rollcall-worker").await;
    assert_eq!(worker.len(), 1, "{worker:?}");
    let worker = worker.first().expect("a worker").clone();
    assert_ne!(worker, web);
    assert_eq!(streams(&account, "draining").await, BTreeSet::from([worker.clone()]));
    assert_eq!(streams(&account, "Started rollcall-worker.service").await, BTreeSet::from([worker.clone()]));
    for event in events(&account).await {
        let message: Value = serde_json::from_str(event.message().expect("a message")).expect("JSON");
        assert!(message["unit"].as_str().is_some_and(|unit| unit.starts_with("rollcall-")), "{message}");
        assert!(!message.to_string().contains("ada") && message.get("_CMDLINE").is_none(), "{message}");
    }

    // The command prints them, all or some of them.
    let lines = account.run(&["aws", "logs"]).done();
    assert!(
        lines.contains(&format!("{web} rollcall-serve ")) && lines.contains(&format!("{worker} rollcall-worker ")),
        "{lines}"
    );
    assert!(!lines.contains("_aws"), "metrics are no lines for people: {lines}");
    let of_worker = account.run(&["aws", "logs", "--instance", &worker, "--filter", "draining"]).done();
    assert!(of_worker.lines().count() == 1 && of_worker.contains(&worker), "{of_worker}");
    assert_eq!(account.run(&["aws", "logs", "--instance", "i-0"]).done(), "", "a machine that has logged nothing");
    let followed = BufReader::new(follow.stdout.take().expect("its output")).lines();
    let found =
        tokio::task::spawn_blocking(move || followed.map_while(Result::ok).any(|line| line.contains("draining")));
    assert!(tokio::time::timeout(TIMEOUT, found).await.expect("in time").expect("no panic"), "it follows");
    follow.kill().expect("it is ours");
    follow.wait().expect("it is ours");

    let kept = account.run(&["aws", "down"]).done();
    assert!(kept.contains(&format!("log group {GROUP}")), "{kept}");
    assert!(!streams(&account, "rollcall-worker").await.is_empty(), "the logs outlive the stack");
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8", "--log-days", "14"]).done();
    let groups = account.logs().await.describe_log_groups().send().await.expect("a list");
    assert_eq!(groups.log_groups()[0].retention_in_days(), Some(14), "also of a group that the next stack takes over");
    account.run(&["aws", "down", "--delete-data", "--delete-images"]).done();
    let groups = account.logs().await.describe_log_groups().send().await.expect("a list");
    assert_eq!(groups.log_groups().len(), 0);
    let why = account.run(&["aws", "logs"]).failed();
    assert!(why.contains(GROUP), "{why}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forwarder_that_is_killed_goes_on_where_it_was_and_loses_nothing() {
    let (account, web) = cluster(&[]).await;
    let forwarder = async || machine(&account, &web).await["others"]["rollcall-logs"].clone();
    for _ in 0..2 {
        // If it were killed between sending and writing its position, it would send again what it has sent.
        wait_until_forwarded(&account, &web).await;
        let killed = forwarder().await;
        kill(pid(&killed), Signal::SIGKILL).expect("it is ours");
        wait_until("it is started again", TIMEOUT, async || {
            let now = forwarder().await;
            now.is_number() && now != killed
        })
        .await;
    }
    // Of the entries of the machine's journal, each that is Rollcall's is there, once.
    let entries = journal(&account, &web);
    let logged: Vec<String> = entries.iter().map(|entry| entry["MESSAGE"].as_str().expect("text").to_owned()).collect();
    assert!(logged.iter().filter(|message| *message == "Started rollcall-logs.service.").count() == 3, "{logged:?}");
    let sent = async || -> Vec<String> {
        let events = events(&account).await.into_iter();
        let text = |event: FilteredLogEvent| {
            let message: Value = serde_json::from_str(event.message().expect("a message")).expect("JSON");
            match message["message"].as_str() {
                Some(text) => text.to_owned(),
                None => message["_aws"]["Timestamp"].to_string(),
            }
        };
        events.map(text).collect()
    };
    let expected: Vec<String> = logged
        .iter()
        .map(|message| match serde_json::from_str::<Value>(message) {
            Ok(metrics) if metrics.is_object() => metrics["_aws"]["Timestamp"].to_string(),
            _ => message.clone(),
        })
        .collect();
    wait_until("everything was sent", TIMEOUT, async || sent().await.len() >= expected.len()).await;
    let mut sent = sent().await;
    sent.truncate(expected.len());
    assert_eq!(sent, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_stack_machines_queues_and_costs_and_alarms_are_set_as_asked() {
    let (account, web) = cluster(&["--alarm-email", "ops@example.com", "--daily-cost", "2.5"]).await;
    wait_until("metrics are logged", TIMEOUT, async || !streams(&account, "CloudWatchMetrics").await.is_empty()).await;
    // Of three jobs for which no worker is up yet, one is being done, as far as the queue knows.
    account.ec2.post_control("/delays", json!({ "pending": 600 })).await;
    for _ in 0..3 {
        let upload = reqwest::Client::new().post(account.web("/v1/recognitions")).header("Prefer", "respond-async");
        let response = upload.multipart(form(&[("x.jpg", &photo(MACRON))])).send().await.expect("a response");
        assert_eq!(response.status(), 202);
    }
    let sqs = account.sqs().await;
    let listener = sqs.get_queue_url().queue_name("rollcall-listener.fifo").send().await.expect("the queue");
    let listener = listener.queue_url.expect("its URL");
    let received = sqs.receive_message().queue_url(&listener).max_number_of_messages(1).send().await.expect("a job");
    let receipt = received.messages()[0].receipt_handle().expect("a receipt").to_owned();
    let status: Value = serde_json::from_str(&account.run(&["aws", "status", "--json"]).done()).expect("JSON");
    let depth = &status["queues"][0];
    assert_eq!(
        (&depth["visible"], &depth["in_flight"], &depth["delayed"]),
        (&json!(2), &json!(1), &json!(0)),
        "{status}"
    );
    let shown = account.run(&["aws", "status"]).done();
    assert!(shown.contains("rollcall-listener.fifo: 2 visible, 1 in flight, 0 delayed"), "{shown}");
    let returned = sqs.change_message_visibility().queue_url(&listener).receipt_handle(receipt).visibility_timeout(0);
    returned.send().await.expect("returned");
    account.ec2.post_control("/delays", json!({ "pending": 0.5 })).await;
    assert_eq!(post(&account.web("/"), form(&[("x.jpg", &photo(MACRON))])).await.status(), 200);
    let other = account.launch("Name", "rollcall-web").await;
    let mut command = account.command(&["aws", "status", "--json"]);
    // The elastic address of the emulated account leads nowhere.
    let output = command.output().expect("the program starts");
    let status: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?}"));
    assert_eq!(status["stack"], "CREATE_COMPLETE");
    let machines = status["machines"].as_array().expect("machines");
    assert!(
        machines.iter().any(|m| m["id"] == web.as_str() && m["role"] == "web" && m["state"] == "running"),
        "{status}"
    );
    assert!(machines.iter().all(|m| m["id"] != other.as_str()), "it is not of the stack: {status}");
    let worker = machines.iter().find(|m| m["role"] == "worker").unwrap_or_else(|| panic!("a worker: {status}"));
    assert_eq!((&worker["type"], &worker["version"]), (&Value::from("c7i.large"), &Value::from("1")));
    assert!(worker["zone"].as_str().is_some_and(|zone| zone.starts_with("us-east-1")), "{status}");
    let queues: Vec<&str> =
        status["queues"].as_array().expect("queues").iter().filter_map(|q| q["queue"].as_str()).collect();
    assert_eq!(queues, ["rollcall-listener.fifo", "rollcall-speaker", "rollcall-dead.fifo", "rollcall-status"]);
    assert_eq!(
        (&status["fleet"]["degraded"], &status["fleet"]["dead_letters"]),
        (&Value::from(false), &Value::from(0))
    );
    assert!(status["ready"].is_string(), "{status}");
    let shown = account.run(&["aws", "status"]).done();
    for part in [
        "stack        CREATE_COMPLETE",
        &web,
        "rollcall-listener.fifo: ",
        "dead letters 0",
        "not degraded",
        "cost         $",
    ] {
        assert!(shown.contains(part), "{part}: {shown}");
    }

    let resources =
        aws_sdk_cloudformation::Client::new(&rollcall_testing::emulators::sdk(&account.ministack.url).await);
    let resources = async || -> Vec<String> {
        let list = resources.describe_stack_resources().stack_name("rollcall").send().await.expect("a list");
        list.stack_resources().iter().filter_map(|r| Some(r.logical_resource_id()?.to_owned())).collect()
    };
    let all = resources().await;
    for name in ["SilentAlarm", "DegradedAlarm", "DeadLettersAlarm", "CostAlarm", "AlarmTopic"] {
        assert!(all.iter().any(|resource| resource == name), "{name}: {all:?}");
    }
    account.run(&["aws", "up", "--alarm-email", "", "--daily-cost", ""]).done();
    let rest = resources().await;
    assert!(!rest.iter().any(|resource| ["CostAlarm", "AlarmTopic"].contains(&resource.as_str())), "{rest:?}");
    assert_eq!(rest.iter().filter(|resource| resource.ends_with("Alarm")).count(), 3, "{rest:?}");
}
