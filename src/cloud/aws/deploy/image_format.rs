//! Which images a stack of this program can run: machines boot with user data that the template contains, and the image has to
//! understand it.
//!
//! `bake` writes the number of its interface into tags of the image and, because accounts that an image is shared with do not see
//! its owner's tags, into the description.

use anyhow::Context as _;
use aws_sdk_ec2::types::Image;
use thiserror::Error;

use super::{
    super::{call_sites::CallSite as _, errors::classify},
    account::Account,
};

/// Number of the interface between the template with its user data and the image: the units, the paths of files, and the
/// settings that user data set. It is raised when an image no longer boots with the user data of the number before, or user data
/// no longer fit an image of that number.
const IMAGE_FORMAT: u32 = 1;
/// Tag on an image and its snapshot: [`IMAGE_FORMAT`] of the program that baked it.
pub(super) const FORMAT_TAG: &str = "rollcall:image-format";
/// Tag on an image and its snapshot: the release that baked it.
pub(super) const RELEASE_TAG: &str = "rollcall:release";
/// State of an image from which machines can be launched.
pub(super) const AVAILABLE: &str = "available";
/// What precedes the number in the description of an image.
const IN_DESCRIPTION: &str = ", image format ";

/// An image that machines of the stack would not boot with.
#[derive(Debug, Error)]
#[error(
    "the image {image} {what}, and this program needs one of image format {IMAGE_FORMAT}: create one with `rollcall aws bake`, \
     specify another with --image (or aws.image for workers), or run `up` of the release that baked it. Tag a copy of an image of \
     this release that has lost tags and description, with `aws ec2 create-tags --resources {image} --tags \
     Key={FORMAT_TAG},Value={IMAGE_FORMAT}`"
)]
pub(crate) struct UnfitImage {
    image: String,
    what: String,
}

/// Returns the tags of an image that is being baked, as names and values.
pub(super) fn tags() -> [(&'static str, String); 2] {
    [(FORMAT_TAG, IMAGE_FORMAT.to_string()), (RELEASE_TAG, env!("CARGO_PKG_VERSION").to_owned())]
}

/// Returns the description of an image that is being baked.
pub(super) fn description() -> String {
    format!("Rollcall {}{IN_DESCRIPTION}{IMAGE_FORMAT}", env!("CARGO_PKG_VERSION"))
}

/// Checks that machines of a stack of this program boot with an image.
///
/// # Errors
/// [`UnfitImage`]; or there is no such image, or it is not available, or EC2 cannot be called.
pub(super) async fn check(account: &Account, id: &str) -> anyhow::Result<()> {
    let found = account.ec2.describe_images().image_ids(id).recorded().send().await;
    let found = found.map_err(|e| classify(id, e))?.images.unwrap_or_default().pop();
    let found = found.with_context(|| format!("there is no image {id}"))?;
    let state = found.state().map_or("unknown", |state| state.as_str());
    anyhow::ensure!(
        state == AVAILABLE,
        "the image {id} is {state}, and machines can be launched from it only when it is {AVAILABLE}: {}",
        if state == "pending" { "wait until it is, and run `up` again" } else { "specify another with --image" }
    );
    fits(id, &found)?;
    Ok(())
}

fn fits(id: &str, image: &Image) -> Result<(), UnfitImage> {
    let tag = |key: &str| image.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value());
    let described = image.description().and_then(|text| text.rsplit_once(IN_DESCRIPTION)).map(|(_, number)| number);
    let release = tag(RELEASE_TAG).map_or_else(String::new, |release| format!(" (release {release})"));
    let what = match tag(FORMAT_TAG).or(described) {
        Some(number) if number.parse() == Ok(IMAGE_FORMAT) => return Ok(()),
        Some(number) => format!("has the image format {number:?}{release}"),
        None => "states no image format, as those of earlier releases and of other programs".to_owned(),
    };
    Err(UnfitImage { image: id.to_owned(), what })
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::Tag;

    use super::*;

    #[test]
    fn an_image_fits_by_its_tag_or_else_by_its_description() {
        let tagged = |value: String| Image::builder().tags(Tag::builder().key(FORMAT_TAG).value(value).build());
        let fit = |image: Image| fits("ami-1", &image).map_err(|error| error.what);
        let (same, later) = (IMAGE_FORMAT.to_string(), (IMAGE_FORMAT + 1).to_string());
        assert_eq!(fit(tagged(same.clone()).build()), Ok(()));
        assert_eq!(fit(Image::builder().description(description()).build()), Ok(()));
        assert_eq!(fit(tagged(same).description("a copy").build()), Ok(()), "who tags a copy knows better");
        assert!(fit(tagged(later.clone()).description(description()).build()).is_err());
        let described = |text: &str| fit(Image::builder().description(text).build());
        assert!(described(&format!("Rollcall 9.0.0, image format {later}")).unwrap_err().contains(&later));
        for text in ["Rollcall 0.1.0", "", "Ubuntu, image format", "Rollcall 0.1.0, image format one"] {
            assert!(described(text).is_err(), "{text}");
        }
        let image = tagged("0".into()).tags(Tag::builder().key(RELEASE_TAG).value("0.0.9").build()).build();
        assert!(fit(image).unwrap_err().contains("release 0.0.9"));
        assert!(fit(Image::builder().build()).is_err());
    }

    /// An image that does not know a setting refuses to start with it.
    #[test]
    fn the_settings_in_user_data_are_those_of_the_image_format() {
        const OF_FORMAT: (u32, &str, &str) = (
            1,
            "AWS__KMS_KEY CLOUD__CLUSTER QUEUE__DEAD_LETTER QUEUE__LISTENER QUEUE__SPEAKER QUEUE__STATUS STORE__INPUT \
             STORE__OUTPUT STORE__STATE",
            "AWS__HEALTH_CHECKS AWS__INSTANCE_TYPES AWS__KMS_KEY AWS__LAUNCH_TEMPLATE AWS__LAUNCH_TEMPLATE_VERSION AWS__METRICS \
             AWS__PUBLIC_ADDRESS AWS__SECURITY_GROUPS AWS__STACK_RESOURCE AWS__SUBNETS CLOUD__CLUSTER HTTP__KEEP_ALIVE \
             HTTP__PROXIES QUEUE__DEAD_LETTER QUEUE__LISTENER QUEUE__SPEAKER QUEUE__STATUS STORE__INPUT STORE__OUTPUT STORE__STATE",
        );
        let template = include_str!("../../../../deploy/cloudformation.yaml");
        let settings = |resource: &str| {
            let (_, definition) = template.split_once(&format!("\n  {resource}:\n")).expect("it is in the template");
            // The next resource is indented as much.
            let lines = definition.lines().take_while(|line| line.starts_with("   ") || line.trim().is_empty());
            let keys = lines.flat_map(|line| line.split("ROLLCALL__").skip(1)).filter_map(|rest| rest.split_once('='));
            let keys: std::collections::BTreeSet<&str> = keys.map(|(key, _)| key).collect();
            keys.into_iter().collect::<Vec<_>>().join(" ")
        };
        let (workers, web) = (settings("WorkerTemplate"), settings("WebTemplate"));
        assert_eq!(
            (IMAGE_FORMAT, workers.as_str(), web.as_str()),
            OF_FORMAT,
            "images of format {IMAGE_FORMAT} do not know other settings: raise IMAGE_FORMAT, and state the number with its settings here"
        );
    }

    #[test]
    fn what_bake_writes_fits() {
        let [format, release] = tags().map(|(key, value)| Tag::builder().key(key).value(value).build());
        assert!(fits("ami-1", &Image::builder().tags(format).tags(release).build()).is_ok());
        assert!(description().len() <= 255, "the limit of EC2");
        let documentation = std::fs::read_to_string("docs/aws.md").expect("the documentation");
        assert!(documentation.contains(&format!("Key={FORMAT_TAG},Value={IMAGE_FORMAT}")), "docs/aws.md");
    }
}
