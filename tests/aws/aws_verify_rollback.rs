//! After an update that was rolled back, `rollcall aws verify` judges the workers by the web node that runs.

use rollcall_testing::uploads::{MACRON, form, photo, post};

use crate::{aws_verify::checks, aws_web_nodes::break_image, support::account::Account};

#[tokio::test(flavor = "multi_thread")]
async fn verify_names_no_version_that_a_rollback_has_made() {
    let account = Account::start(&[
        ("ROLLCALL__FLEET__POLL_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_EVERY", "300ms"),
        ("ROLLCALL__FLEET__DESCRIBE_LAG", "0s"),
        ("ROLLCALL__FLEET__MAX_INSTANCES", "1"),
        ("ROLLCALL__WORKER__THREADS", "1"),
        ("ROLLCALL__WORKER__IDLE_STOP", "10m"),
    ])
    .await;
    let image = account.run(&["aws", "bake", "--base", "ami-12345678"]).done();
    account.run(&["aws", "up", "--allow-from", "10.0.0.0/8"]).done();
    let response = post(&account.web("/"), form(&[("a.jpg", &photo(MACRON))])).await;
    assert_eq!(response.status(), 200, "{}", account.log());
    break_image(&account, image.trim()).await;
    let why = account.run(&["aws", "up"]).failed();
    assert!(why.contains("UPDATE_ROLLBACK_COMPLETE"), "{why}");

    let templates = account.ec2().await.describe_launch_templates().send().await.expect("a list");
    let latest: Vec<_> = templates.launch_templates().iter().map(|template| template.latest_version_number()).collect();
    assert_eq!(latest, [Some(3), Some(3)], "one of the update and one of the rollback");
    let checks = checks(&account, &["--budget", "0.5", "--timeout", "2s"]);
    for (name, seen) in [("launch template", "version 1, "), ("versions", "1 workers, none of another")] {
        let check = checks.iter().find(|check| check["name"] == name).expect("a check");
        assert_eq!(check["verdict"], "ok", "{check:#}");
        assert!(check["seen"].as_str().expect("text").contains(seen), "{check:#}");
    }
}
