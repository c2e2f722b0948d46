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
    let answer = reqwest::Client::new().post(format!("{}/_microburst/rules", proxy.url)).json(&rules).send().await;
    answer.and_then(reqwest::Response::error_for_status).expect("the proxy obeys");
}

/// Returns how often a rule has fired.
pub async fn struck(proxy: &Emulator) -> usize {
    let answer = reqwest::get(format!("{}/_microburst/fired", proxy.url)).await.expect("the proxy answers");
    answer.json::<Value>().await.expect("JSON").as_array().expect("a list").len()
}

/// Returns a rule by which a call is applied, but its answer is lost.
pub fn lost_answer(service: &str, operation: &str) -> Value {
    json!([{ "service": service, "operation": operation, "times": 1, "response": { "abort_frac": 0.0 } }])
}
