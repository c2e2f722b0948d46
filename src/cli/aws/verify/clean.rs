//! Removes what the checks have made: jobs with all that is stored of them, tokens, probes, and workers that were launched.

use std::sync::Arc;

use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{
    Created, CreatedJob, Verification,
    api::{Api, POLL},
};
use crate::{
    access::TokenId,
    cli::audit::Subject,
    cloud::{CloudResult, ObjectStore},
    results::{ResultStore, keys},
};

impl Verification {
    /// Removes everything, and returns what is left, which is empty if all went well. Continues after an error.
    pub(super) async fn clean_up(&self) -> Vec<String> {
        let created = std::mem::take(&mut *self.created());
        let Some(objects) = created.objects.clone() else { return Vec::new() }; // nothing was begun
        let mut left = Vec::new();
        left.extend(self.clean_jobs(&created, &objects).await);
        let before = created.workers_before.unwrap_or_default();
        let state = &self.settings.store.state;
        let mut reports = Vec::new();
        for probe in created.probes {
            // EC2 may list the machine only some time after its launch has returned.
            if let Ok(Some(id)) = probe.call.await {
                left.extend(self.account.terminate(&[id]).await.err().map(|error| format!("probe: {error}")));
            }
            reports.push(probe.key);
        }
        left.extend(self.clean_instances(&before).await);
        // Only now: until it has ended, a probe may upload its report.
        for key in reports {
            left.extend(objects.delete(state, &key).await.err().map(|error| format!("{state}/{key}: {error}")));
        }
        left.extend(self.clean_tokens(objects).await);
        left
    }

    /// Deletes the jobs with what is stored of them, once they are done.
    async fn clean_jobs(&self, created: &Created, objects: &Arc<dyn ObjectStore>) -> Vec<String> {
        let (Some(api), Some(token)) = (&created.api, &created.reader) else { return Vec::new() };
        let (until, mut left) = (Instant::now() + self.args.timeout, Vec::new());
        let results = ResultStore::new(objects.clone(), self.settings.store.clone());
        let (_, log) = self.tokens(objects.clone());
        for job in &created.jobs {
            let is_over = is_over(api, token, job, until).await;
            // By the operator's own rights: a token that may delete would be one of an administrator.
            let subject = Subject { id: Some(job.id.to_string()), ..Subject::default() };
            let deleted = log.run("result delete", subject, async { Ok(results.delete(job.id).await?) }).await;
            if !is_over {
                let how = match deleted {
                    Ok(_) => "; when it is done, nothing of it is stored".to_owned(),
                    Err(error) => format!(", and cannot be deleted: {error:#}"),
                };
                left.push(format!("job {} ({}) is still queued{how}", job.id, job.file));
                continue;
            }
            // A deletion leaves a tombstone, for retries of the upload: there will be none.
            match self.delete_objects(job, objects).await {
                Ok(found) => left.extend(found),
                Err(error) => left.push(format!("job {}: {error}", job.id)),
            }
        }
        left
    }

    /// Deletes every object of a job, and returns those that are still there.
    async fn delete_objects(&self, job: &CreatedJob, objects: &Arc<dyn ObjectStore>) -> CloudResult<Vec<String>> {
        let store = &self.settings.store;
        let places = [
            (&store.input, keys::input_key(store, job.id, &job.file)),
            (&store.output, keys::output_key(store, job.id, &job.file)),
            (&store.state, keys::result_key(job.id)),
            (&store.state, keys::claim_key(job.id)),
            (&store.state, keys::dead_letter_prefix(job.id)),
        ];
        let mut left = Vec::new();
        for (bucket, prefix) in places {
            for object in objects.list(bucket, &prefix).await? {
                objects.delete(bucket, &object.key).await?;
            }
            left.extend(
                objects.list(bucket, &prefix).await?.into_iter().map(|object| format!("{bucket}/{}", object.key)),
            );
        }
        Ok(left)
    }

    /// Terminates the probes, and the workers that were launched, once these have stopped.
    async fn clean_instances(&self, before: &std::collections::BTreeSet<String>) -> Vec<String> {
        let until = Instant::now() + self.args.timeout;
        loop {
            let now = async {
                let probes = self.account.probes().await?.into_iter();
                let probes: Vec<_> = probes.filter(|probe| probe.name.contains(&self.run)).collect();
                let workers = self.account.worker_facts().await?.into_iter();
                let workers: Vec<_> = workers.filter(|worker| !before.contains(&worker.id)).collect();
                let stopped = workers.iter().filter(|worker| worker.state == "stopped");
                let running = probes.iter().filter(|probe| probe.state != "shutting-down");
                let ids: Vec<String> = stopped.chain(running).map(|instance| instance.id.clone()).collect();
                self.account.terminate(&ids).await?;
                CloudResult::Ok(probes.into_iter().chain(workers).collect::<Vec<_>>())
            };
            let left = match now.await {
                Ok(left) if left.is_empty() => return Vec::new(),
                Ok(left) => left.iter().map(|instance| format!("{} ({})", instance.id, instance.state)).collect(),
                Err(error) => vec![format!("instances: {error}")],
            };
            if Instant::now() >= until {
                return left;
            }
            sleep(POLL).await;
        }
    }

    /// Revokes the tokens of this run.
    async fn clean_tokens(&self, objects: Arc<dyn ObjectStore>) -> Option<String> {
        let (store, log) = self.tokens(objects);
        let label = self.label();
        let revoked = async {
            let own = store.list().await?.into_iter().filter(|record| record.label == label);
            let own: Vec<TokenId> = own.map(|record| record.id).collect();
            if !own.is_empty() {
                let ids = own.iter().map(TokenId::to_string).collect::<Vec<_>>().join(" ");
                let subject = Subject { id: Some(ids), ..Subject::default() };
                log.run("token revoke", subject, async { Ok(store.revoke(&own).await?) }).await?;
            }
            anyhow::Ok(())
        };
        revoked.await.err().map(|error| format!("tokens with the label {label:?}: {error:#}"))
    }
}

/// Waits until a job is done or has failed, or was never accepted. Returns whether it is over.
async fn is_over(api: &Api, token: &str, job: &CreatedJob, until: Instant) -> bool {
    loop {
        let response = api.send(Method::GET, &format!("/v1/recognitions/{}", job.id), Some(token)).await;
        if response.is_ok_and(|response| response.status == 200 && response.body["status"] != "pending") {
            return true;
        }
        if Instant::now() >= until {
            return false;
        }
        sleep(POLL).await;
    }
}
