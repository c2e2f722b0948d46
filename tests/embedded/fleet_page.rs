//! The page Fleet in a real browser: a burst with its decisions. All pages, with the report of a load, narrow and wide, light
//! and dark, by keyboard, with an accessibility checker.

use std::{path::Path, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine as _};
use fantoccini::{Locator, key::Key};
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, RollcallOptions, wait_until};
use serde_json::{Value, json};

use super::{browser::Browser, names_by_click::show_faces_to_name};

const TIMEOUT: Duration = Duration::from_secs(90);

/// What Tab must reach: everything that can be used, and of a group of radio buttons the chosen one.
const USABLE: &str = r#"
    const all = [...document.querySelectorAll('a[href], button, input, summary, [tabindex="0"]')];
    const usable = all.filter((e) => e.checkVisibility() && !e.disabled && e.tabIndex >= 0 && (e.type !== 'radio' || e.checked));
    usable.forEach((e, i) => { e.dataset.usable = i; });
    return usable.length;"#;

impl Browser {
    /// Gives the page a size in pixels and a colour scheme, as a device would.
    async fn emulate(&self, width: u32, scheme: &str) {
        let metrics = json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500 });
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        for (command, parameters) in [("setDeviceMetricsOverride", metrics), ("setEmulatedMedia", media)] {
            let body = json!({ "cmd": format!("Emulation.{command}"), "params": parameters });
            self.command("goog/cdp/execute", body).await;
        }
        assert_eq!(self.js("return innerWidth").await, width);
        assert_eq!(self.js(&format!("return matchMedia('(prefers-color-scheme: {scheme})').matches")).await, true);
    }

    /// Saves a picture of the whole page, as `target/tmp/NAME.png`.
    async fn long_picture(&self, name: &str) {
        let size = self.js("return document.documentElement.scrollHeight").await;
        let clip = json!({ "x": 0, "y": 0, "width": self.js("return innerWidth").await, "height": size, "scale": 1 });
        let body =
            json!({ "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true, "clip": clip } });
        let taken = self.command("goog/cdp/execute", body).await;
        let png = BASE64_STANDARD.decode(taken["data"].as_str().expect("a picture")).expect("Base64");
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        std::fs::write(file, png).expect("writable");
    }

    /// Returns what the accessibility checker objects to.
    async fn accessibility_findings(&self) -> Value {
        let path = ".assets/axe/node_modules/axe-core/axe.min.js";
        let checker = std::fs::read_to_string(path).expect("axe is not there: run `make setup-test`");
        self.js(&checker).await;
        let script = "const done = arguments[arguments.length - 1];
            axe.run().then(({ violations }) => done(violations.map((v) => [v.id, v.help, v.nodes.map((n) => n.html)])));";
        self.client.execute_async(script, vec![]).await.expect("the checker runs")
    }

    /// Returns the warnings and errors in the console.
    async fn console(&self) -> Vec<Value> {
        let log = self.command("se/log", json!({ "type": "browser" })).await;
        let log: Vec<Value> = serde_json::from_value(log).expect("a list");
        log.into_iter().filter(|entry| entry["level"] == "SEVERE" || entry["level"] == "WARNING").collect()
    }

    pub(super) async fn press(&self, key: Key) {
        let strokes = ["keyDown", "keyUp"].map(|kind| json!({ "type": kind, "value": char::from(key) }));
        self.command("actions", json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": strokes }] })).await;
    }

    /// Presses Tab until everything has had the focus, and returns how many of the usable elements did not.
    async fn not_reached_by_tab(&self) -> Value {
        self.js("document.activeElement.blur(); scrollTo(0, 0);").await;
        let usable = self.js(USABLE).await.as_u64().expect("a number");
        assert!(usable > 5, "{usable}");
        for _ in 0..usable + 2 {
            self.press(Key::Tab).await;
            self.js("document.activeElement.dataset.reached = 1").await;
        }
        self.js("return [...document.querySelectorAll('[data-usable]:not([data-reached])')]
                   .filter((e) => e.isConnected).map((e) => e.outerHTML)")
            .await
    }
}

#[tokio::test]
async fn the_fleet_page_shows_a_burst_and_why_instances_were_launched() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let browser = Browser::start(1280, 900).await;
    browser.client.goto(&server.url("/fleet")).await.expect("the page opens");
    let text = async |css: &str| browser.texts(css).await.concat();
    wait_until("the fleet is ready", TIMEOUT, async || text("#health").await == "✓ Ready").await;
    assert_eq!(text("#strip-empty").await, "No decision was made in this range.");

    let url = server.url("/v1/recognitions");
    let photos = [MACRON, ARDERN, STRANGER, MACRON, ARDERN, STRANGER].map(photo);
    let uploads = photos.iter().map(|photo| post(&url, form(&[("a.jpg", photo)])));
    for response in futures_util::future::join_all(uploads).await {
        assert_eq!(response.status(), 200);
    }
    wait_until("a decision is shown", TIMEOUT, async || !browser.texts("#strip button").await.is_empty()).await;
    let drawn = async |chart: &str| browser.texts(&format!("#chart-{chart} svg.plot path")).await.len();
    for (chart, series) in [("queue", 2), ("instances", 2), ("traffic", 2), ("latency", 6), ("cost", 1)] {
        let what = format!("at least {series} series of {chart} are drawn");
        wait_until(&what, TIMEOUT, async || drawn(chart).await >= series).await;
    }
    for (chart, unit) in [("queue", "jobs"), ("instances", "instances"), ("latency", "logarithmic"), ("cost", "hour")] {
        let labels = browser.texts(&format!("#chart-{chart} svg.plot text")).await;
        assert!(labels.iter().any(|label| label.contains(unit)), "{labels:?}");
        assert!(labels.iter().filter(|label| label.contains(':')).count() >= 2, "the time: {labels:?}");
        assert!(labels.iter().filter(|label| label.starts_with(char::is_numeric)).count() >= 4, "values: {labels:?}");
    }
    wait_until("the numbers of the burst", TIMEOUT, async || {
        let now = text("#now").await;
        now.contains("6 in this range") && now.contains("p50; p90") && !now.contains("p90 –")
    })
    .await;

    // By keyboard: Tab reaches the decisions, and Enter shows why.
    browser.js("document.activeElement.blur()").await;
    let focused = "return document.activeElement.parentElement?.id";
    for _ in 0..12 {
        browser.press(Key::Tab).await;
        if browser.js(focused).await == "strip" {
            break;
        }
    }
    assert_eq!(browser.js(focused).await, "strip");
    browser.press(Key::Home).await;
    browser.press(Key::Enter).await;
    let decisions = rollcall_testing::http::get(server.url("/v1/fleet/decisions")).await.expect("a response");
    let decisions: Value = decisions.json().await.expect("JSON");
    let reason = decisions[0]["reason"].as_str().expect("a reason");
    let shown = text("#decision:not([hidden])").await;
    assert!(shown.contains(reason), "{reason}: {shown}");
    let demand = format!("demand{}", decisions[0]["inputs"]["demand"]);
    assert!(shown.contains(&demand), "{demand}: {shown}");
    assert_eq!(browser.js("return document.querySelectorAll('#chart-queue .mark.chosen').length > 0").await, true);
    browser.long_picture("fleet-decision").await;
    browser.press(Key::Enter).await;
    assert_eq!(text("#decision:not([hidden])").await, "", "Enter hides it again");
    // A click on its line shows it as well.
    let click = "const line = document.querySelector('#chart-instances .mark').getBoundingClientRect();
        const plot = document.querySelector('#chart-instances svg.plot');
        plot.dispatchEvent(new MouseEvent('click', { clientX: line.x, clientY: line.y + 20 }));";
    browser.js(click).await;
    wait_until("a click shows a reason", TIMEOUT, async || text("#decision:not([hidden])").await.contains(reason))
        .await;

    // The cursor and the range are chosen by keyboard, too.
    let slider = browser.client.find(Locator::Css("#cursor")).await.expect("a slider");
    let latest = text("#cursor-time").await;
    slider.send_keys(&Key::Home).await.expect("a key is pressed");
    assert_ne!(text("#cursor-time").await, latest);
    let range = browser.client.find(Locator::Css("#ranges :checked")).await.expect("a range");
    range.send_keys(&Key::Right).await.expect("a key is pressed");
    wait_until("the last three hours are shown", TIMEOUT, async || {
        browser.js("return document.querySelector('#ranges :checked').value").await == "3 h"
            && text("#now").await.contains("6 in this range")
    })
    .await;
    assert_eq!(browser.console().await, Vec::<Value>::new());
    browser.end().await;
}

#[tokio::test]
async fn every_page_can_be_used_by_everybody() {
    let server = Rollcall::start(RollcallOptions::default().enroll(KNOWN)).await;
    let response = post(&server.url("/v1/recognitions"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(response.status(), 200);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("report.html");
    let load = ["load", "--json", "--no-progress", "--dir", ".assets/photos", "--concurrency", "3", "--html"];
    let loaded = server.run(&[&load[..], &[report.to_str().expect("a path of text")]].concat());
    let loaded: Value = serde_json::from_slice(&loaded.stdout).expect("a report");
    let browser = Browser::start(1280, 900).await;
    let pages = [
        ("photos", server.url("/"), "#people-list li"),
        ("fleet", server.url("/fleet"), "#strip button"),
        ("report", format!("file://{}", report.display()), "#timelines section"),
    ];
    for (name, page, ready) in pages {
        browser.client.goto(&page).await.expect("the page opens");
        let shows = async || !browser.texts(ready).await.is_empty();
        wait_until("the page shows something", TIMEOUT, shows).await;
        match name {
            "photos" => show_faces_to_name(&browser, &server).await,
            "fleet" => {
                browser.click("#strip button").await;
                browser.click("summary").await;
            }
            _ => shows_a_report(&browser, &loaded).await,
        }
        for (width, scheme) in [(390, "light"), (390, "dark"), (1280, "light"), (1280, "dark")] {
            browser.emulate(width, scheme).await;
            let what = format!("{name} at {width} px, {scheme}");
            assert_eq!(browser.accessibility_findings().await, json!([]), "{what}");
            let too_wide = format!(
                "return [...document.querySelectorAll('body *')].filter((e) => !e.closest('.scroll, svg')
                   && e.getBoundingClientRect().right > {width} + 0.5).map((e) => e.outerHTML.slice(0, 200))"
            );
            assert_eq!(browser.js(&too_wide).await, json!([]), "{what}: too wide");
            browser.long_picture(&format!("{name}-{width}-{scheme}")).await;
        }
        assert_eq!(browser.not_reached_by_tab().await, json!([]), "{name}");
    }
    assert_eq!(browser.console().await, Vec::<Value>::new());
    browser.end().await;
}

/// Checks that the page has the numbers of the report, beside those that the simulator predicts, and that runs are chosen and
/// time is zoomed.
async fn shows_a_report(browser: &Browser, loaded: &Value) {
    let figures =
        |run: usize| format!("return JSON.parse(document.getElementById('data').textContent).runs[{run}].figures");
    let [measured, predicted] = [browser.js(&figures(0)).await, browser.js(&figures(1)).await];
    let seconds = loaded["makespan_ms"].as_f64().map(|ms| ms / 1e3);
    assert_eq!((measured[0].as_f64(), measured[1].as_u64()), (seconds, loaded["completed"].as_u64()));
    assert_eq!(
        (predicted[1].as_u64(), predicted[2].as_f64()),
        (loaded["completed"].as_u64(), Some(0.0)),
        "{predicted}"
    );
    assert!(predicted[0].as_f64() > Some(0.0), "{predicted}");
    let runs = async || browser.texts("#timelines h3").await;
    assert_eq!(runs().await, ["measured", "predicted"]);
    let answered = "return document.querySelector('#chart-rate-0 .c-green.line').getAttribute('d')";
    let whole = browser.js(answered).await;
    browser.click("#closer").await;
    assert_ne!(browser.js(answered).await, whole, "a part of the time");
    browser.click("#all").await;
    assert_eq!(browser.js(answered).await, whole);
    browser.click("#runs tbody tr:nth-child(2) input").await;
    assert_eq!(runs().await, ["measured"]);
    browser.click("#runs tbody tr:nth-child(2) input").await;
    browser.click("summary").await;
    let facts = browser.texts("#facts tr").await.concat();
    assert!(facts.contains("fleet.policydeadline") || facts.contains("fleet.policy deadline"), "{facts}");
}
