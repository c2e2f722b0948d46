//! Faults on the wire: a proxy that applies rules to calls. Of the rules that match a call, the first one that fires
//! applies.

use serde_json::{Value, json};

use rollcall_testing::Emulator;

/// Starts the proxy in front of the server at that URL.
pub async fn faults(upstream: &str) -> Emulator {
    let arguments = ["--host", "127.0.0.1", "--port", "{port}", "--upstream", upstream];
    Emulator::start("microburst", &arguments, &[], "/_microburst/health").await
}

pub async fn rules(proxy: &Emulator, rules: Value) {
    let response = reqwest::Client::new().post(format!("{}/_microburst/rules", proxy.url)).json(&rules).send().await;
    response.and_then(reqwest::Response::error_for_status).expect("the proxy accepts the rules");
}

/// The calls that a proxy has seen, and those of them that have failed: late ones have not.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tally {
    pub calls: usize,
    pub failed: usize,
}

impl Tally {
    /// Returns the calls since an earlier tally of the same proxies.
    pub fn since(self, earlier: Self) -> Self {
        Self { calls: self.calls - earlier.calls, failed: self.failed - earlier.failed }
    }

    /// Returns the share of calls that have failed.
    pub fn share(self) -> f64 {
        self.failed as f64 / self.calls as f64
    }
}

/// Counts the calls through these proxies so far.
pub async fn tally(proxies: &[Emulator]) -> Tally {
    let number = |value: &Value| value.as_u64().expect("a number") as usize;
    let mut tally = Tally::default();
    for proxy in proxies {
        let response = reqwest::get(format!("{}/_microburst/stats", proxy.url)).await.expect("the proxy responds");
        let stats: Value = response.json().await.expect("JSON");
        tally.calls += number(&stats["requests"]["total"]);
        let fired = stats["by_rule"].as_array().expect("a list").iter();
        let late = |rule: &&Value| rule["describe"].as_str().expect("text").starts_with("latency");
        tally.failed += fired.filter(|rule| !late(rule)).map(|rule| number(&rule["fired"])).sum::<usize>();
    }
    tally
}

/// Returns how often a rule has fired, up to a hundred times.
pub async fn times_fired(proxy: &Emulator) -> usize {
    let response = reqwest::get(format!("{}/_microburst/fired", proxy.url)).await.expect("the proxy responds");
    response.json::<Value>().await.expect("JSON").as_array().expect("a list").len()
}

/// Returns a rule by which a call is applied, but its response is lost.
pub fn lost_response(service: &str, operation: &str) -> Value {
    json!([{ "service": service, "operation": operation, "times": 1, "response": { "abort_frac": 0.0 } }])
}
