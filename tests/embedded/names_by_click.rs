//! Names on the page: a face is named where it is seen, and a wrong name is taken back.

use std::time::Duration;

use fantoccini::key::Key;
use rollcall_testing::uploads::*;
use rollcall_testing::{Rollcall, wait_until};
use serde_json::json;

use super::browser::Browser;

const TIMEOUT: Duration = Duration::from_secs(90);
/// The newest card.
const CARD: &str = "#cards .card:first-child";

/// Writes a photo of Macron and, smaller, a stranger into the server's folder, and returns its path.
fn photo_of_two(server: &Rollcall) -> String {
    let path = server.data_dir().join("two.png");
    std::fs::write(&path, side_by_side(&[(MACRON, 1.0), (STRANGER, 0.6)])).expect("writable");
    path.display().to_string()
}

async fn buttons(browser: &Browser) -> Vec<String> {
    browser.texts(&format!("{CARD} .faces button")).await
}

async fn wait_for_buttons(browser: &Browser, expected: &[&str]) {
    let what = format!("the buttons of the newest card are {expected:?}");
    wait_until(&what, TIMEOUT, async || buttons(browser).await == expected).await;
}

/// Shows a card whose first face has a name and whose second one is being named.
pub async fn show_faces_to_name(browser: &Browser, server: &Rollcall) {
    browser.choose("#file", &[&photo_of_two(server)]).await;
    wait_for_buttons(browser, &["Not this person", "Who is this?"]).await;
    browser.click(&format!("{CARD} .faces li:nth-child(2) button")).await;
    wait_for_buttons(browser, &["Not this person", "Save", "Cancel"]).await;
}

/// Names the smaller of two unknown faces in a photo, and sees that face named on the next one. Uses no mouse.
pub async fn name_the_second_face_by_keyboard(browser: &Browser, server: &Rollcall) {
    browser.choose("#file", &[&photo_of_two(server)]).await;
    wait_for_buttons(browser, &["Who is this?", "Who is this?"]).await;
    let focus = format!("document.querySelectorAll('{CARD} .faces button')[1].focus()");
    browser.js(&focus).await;
    browser.press(Key::Enter).await;
    let focused = "return document.activeElement.labels?.[0]?.textContent ?? document.activeElement.textContent";
    assert_eq!(browser.js(focused).await, "Who is this?", "the field has the focus");
    browser.press(Key::Escape).await;
    wait_for_buttons(browser, &["Who is this?", "Who is this?"]).await;
    assert_eq!(browser.js(&format!("{focus}; return document.activeElement.tagName")).await, "BUTTON");

    browser.press(Key::Enter).await;
    let field = browser.client.active_element().await.expect("the field");
    field.send_keys("unknown").await.expect("typed");
    browser.press(Key::Enter).await;
    wait_until("a name that nobody can have is refused", TIMEOUT, async || {
        browser.texts(&format!("{CARD} .faces p.error")).await.concat().contains("label with another meaning")
    })
    .await;
    field.clear().await.expect("cleared");
    field.send_keys("Rishi").await.expect("typed");
    browser.press(Key::Enter).await;
    wait_for_buttons(browser, &["Who is this?", "Not this person"]).await;
    assert_eq!(browser.texts(&format!("{CARD} .faces .name")).await, ["Rishi"]);
    assert_eq!(browser.js("return document.activeElement.textContent").await, "This photo was added to Rishi.");
    let listed = async || browser.texts("#people-list .name").await == ["Rishi"];
    wait_until("the person is listed", TIMEOUT, listed).await;
    assert_eq!(browser.js("return document.getElementById('known-names').options.length").await, 1);

    browser.choose("#file", &[STRANGER]).await;
    let label = format!("{CARD} .label");
    wait_until("the next photo is named", TIMEOUT, async || browser.texts(&label).await == ["Rishi"]).await;
}

/// Takes a name back from the face of the only card, whose photo is then unknown, also when it is uploaded again.
pub async fn take_back_a_name_by_click(browser: &Browser) {
    wait_for_buttons(browser, &["Not this person"]).await;
    browser.click(&format!("{CARD} .faces button")).await;
    browser.wait_for_labels(vec!["unknown"]).await;
    wait_for_buttons(browser, &["Who is this?"]).await;
    let said = browser.texts(&format!("{CARD} p[role=status]")).await;
    assert_eq!(json!(said), json!(["This face is not given the name Emmanuel_Macron again.", ""]));
    browser.choose("#file", &[MACRON]).await;
    browser.wait_for_labels(vec!["unknown", "unknown"]).await;

    // Whoever says otherwise later is believed.
    browser.click(&format!("{CARD} .faces button")).await;
    let field = browser.client.active_element().await.expect("the field");
    field.send_keys("Emmanuel_Macron").await.expect("typed");
    browser.press(Key::Enter).await;
    browser.wait_for_labels(vec!["unknown", "Emmanuel_Macron"]).await;
}
