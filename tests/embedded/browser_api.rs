//! The page to try the API, in a real browser.

use std::time::Duration;

use fantoccini::Locator;
use rollcall_testing::uploads::{KNOWN, MACRON};
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::json;

use super::browser::Browser;

const TIMEOUT: Duration = Duration::from_secs(90);

#[tokio::test]
async fn the_page_to_try_the_api_sends_requests_and_shows_the_answers() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let browser = Browser::start(390, 900).await;
    browser.client.goto(&server.url("/api")).await.expect("the page opens");
    let document = rollcall_testing::openapi::document();
    let paths = document["paths"].as_object().expect("paths").values();
    let operations: usize = paths.map(|item| item.as_object().expect("an item").len()).sum();
    wait_until("every operation is there", TIMEOUT, async || browser.texts("details").await.len() == operations).await;
    browser
        .js("const all = [...document.querySelectorAll('details')];
        const of = (title) => all.find((one) => one.querySelector('code').textContent === title);
        Object.assign(of('POST /v1/recognitions'), { open: true, id: 'recognise' });
        Object.assign(of('GET /v1/recognitions/{id}'), { open: true, id: 'result' });")
        .await;
    browser.choose("#recognise input[type=file]", &[MACRON]).await;
    browser.click("#recognise button").await;
    wait_until("the recognition is shown", TIMEOUT, async || {
        let shown = browser.texts("#recognise pre").await.concat();
        shown.contains("\n200 ") && shown.contains("\"label\": \"Emmanuel_Macron\"")
    })
    .await;
    let id = browser.client.find(Locator::Css("#result input[name=id]")).await.expect("an input");
    id.send_keys("a/b").await.expect("text is typed");
    browser.click("#result button").await;
    wait_until("an error is shown, of the path with the id as one segment", TIMEOUT, async || {
        let shown = browser.texts("#result pre").await.concat();
        shown.starts_with("GET /v1/recognitions/a%2Fb") && shown.contains("application/problem+json")
    })
    .await;
    assert_eq!(browser.js("return document.documentElement.scrollWidth <= window.innerWidth").await, json!(true));
    browser.end().await;
}
