//! Removes what earlier runs have left that were killed: tokens, probes and their reports.

use std::time::Duration;

use super::{LABEL, Verification, check::Check};
use crate::{
    access::{Record, TokenId},
    cli::audit::Subject,
    cloud::aws::deploy::{facts::InstanceFacts, probe::REPORTS},
};

/// Age from which what a run has made is left over. A run that goes on is younger, because it ends itself (`LONGEST`) and then
/// has 20 minutes for its clean-up.
const LEFT_OVER: Duration = Duration::from_secs(2 * 60 * 60);

/// Returns whether something is left over. Both times are in milliseconds since the Unix epoch.
fn is_left_over(made_ms: u64, now_ms: u64) -> bool {
    Duration::from_millis(now_ms.saturating_sub(made_ms)) > LEFT_OVER
}

/// Returns the tokens that earlier runs have left.
fn tokens(records: &[Record], now_ms: u64) -> Vec<TokenId> {
    let left = |record: &&Record| record.label.starts_with(LABEL) && is_left_over(record.created_ms, now_ms);
    records.iter().filter(left).map(|record| record.id.clone()).collect()
}

/// Returns the probes that earlier runs have left.
fn probes(instances: &[InstanceFacts], now_ms: u64) -> Vec<String> {
    let left = |probe: &&InstanceFacts| {
        probe.state != "shutting-down" && probe.launched_ms.is_some_and(|launched| is_left_over(launched, now_ms))
    };
    instances.iter().filter(left).map(|probe| probe.id.clone()).collect()
}

/// Returns whether an earlier run has left this report of a probe. Its name begins with the run, which tells the time.
fn is_left_report(key: &str, now_ms: u64) -> bool {
    let name = key.strip_prefix(REPORTS).unwrap_or_default();
    let run = name.split('-').next().unwrap_or_default();
    ulid::Ulid::from_string(&run.to_uppercase()).is_ok_and(|run| is_left_over(run.timestamp_ms(), now_ms))
}

impl Verification {
    /// Removes what earlier runs have left, and says what that was. Continues after an error.
    pub(super) async fn clean_earlier(&self, now_ms: u64) -> Check {
        let (mut removed, mut faults) = (Vec::new(), Vec::new());
        let parts = [self.revoke_left(now_ms).await, self.terminate_left(now_ms).await, self.delete_left(now_ms).await];
        for part in parts {
            match part {
                Ok(found) => removed.extend(found),
                Err(error) => faults.push(format!("{error:#}")),
            }
        }
        let seen = if removed.is_empty() { "nothing".to_owned() } else { format!("removed {}", removed.join(", ")) };
        let remedy = "give these credentials the rights to remove it";
        Check::of_faults(
            "earlier runs",
            "nothing that a run has left which was killed, or it is removed",
            seen,
            &faults,
            remedy,
        )
    }

    async fn revoke_left(&self, now_ms: u64) -> anyhow::Result<Vec<String>> {
        let (store, log) = self.tokens(self.objects());
        let left = tokens(&store.list().await?, now_ms);
        if !left.is_empty() {
            let ids = left.iter().map(TokenId::to_string).collect::<Vec<_>>().join(" ");
            let subject = Subject { id: Some(ids), ..Subject::default() };
            log.run("token revoke", subject, async { Ok(store.revoke(&left).await?) }).await?;
        }
        Ok(left.iter().map(|id| format!("token {id}")).collect())
    }

    async fn terminate_left(&self, now_ms: u64) -> anyhow::Result<Vec<String>> {
        let left = probes(&self.account.probes().await?, now_ms);
        if !left.is_empty() {
            self.account.terminate(&left).await?;
        }
        Ok(left.iter().map(|id| format!("probe {id}")).collect())
    }

    async fn delete_left(&self, now_ms: u64) -> anyhow::Result<Vec<String>> {
        let (objects, state) = (self.objects(), &self.settings.store.state);
        let mut removed = Vec::new();
        for object in objects.list(state, REPORTS).await? {
            if is_left_report(&object.key, now_ms) {
                objects.delete(state, &object.key).await?;
                removed.push(format!("{state}/{}", object.key));
            }
        }
        Ok(removed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::{Role, Token};

    const HOUR_MS: u64 = 60 * 60 * 1_000;
    const NOW: u64 = 1_000 * HOUR_MS;

    #[test]
    fn only_what_is_of_a_run_and_older_than_two_hours_is_left_over() {
        let record =
            |label: &str, hours| Token::new().record(Role::Read, None, label.to_owned(), NOW - hours * HOUR_MS);
        let records = [
            record("rollcall aws verify 01", 3),
            record("rollcall aws verify 02", 2),
            record("entrance", 3),
            record("my rollcall aws verify 03", 3),
        ];
        assert_eq!(tokens(&records, NOW), [records[0].id.clone()]);

        let probe = |id: &str, state: &str, launched_ms| {
            let (id, state) = (id.to_owned(), state.to_owned());
            InstanceFacts { id, state, launched_ms, ..InstanceFacts::default() }
        };
        let old = Some(NOW - 3 * HOUR_MS);
        let all = [
            probe("i-1", "running", old),
            probe("i-2", "running", Some(NOW - HOUR_MS)),
            probe("i-3", "shutting-down", old),
            probe("i-4", "running", None),
            probe("i-5", "stopped", old),
        ];
        assert_eq!(probes(&all, NOW), ["i-1", "i-5"]);

        let report = |hours| {
            let run = ulid::Ulid::from_parts(NOW - hours * HOUR_MS, 1).to_string().to_lowercase();
            format!("verify/{run}-worker")
        };
        let left = [&report(3), &report(1), "verify/other", "gallery/x"].map(|key| is_left_report(key, NOW));
        assert_eq!(left, [true, false, false, false]);
    }
}
