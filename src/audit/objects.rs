//! The audit log of a cluster on AWS: objects in the state bucket, each with some lines, by day.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use ulid::Ulid;

use super::lines::{Lines, day};
use crate::cloud::{CloudError, CloudResult, ObjectStore, Precondition};

/// Prefix of the keys in the state bucket; the day and an id follow, which contains the time.
const PREFIX: &str = "audit/";
/// How long lines wait for others to share an object. A put is billed.
const LINGER: Duration = Duration::from_secs(5);

/// Objects of lines.
pub(super) struct AuditObjects {
    store: Arc<dyn ObjectStore>,
    bucket: String,
}

impl AuditObjects {
    pub(super) fn new(store: Arc<dyn ObjectStore>, bucket: String) -> Self {
        Self { store, bucket }
    }

    /// Returns the keys of all objects, in order, whose day fulfils the condition.
    async fn keys(&self, condition: impl Fn(&str) -> bool) -> CloudResult<Vec<String>> {
        let listed = self.store.list(&self.bucket, PREFIX).await?;
        let keys = listed.into_iter().map(|object| object.key);
        Ok(keys.filter(|key| key[PREFIX.len()..].split_once('/').is_some_and(|(day, _)| condition(day))).collect())
    }
}

#[async_trait]
impl Lines for AuditObjects {
    async fn append(&self, lines: String, now_ms: u64) -> CloudResult<()> {
        let key = format!("{PREFIX}{}/{}.jsonl", day(now_ms), Ulid::generate());
        self.store.put(&self.bucket, &key, lines.into(), Precondition::Absent).await.map(drop)
    }

    async fn since(&self, since_ms: u64) -> CloudResult<Vec<String>> {
        let since = day(since_ms);
        let mut lines = Vec::new();
        for key in self.keys(|day| day >= since.as_str()).await? {
            match self.store.get(&self.bucket, &key).await {
                Ok(object) => lines.extend(String::from_utf8_lossy(&object.bytes).lines().map(str::to_owned)),
                Err(CloudError::NotFound(_)) => {} // it has just expired
                Err(other) => return Err(other),
            }
        }
        Ok(lines)
    }

    /// Does nothing: the rules of the bucket delete the objects, and the nodes have no right to.
    async fn expire(&self, _: u64) -> CloudResult<()> {
        Ok(())
    }

    fn linger(&self) -> Duration {
        LINGER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;

    const DAY_MS: u64 = 24 * 3600 * 1000;

    #[tokio::test]
    async fn lines_are_found_by_day_in_the_order_in_which_they_were_written() {
        let world = World::new().await;
        let log = AuditObjects::new(world.objects.clone(), world.settings.store.state.clone());
        let now = crate::clock::now_ms();
        for (lines, at) in [("1\n2\n", now - DAY_MS), ("3\n", now)] {
            log.append(lines.into(), at).await.expect("written");
        }
        assert_eq!(log.since(0).await.expect("read"), ["1", "2", "3"]);
        assert_eq!(log.since(now).await.expect("read"), ["3"]);
        let keys = world.keys(&world.settings.store.state).await;
        assert!(keys.iter().all(|key| key.starts_with("audit/20")), "{keys:?}");
    }
}
