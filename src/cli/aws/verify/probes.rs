//! The probes: machines with the roles of the stack that try what these must be denied.

use anyhow::Context as _;
use tokio::sync::oneshot;

use super::{
    RunningProbe, Verification,
    expected::{WEB_PROFILE, WORKER_GROUP, WORKER_PROFILE},
    judge, roles,
};
use crate::cloud::aws::deploy::{attempts::Attempted, facts::TemplateFacts, probe::Probe};

/// Type of a probe whose image is not known.
const DEFAULT_TYPE: &str = "t3.small";

/// A probe that is being launched.
pub(super) struct BegunProbe {
    /// The name of its check.
    name: &'static str,
    plan: roles::Plan,
    probe: Probe,
    /// The id of its machine.
    launch: oneshot::Receiver<anyhow::Result<String>>,
}

impl Verification {
    /// Begins to launch the probes of both roles.
    pub(super) async fn begin_probes(&self, template: &TemplateFacts) -> Vec<BegunProbe> {
        let stack = &self.stack;
        let parameter = |name: &str| stack.parameters.get(name).cloned().unwrap_or_default();
        let resource = |name: &str| stack.resources.get(name).cloned().unwrap_or_default();
        let (image, subnet) = (parameter("Image"), parameter("Subnet"));
        // What is wrong with the image, the launch says.
        let instance_type = self.account.small_type(&image).await.unwrap_or(DEFAULT_TYPE);
        let web = stack.resources.get("Web").map(String::as_str);
        let names = roles::Names {
            cluster: &self.account.cluster,
            input: &self.settings.store.input,
            output: &self.settings.store.output,
            state: &self.settings.store.state,
            image: &image,
            subnet: &subnet,
            instance_type,
            web,
            run: &self.run,
        };
        let mut all = Vec::new();
        for (name, profile, plan) in
            [("worker role", WORKER_PROFILE, roles::worker(&names)), ("web role", WEB_PROFILE, roles::web(&names))]
        {
            let probe = Probe {
                name: format!("{}-{}", self.run, name.split(' ').next().unwrap_or_default()),
                bucket: self.settings.store.state.clone(),
                image: image.clone(),
                instance_type: instance_type.to_owned(),
                profile: judge::profile_name(&resource(profile)).to_owned(),
                subnet: subnet.clone(),
                group: resource(WORKER_GROUP),
                worker_script: template.user_data.clone(),
                attempts: plan.attempts(),
            };
            let (launched, launch) = oneshot::channel();
            // It runs to its end even if the checks do not, so that the clean-up knows what it has launched.
            let call = tokio::spawn({
                let (account, probe) = (self.account.clone(), probe.clone());
                async move {
                    let result = probe.launch(&account).await;
                    let id = result.as_ref().ok().cloned();
                    let _ = launched.send(result); // the checks may have ended
                    id
                }
            });
            self.created().probes.push(RunningProbe { key: probe.key(), call });
            all.push(BegunProbe { name, plan, probe, launch });
        }
        all
    }

    /// Waits for the reports of the probes, and judges them.
    pub(super) async fn judge_probes(&self, probes: Vec<BegunProbe>) {
        let checks = probes.into_iter().map(async |BegunProbe { name, plan, probe, launch }| {
            let attempted = self.attempted(probe, launch).await.map_err(|error| format!("{error:#}"));
            roles::judge(name, &plan, attempted)
        });
        futures_util::future::join_all(checks).await.into_iter().for_each(|check| self.report.add(check));
    }

    /// Waits for the report of a probe.
    async fn attempted(
        &self,
        probe: Probe,
        launch: oneshot::Receiver<anyhow::Result<String>>,
    ) -> anyhow::Result<Vec<Attempted>> {
        let id = launch.await.context("the launch was ended")??;
        probe.report(&self.account, &id, self.args.timeout).await
    }
}
