//! `rollcall aws up` refuses images whose machines would not boot with the user data of the stack, before anything is changed.

use std::time::Duration;

use aws_sdk_ec2::types::{ImageState, ResourceType, Tag, TagSpecification};
use rollcall_testing::wait_until;

use crate::support::{account::Account, inventory::Changes};

const UP: [&str; 4] = ["aws", "up", "--allow-from", "10.0.0.0/8"];
/// An image of another account that states the image format of this release, and one of another program.
const SHARED: &str = "ami-12345678";
const PLAIN: &str = "ami-11111111";
const FORMAT: &str = "rollcall:image-format";
/// Longest wait for anything here, on a busy machine.
const TIMEOUT: Duration = Duration::from_secs(60);
/// The exit code for an invalid configuration (`EX_CONFIG` of sysexits.h).
const EX_CONFIG: Option<i32> = Some(78);

/// Creates an image of the cluster with further tags, and waits until it is available.
async fn create_image(account: &Account, name: &str, tags: &[(&str, &str)]) -> String {
    let machine = account.launch("rollcall:bake", "another").await;
    let ours = [("rollcall:cluster", "rollcall")];
    let tags = ours.iter().chain(tags).map(|(key, value)| Tag::builder().key(*key).value(*value).build()).collect();
    let tags = TagSpecification::builder().resource_type(ResourceType::Image).set_tags(Some(tags)).build();
    let ec2 = account.ec2().await;
    let made = ec2.create_image().instance_id(machine).name(name).tag_specifications(tags).send().await;
    let id = made.expect("an image").image_id.expect("an id");
    wait_until("the image is available", TIMEOUT, async || {
        let images = ec2.describe_images().image_ids(&id).send().await.expect("a list");
        images.images().iter().all(|image| image.state() == Some(&ImageState::Available))
    })
    .await;
    id
}

/// Returns the image format of this release.
async fn format_of(account: &Account) -> String {
    let described = account.ec2().await.describe_images().image_ids(SHARED).send().await.expect("the image");
    let number = described.images()[0].description().and_then(|text| text.rsplit_once(' '));
    number.expect("a number").1.to_owned()
}

/// Checks that `up` refuses that image, says what to do, and changes nothing.
async fn refuses(account: &Account, arguments: &[&str], image: &str, what: &str) {
    let before = account.inventory().await;
    let refused = account.run(arguments);
    assert_eq!(refused.code, EX_CONFIG, "{}", refused.err);
    let why = refused.failed();
    assert!(why.contains(image) && why.contains(what), "{why}");
    assert!(why.contains("rollcall aws bake") && why.contains("--image") && why.contains("aws.image"), "{why}");
    assert!(!why.contains("updating") && !why.contains("creating") && !why.contains("deleting"), "{why}");
    assert_eq!(account.changes(&before).await, Changes::default());
}

#[tokio::test(flavor = "multi_thread")]
async fn up_refuses_an_image_of_another_format_before_anything_is_changed() {
    let account = Account::start(&[]).await;
    let [shared, plain] = [SHARED, PLAIN].map(|image| [&UP[..], &["--image", image]].concat());
    refuses(&account, &plain, PLAIN, "states no image format").await;
    // A stack whose creation has failed is not deleted for it either.
    let faults =
        serde_json::json!([{ "action": "RunInstances", "code": "VcpuLimitExceeded", "status": 400, "times": 1 }]);
    account.ec2.post_control("/faults", faults).await;
    account.run(&shared).failed();
    refuses(&account, &plain, PLAIN, "states no image format").await;

    // The tags of a shared image are its owner's secret, so the description counts.
    account.run(&shared).done();
    // The newest image of the cluster is of an earlier release, and then of a later one. The stack stays as it is.
    let earlier = create_image(&account, "earlier", &[]).await;
    refuses(&account, &["aws", "up"], &earlier, "states no image format").await;
    let later = create_image(&account, "later", &[(FORMAT, "999"), ("rollcall:release", "9.9.9")]).await;
    refuses(&account, &["aws", "up", "--worker-type", "c7i.xlarge"], &later, "\"999\" (release 9.9.9)").await;
    // So is the image that the settings name for workers.
    let mut command = account.command(&["aws", "up", "--image", SHARED]);
    command.env("ROLLCALL__AWS__IMAGE", &earlier);
    let refused = crate::support::account::command_output(command.output().expect("the program starts"));
    assert_eq!(refused.code, EX_CONFIG, "{}", refused.err);
    assert!(refused.err.contains(&earlier), "{}", refused.err);

    // An account may tag what others share with it.
    let tag = Tag::builder().key(FORMAT).value(format_of(&account).await).build();
    account.ec2().await.create_tags().resources(PLAIN).tags(tag).send().await.expect("tagged");
    let changed = account.run(&["aws", "up", "--image", PLAIN]);
    assert!(changed.success && changed.err.contains("updating"), "{}", changed.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn up_uses_images_that_are_available() {
    let account = Account::start(&[]).await;
    let number = format_of(&account).await;
    let good = create_image(&account, "good", &[(FORMAT, &number)]).await;
    let newest = create_image(&account, "newest", &[(FORMAT, &number)]).await;
    for state in ["pending", "failed"] {
        account.ec2.post_control("/image", serde_json::json!({ "id": newest, "state": state })).await;
        let before = account.inventory().await;
        let why = account.run(&[&UP[..], &["--image", &newest]].concat()).failed();
        assert!(why.contains(&format!("the image {newest} is {state}")), "{why}");
        assert_eq!(account.changes(&before).await, Changes::default());
        let up = account.run(&UP);
        assert!(up.success && up.err.contains(&format!("the image {newest} is not used: it is {state}")), "{}", up.err);
        let call = account.ec2().await.describe_launch_template_versions().launch_template_name("rollcall-worker");
        let versions = call.versions("$Latest").send().await.expect("a version");
        let data = versions.launch_template_versions()[0].launch_template_data().expect("its data");
        assert_eq!(data.image_id(), Some(good.as_str()));
    }
}
