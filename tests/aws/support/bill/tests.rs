//! Bills that were computed by hand.

use bytes::Bytes;
use hyper::Request;
use serde_json::{Value, json};

use super::{Bill, Ledger, Requests, prices::*};
use crate::support::iam::Call;

/// Whether an instance is a spot instance, whether EC2 ended it, and when it entered which state.
type Instance<'a> = (bool, bool, &'a [(f64, &'a str)]);

/// Returns a ledger of these instances, listed at `now`.
fn ledger(now: f64, instances: &[Instance<'_>]) -> Ledger {
    let instances = instances.iter().map(|(spot, ended_by_ec2, states)| {
        json!({ "zone": "a", "spot": spot, "ended_by_ec2": ended_by_ec2, "disk_gb": 8.0, "states": states })
    });
    serde_json::from_value(json!({ "now": now, "instances": instances.collect::<Vec<_>>() })).expect("a ledger")
}

fn bill(ledger: &Ledger) -> Bill {
    Bill::of(ledger, Requests::default())
}

fn assert_near(actual: f64, expected: f64) {
    assert!((actual - expected).abs() < 1e-9, "{actual} instead of {expected}");
}

#[test]
fn each_start_is_billed_by_the_second_for_at_least_a_minute_while_it_runs() {
    // 25 s of booting are free. It runs 90 s, is stopped for a day, and runs 10 s, which are billed as 60.
    let states = [
        (1_000.0, "pending"),
        (1_025.0, "running"),
        (1_115.0, "stopping"),
        (1_120.0, "stopped"),
        (87_520.0, "pending"),
        (87_530.0, "running"),
        (87_540.0, "shutting-down"),
        (87_550.0, "terminated"),
    ];
    let bill = bill(&ledger(100_000.0, &[(false, false, &states)]));
    assert_eq!((bill.starts, bill.instance_seconds, bill.address_seconds), (2, 150.0, 150.0));
    // The disk exists for 86,550 s.
    assert_near(bill.disk_gb_seconds, 692_400.0);
    // 150 s at 0.08925 and 0.005 $ an hour; 692,400 GB s at 0.08 $ for 2,628,000 GB s.
    assert_near(bill.total(), 0.003_718_75 + 0.000_208_333_333_333 + 0.021_077_625_570_776);
}

#[test]
fn what_still_runs_or_is_stopped_is_billed_until_now() {
    let running = [(0.0, "pending"), (10.0, "running")];
    let stopped = [(0.0, "pending"), (10.0, "running"), (110.0, "stopping"), (111.0, "stopped")];
    let bill = bill(&ledger(3_610.0, &[(false, false, &running), (false, false, &stopped)]));
    assert_eq!((bill.starts, bill.instance_seconds), (2, 3_700.0));
    assert_near(bill.disk_gb_seconds, 2.0 * 8.0 * 3_610.0);
}

#[test]
fn an_instance_that_never_ran_costs_its_disk_only() {
    let bill = bill(&ledger(500.0, &[(false, true, &[(0.0, "pending"), (5.0, "terminated")])]));
    assert_eq!((bill.starts, bill.instance_seconds, bill.address_seconds), (0, 0.0, 0.0));
    assert_near(bill.disk_gb_seconds, 480.0); // a minute at least
}

#[test]
fn a_spot_instance_that_ec2_interrupts_in_its_first_hour_is_free_and_no_other_is() {
    let run = |seconds: f64| [(0.0, "pending"), (100.0, "running"), (100.0 + seconds, "terminated")];
    let billed = |spot, by_ec2, seconds| bill(&ledger(9e5, &[(spot, by_ec2, &run(seconds))])).instance_seconds;
    assert_near(billed(true, true, 3_599.0), 0.0);
    assert_near(billed(true, true, 3_601.0), 3_601.0);
    assert_near(billed(true, false, 3_599.0), 3_599.0); // it has terminated itself
    assert_near(billed(false, true, 3_599.0), 3_599.0);
    let address = bill(&ledger(9e5, &[(true, true, &run(90.0))])).address_seconds;
    assert_near(address, 90.0);
}

/// Returns what a call to SQS is billed as.
fn sqs(action: &str, queue: &str, mut request: Value, response: &Value) -> Requests {
    request["QueueUrl"] = format!("http://127.0.0.1/000000000000/{queue}").into();
    let body = Bytes::from(request.to_string());
    let target = format!("AmazonSQS.{action}");
    let (parts, ()) = Request::post("/").header("x-amz-target", target).body(()).expect("a request").into_parts();
    Requests::of(&Call::of(&parts, &body).expect("a call"), &body, &response.to_string().into())
}

fn s3(method: &str, path: &str) -> Requests {
    let (parts, ()) = Request::builder().method(method).uri(path).body(()).expect("a request").into_parts();
    Requests::of(&Call::of(&parts, &Bytes::new()).expect("a call"), &Bytes::new(), &Bytes::new())
}

#[test]
fn each_64_kib_of_a_payload_is_a_request_and_a_call_without_one_is_a_request() {
    let text = |size: usize| "x".repeat(size);
    let none = Value::Null;
    let fifo = |requests: Requests| (requests.fifo, requests.standard);
    assert_eq!(fifo(sqs("SendMessage", "jobs.fifo", json!({ "MessageBody": text(65_536) }), &none)), (1, 0));
    assert_eq!(fifo(sqs("SendMessage", "jobs.fifo", json!({ "MessageBody": text(65_537) }), &none)), (2, 0));
    // The bodies of a batch count together: ten of 20,000 bytes are 200,000, which is 3.05 times 64 KiB.
    let entries: Vec<Value> = (0..10).map(|n| json!({ "Id": n.to_string(), "MessageBody": text(20_000) })).collect();
    assert_eq!(fifo(sqs("SendMessageBatch", "replies", json!({ "Entries": entries }), &none)), (0, 4));
    let received = json!({ "Messages": [{ "Body": text(100_000) }, { "Body": text(100_000) }] });
    assert_eq!(fifo(sqs("ReceiveMessage", "jobs.fifo", json!({}), &received)), (4, 0));
    assert_eq!(fifo(sqs("ReceiveMessage", "jobs.fifo", json!({}), &json!({}))), (1, 0));
    assert_eq!(fifo(sqs("GetQueueAttributes", "jobs.fifo", json!({}), &none)), (1, 0));
}

#[test]
fn s3_bills_writes_and_lists_and_reads_and_deletes_nothing() {
    let requests = [
        s3("PUT", "/rollcall-input-0/a?x-id=PutObject"),
        s3("GET", "/rollcall-input-0?list-type=2"),
        s3("GET", "/rollcall-input-0/a?x-id=GetObject"),
        s3("DELETE", "/rollcall-input-0/a?x-id=DeleteObject"),
    ];
    assert_eq!(requests.map(|r| (r.put, r.get)), [(1, 0), (1, 0), (0, 1), (0, 0)]);
    let million = Requests { fifo: 1_000_000, standard: 2_000_000, put: 100_000, get: 1_000_000 };
    assert_near(Bill { requests: million, ..Bill::default() }.total(), 0.5 + 0.8 + 0.5 + 0.4);
}

#[test]
fn the_prices_are_those_of_the_documentation() {
    let docs = std::fs::read_to_string("docs/aws.md").expect("the documentation");
    let row = |symbol: &str| {
        let row = docs.lines().find(|line| line.starts_with(&format!("| `{symbol}`"))).expect(symbol);
        row.split('|').nth(2).expect("a price").trim().to_owned()
    };
    assert_eq!(row("P_worker"), P_WORKER.to_string());
    assert_eq!(row("P_ip"), P_IP.to_string());
    assert_eq!(row("P_disk"), P_DISK.to_string());
    assert_eq!(row("P_sqs"), format!("{P_SQS:.2}"));
    assert_eq!(row("P_put`, `P_get"), format!("{P_PUT:.2}, {P_GET:.2}"));
    assert!(docs.contains(&format!("; {P_SQS_STANDARD:.2} for standard queues)")));
}
