//! The metrics as Prometheus has them: a real one scrapes a loaded server, and evaluates what `deploy/` has for it.

use std::{
    collections::BTreeSet,
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use rollcall_testing::uploads::{MACRON, faceless, photo};
use rollcall_testing::{Rollcall, RollcallOptions, free_port, wait_until};
use serde_json::Value;

const TIMEOUT: Duration = Duration::from_secs(60);
const DASHBOARD: &str = "deploy/grafana/rollcall.json";
const RULES: &str = "deploy/prometheus/rules.yaml";
const RULES_TEST: &str = "deploy/prometheus/rules_test.yaml";
/// Uploads of the load.
const UPLOADS: u64 = 40;

fn tool(name: &str) -> Command {
    let path = Path::new(".assets/prometheus").join(name);
    assert!(path.exists(), "{} is not there: run `make setup-test`", path.display());
    Command::new(path)
}

fn assert_success(output: &Output, what: &str) {
    let text = [&output.stdout[..], &output.stderr].concat();
    assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&text));
}

/// A Prometheus that scrapes a server. Dropping it kills it.
struct Prometheus {
    process: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    fn start(server: &Rollcall) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a temporary folder"), free_port());
        let target = server.url("").trim_start_matches("http://").to_owned();
        let rules = fs::canonicalize(RULES).expect(RULES);
        let settings = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 1s}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n  - job_name: rollcall\n    static_configs: [{{targets: [{target:?}]}}]\n"
        );
        let config = folder.path().join("prometheus.yaml");
        fs::write(&config, settings).expect("written");
        let mut command = tool("prometheus");
        command.arg(format!("--config.file={}", config.display()));
        command.arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}"));
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("Prometheus starts");
        Self { process, url: format!("http://127.0.0.1:{port}"), _folder: folder }
    }

    /// Returns the answer to a request, as soon as it answers.
    async fn get(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let mut url = reqwest::Url::parse(&self.url).expect("an address").join(path).expect("a path");
        url.query_pairs_mut().extend_pairs(query);
        let mut answer = Value::Null;
        wait_until("Prometheus answers", TIMEOUT, async || {
            let Ok(response) = reqwest::get(url.clone()).await else { return false };
            answer = response.json().await.unwrap_or_default();
            answer["status"] == "success" || answer["status"] == "error"
        })
        .await;
        assert_eq!(answer["status"], "success", "{query:?}: {answer}");
        answer["data"].take()
    }

    /// Returns the results of an expression.
    async fn query(&self, expression: &str) -> Vec<Value> {
        let data = self.get("/api/v1/query", &[("query", expression)]).await;
        data["result"].as_array().expect("a vector").clone()
    }

    /// Returns the value of an expression that has one.
    async fn value(&self, expression: &str) -> Option<f64> {
        let [result] = &self.query(expression).await[..] else { return None };
        result["value"][1].as_str()?.parse().ok()
    }

    /// Waits until an expression has a value.
    async fn wait_for(&self, expression: &str, value: f64) {
        let mut last = None;
        let what = format!("{expression} is {value}");
        wait_until(&what, TIMEOUT, async || {
            last = self.value(expression).await;
            last == Some(value)
        })
        .await;
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns the expressions of the dashboard's panels.
fn dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(DASHBOARD).expect(DASHBOARD)).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().flat_map(|panel| {
        let title = panel["title"].as_str().expect("a title");
        let targets = panel["targets"].as_array().into_iter().flatten();
        targets.map(move |target| (title.to_owned(), target["expr"].as_str().expect("an expression").to_owned()))
    });
    targets.collect()
}

/// Returns the names of metrics in a text.
fn names(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("rollcall_")).collect()
}

#[test]
fn the_rules_are_valid_and_fire_when_they_should() {
    assert_success(&tool("promtool").args(["check", "rules", RULES]).output().expect("promtool"), "check rules");
    assert_success(&tool("promtool").args(["test", "rules", RULES_TEST]).output().expect("promtool"), "test rules");
}

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_has_the_numbers_that_load_reports_and_answers_every_panel() {
    let options = RollcallOptions::default().enroll(rollcall_testing::uploads::KNOWN);
    let server = Rollcall::start(options.env("ROLLCALL__WORKER__IDLE_STOP", "1s")).await;
    let prometheus = Prometheus::start(&server);
    prometheus.wait_for("up", 1.0).await;
    let photos = tempfile::tempdir().expect("a temporary folder");
    for (name, bytes) in [("a.jpg", photo(MACRON)), ("b.png", faceless(320, 240)), ("c.jpg", b"no image".to_vec())] {
        fs::write(photos.path().join(name), bytes).expect("written");
    }
    let folder = photos.path().to_str().expect("UTF-8");
    let requests = UPLOADS.to_string();
    let load = ["load", "--json", "--no-progress", "--dir", folder, "--requests", &requests, "--concurrency", "4"];
    let report = server.run(&load).stdout;
    let report: Value = serde_json::from_slice(&report).expect("a report");
    let (done, refused) = (report["completed"].as_f64().expect("a number"), report["failed"]["http 415"].as_f64());
    let refused = refused.expect("one photo in three is none");
    assert_eq!((done + refused, report["retries"]["busy"].as_u64()), (UPLOADS as f64, Some(0)), "{report}");

    prometheus.wait_for(r#"rollcall_http_requests_total{route="/",method="POST",status="200"}"#, done).await;
    prometheus.wait_for(r#"rollcall_http_requests_total{route="/",method="POST",status="415"}"#, refused).await;
    prometheus.wait_for(r#"rollcall_jobs_total{outcome="done"}"#, done).await;
    prometheus.wait_for(r#"sum(rollcall_jobs_total)"#, done).await;
    prometheus.wait_for("rollcall_job_worker_duration_seconds_count", done).await;
    // From the workers' reports.
    prometheus.wait_for("rollcall_job_duration_seconds_count", done).await;
    for stage in ["queue", "decode", "detect", "embed", "store"] {
        let count = format!("rollcall_job_stage_duration_seconds_count{{stage=\"{stage}\"}}");
        prometheus.wait_for(&count, done).await;
    }
    // No request took the server longer than the slowest took the client.
    let slowest = report["latency_ms"]["max"].as_f64().expect("a latency") / 1e3;
    let buckets = prometheus.query(r#"rollcall_http_request_duration_seconds_bucket{route="/",method="POST"}"#).await;
    let bound = |bucket: &Value| bucket["metric"]["le"].as_str().and_then(|le| le.replace("+Inf", "inf").parse().ok());
    let above = buckets.iter().filter(|bucket| bound(bucket).is_some_and(|le: f64| le >= slowest));
    let counts: BTreeSet<_> = above.map(|bucket| bucket["value"][1].as_str().expect("a count").to_owned()).collect();
    assert_eq!(counts, BTreeSet::from([UPLOADS.to_string()]), "within {slowest} s: {buckets:?}");
    let people = reqwest::get(server.url("/v1/people")).await.expect("a response");
    let people: Value = people.json().await.expect("JSON");
    for (metric, member) in [("people", "total"), ("version", "version")] {
        let value = people[member].as_f64().expect(member);
        assert!(value > 0.0, "{people}");
        prometheus.wait_for(&format!("rollcall_gallery_{metric}{{gallery=\"default\"}}"), value).await;
    }
    // What happens once the workers are idle is measured as well.
    prometheus.wait_for(r#"rollcall_instances{state="running"}"#, 0.0).await;
    prometheus.wait_for("rollcall_oldest_job_age_seconds", 0.0).await;
    prometheus.wait_for(r#"rollcall_fleet_decisions_total{kind="stop"} > bool 0"#, 1.0).await;
    let launched = prometheus.value(r#"rollcall_instance_requests_total{call="launch",outcome="ok"}"#).await;
    assert!(launched >= Some(1.0));
    let boots = r#"sum(rollcall_instance_boot_duration_seconds_count)"#;
    prometheus.wait_for(&format!("{boots} >= bool {}", launched.expect("a number")), 1.0).await;

    let served = reqwest::get(server.url("/metrics")).await.expect("a response").text().await.expect("text");
    check_metrics(&served);
    let served = names(&served);
    for (title, expression) in dashboard() {
        let unknown: Vec<_> = names(&expression).difference(&served).copied().collect();
        assert!(unknown.is_empty(), "{title}: {unknown:?} in {expression}");
        let expression = expression.replace("$__rate_interval", "5m");
        let mut found = 0;
        wait_until(&format!("{title} has data: {expression}"), TIMEOUT, async || {
            found = prometheus.query(&expression).await.len();
            found > 0
        })
        .await;
    }
    let rules = fs::read_to_string(RULES).expect(RULES);
    let unknown: Vec<_> = names(&rules).difference(&served).copied().collect();
    assert!(unknown.is_empty(), "{unknown:?} in {RULES}");
    wait_until("every rule was evaluated without an error", TIMEOUT, async || {
        let data = prometheus.get("/api/v1/rules", &[]).await;
        let rules = data["groups"][0]["rules"].as_array().expect("rules");
        !rules.is_empty() && rules.iter().all(|rule| rule["health"] == "ok")
    })
    .await;
}

/// Checks the names, types and help of metrics as Prometheus's linter does.
fn check_metrics(served: &str) {
    let mut check = tool("promtool");
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().expect("promtool");
    check.stdin.take().expect("piped").write_all(served.as_bytes()).expect("written");
    let output = check.wait_with_output().expect("promtool");
    assert_success(&output, "check metrics");
    assert_eq!(String::from_utf8_lossy(&output.stderr), "", "it has no advice");
    for help in served.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = help.split(' ').next().expect("a name");
        assert!(served.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}
