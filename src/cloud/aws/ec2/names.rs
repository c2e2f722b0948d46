//! The names of instances, which are only for display.

use std::time::Duration;

use aws_sdk_ec2::{Client, types::Tag};
use futures_util::future::join_all;

use super::super::{call_sites::CallSite as _, errors::classify};

/// Instances of a launch that are named before it returns, and the pause before each other one. An account has 100 calls of
/// CreateTags, and 10 more per second; workers that become ready need one each.
const NAMED_AT_ONCE: usize = 20;
const NAME_EVERY: Duration = Duration::from_millis(500);

/// Names instances, given by their ids. Most of those of a large launch are named later, at a rate that leaves calls to others.
pub(super) async fn set_names(client: &Client, mut names: Vec<(String, String)>) {
    let (later, client) = (names.split_off(names.len().min(NAMED_AT_ONCE)), client.clone());
    join_all(names.into_iter().map(|(id, name)| set_name(&client, id, name))).await;
    tokio::spawn(async move {
        for (id, name) in later {
            tokio::time::sleep(NAME_EVERY).await;
            set_name(&client, id, name).await;
        }
    });
}

async fn set_name(client: &Client, id: String, name: String) {
    let tag = Tag::builder().key("Name").value(name).build();
    if let Err(error) = client.create_tags().resources(id).tags(tag).recorded().send().await {
        tracing::warn!(error = %classify("name", error), "an instance keeps the name of another");
    }
}
