//! Which instance types can run an image: those of its architecture.

use super::{
    super::{call_sites::CallSite as _, errors::classify, instance_types},
    account::Account,
};
use anyhow::Context as _;

/// The types that machines have if nobody chooses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DefaultTypes {
    pub(super) web: String,
    /// In order of preference, separated by commas.
    pub(super) workers: String,
}

/// The type of the web node for an image for arm64; the types for x86-64 are the template's.
const ARM_WEB: &str = "t4g.small";
/// The types of its workers. Graviton has none of the instructions that the int8 embedder needs, so newer generations come
/// first.
const ARM_WORKERS: [&str; 3] = ["c8g.large", "c7g.large", "c6g.large"];

/// Returns the types for an image that the region has, if they are not those of the template.
///
/// # Errors
/// The region has none for the workers, or EC2 cannot be called.
pub(super) async fn default_types(account: &Account, architecture: &str) -> anyhow::Result<Option<DefaultTypes>> {
    if architecture != "arm64" {
        return Ok(None);
    }
    let found = instance_types::existing(&account.ec2, &ARM_WORKERS).await?;
    let is_there =
        |name: &&str| found.iter().any(|kind| kind.instance_type().is_some_and(|kind| kind.as_str() == *name));
    let workers: Vec<&str> = ARM_WORKERS.into_iter().filter(is_there).collect();
    anyhow::ensure!(
        !workers.is_empty(),
        "{} has none of the instance types {}: choose others with --worker-type",
        account.region,
        ARM_WORKERS.join(", ")
    );
    Ok(Some(DefaultTypes { web: ARM_WEB.to_owned(), workers: workers.join(",") }))
}

/// Returns the architecture of an image: `x86_64` or `arm64`.
///
/// # Errors
/// There is no such image, or EC2 cannot be called.
pub(super) async fn of_image(account: &Account, image: &str) -> anyhow::Result<String> {
    let found = account.ec2.describe_images().image_ids(image).recorded().send().await;
    let found = found.map_err(|e| classify(image, e))?.images.unwrap_or_default().pop();
    let architecture =
        found.and_then(|image| image.architecture).with_context(|| format!("there is no image {image}"))?;
    Ok(architecture.as_str().to_owned())
}

/// Checks that machines of these types (separated by commas) can run an image.
///
/// # Errors
/// One cannot, there is no such type, or EC2 cannot be called.
pub(super) async fn check(account: &Account, image: &str, architecture: &str, types: &[String]) -> anyhow::Result<()> {
    let names: Vec<&str> = types.iter().flat_map(|list| list.split(',')).filter(|name| !name.is_empty()).collect();
    for kind in &instance_types::describe(&account.ec2, &names).await? {
        let supported = kind.processor_info().map_or(&[][..], |info| info.supported_architectures());
        let supported: Vec<&str> = supported.iter().map(|architecture| architecture.as_str()).collect();
        let name = kind.instance_type().map_or("", |name| name.as_str());
        anyhow::ensure!(
            supported.contains(&architecture),
            "the image {image} is for {architecture}, and {name} runs {}: choose other types with --web-type and --worker-type, \
             or bake the image on a machine of that architecture",
            supported.join(" and ")
        );
    }
    Ok(())
}
