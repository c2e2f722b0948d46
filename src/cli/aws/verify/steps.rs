//! The checks in their order, with the calls that they need.

use std::time::Duration;

use anyhow::Context as _;
use reqwest::Method;
use tokio::time::{Instant, sleep};

use super::{
    CreatedJob, Verification,
    api::{Api, POLL, Photo, Response},
    check::Check,
    cost::BURST,
    expected::{BUCKETS, QUEUES, WEB_TEMPLATE, WORKER_TEMPLATE},
    judge,
    judge::network,
    live,
    live::Burst,
    photos,
};
use crate::{
    access::{Role, Token},
    cli::audit::Subject,
    clock::now_ms,
    cloud::aws::deploy::facts::{InstanceFacts, TemplateFacts},
    fleet::view::FleetView,
    http::derived_id,
    job::JobId,
    recognition::GalleryName,
};

/// How long a new token may be refused: nodes read the tokens again at most this late.
const TOKEN_KNOWN: Duration = Duration::from_secs(10);

/// Who sends the requests.
struct Tokens {
    read: String,
    upload: Token,
}

impl Verification {
    /// Makes all checks that can be made.
    ///
    /// # Errors
    /// A step without which none of the following can be made has failed.
    pub(super) async fn checks(&self) -> anyhow::Result<()> {
        self.report.add(self.clean_earlier(now_ms()).await);
        let template = self.resources().await;
        let before = self.account.worker_facts().await.context("the workers")?;
        self.created().workers_before = Some(before.into_iter().map(|worker| worker.id).collect());
        self.created().objects = Some(self.objects());
        let probes = match &template {
            Some(template) => self.begin_probes(template).await,
            None => Vec::new(),
        };
        match self.web_node().await? {
            Some(api) => self.web_tier(&api).await?,
            None => self.report.add(Check::skipped("uploads", "they are answered", "the web node does not respond")),
        }
        self.judge_probes(probes).await;
        Ok(())
    }

    /// Checks what needs no upload. Returns the workers' launch template.
    async fn resources(&self) -> Option<TemplateFacts> {
        let (cluster, stack) = (&self.account.cluster, &self.stack);
        for queue in &QUEUES {
            let name = format!("{cluster}{}", queue.suffix);
            self.report.add(match self.account.queue_facts(&name).await {
                Ok(facts) => judge::queue(cluster, queue, &facts),
                Err(error) => judge::unreadable(&format!("queue {name}"), "it can be read", &error),
            });
        }
        for (purpose, rules) in BUCKETS {
            let store = &self.settings.store;
            let name = match purpose {
                "input" => &store.input,
                "output" => &store.output,
                _ => &store.state,
            };
            self.report.add(match self.account.bucket_facts(name).await {
                Ok(facts) => judge::bucket(name, rules, &stack.parameters, &facts),
                Err(error) => judge::unreadable(&format!("bucket {name}"), "it can be read", &error),
            });
        }
        let resource = |name: &str| stack.resources.get(name).map(String::as_str).unwrap_or_default();
        let template = match self.account.template_facts(resource(WORKER_TEMPLATE), resource(WEB_TEMPLATE)).await {
            Ok(template) => Some(template),
            Err(error) => {
                self.report.add(judge::unreadable("launch template", "it can be read", &error));
                None
            }
        };
        self.report.add(match self.inbound().await {
            Ok(groups) => network::network(&groups),
            Err(error) => judge::unreadable("network", "the security groups can be read", &error),
        });
        if let Some(template) = &template {
            self.report.add(judge::template(stack, template));
            self.report.add(match self.account.worker_facts().await {
                Ok(workers) => judge::versions(template, &workers),
                Err(error) => judge::unreadable("versions", "the workers can be described", &error),
            });
        }
        template
    }

    /// Reads what may reach the security groups of the stack.
    async fn inbound(&self) -> anyhow::Result<Vec<network::Inbound>> {
        let mut groups = network::groups(&self.stack);
        for group in &mut groups {
            group.seen = self.account.inbound(&group.id).await?;
        }
        Ok(groups)
    }

    /// Waits until the web node is ready, and returns it; `None` if it is not.
    async fn web_node(&self) -> anyhow::Result<Option<Api>> {
        let url = self.args.url.clone().or_else(|| self.stack.outputs.get("Address").cloned()).unwrap_or_default();
        let api = Api::new(&url, self.args.ca.as_deref())?;
        let until = Instant::now() + self.args.timeout;
        let ready = loop {
            let response = api.send(Method::GET, "/readyz", None).await;
            if response.as_ref().is_ok_and(|response| response.status == 200) || Instant::now() >= until {
                break response;
            }
            sleep(POLL).await;
        };
        let expected = format!("{url} is ready");
        match ready {
            Ok(Response { status: 200, .. }) => {
                self.report.add(Check::ok("web node", expected, "HTTP 200"));
                self.created().api = Some(api.clone());
                Ok(Some(api))
            }
            other => {
                let seen = other.map_or_else(|why| why, |response| response.text());
                let remedy = "is this machine within --allow-from? Does the subnet route to an internet gateway? Look at the \
                              console output of the web node (`aws ec2 get-console-output`)";
                self.report.add(Check::failed("web node", expected, seen, remedy));
                Ok(None)
            }
        }
    }

    async fn web_tier(&self, api: &Api) -> anyhow::Result<()> {
        let tokens = self.make_tokens(api).await?;
        self.access(api, &tokens).await?;
        self.uploads(api, &tokens).await?;
        let fleet = self.fleet(api, &tokens.read).await;
        let most = self.spend().workers.most_at_once();
        self.report.add(live::cap(most, fleet.map(|view| view.max_instances)));
        Ok(())
    }

    /// Creates temporary tokens, and waits until the web node knows them.
    async fn make_tokens(&self, api: &Api) -> anyhow::Result<Tokens> {
        let objects = self.created().objects.clone().context("no object store")?;
        let (store, log) = self.tokens(objects);
        let (label, mut made) = (self.label(), Vec::new());
        for role in [Role::Read, Role::Upload] {
            // As `rollcall token create` does, also in the audit log.
            let create = async { Ok(store.create(None, role, &label).await?) };
            made.push(log.run("token create", Subject::default(), create).await.context("a temporary token")?);
        }
        let [read, upload]: [Token; 2] = made.try_into().map_err(|_| anyhow::anyhow!("two tokens"))?;
        let tokens = Tokens { read: read.reveal(), upload };
        self.created().reader = Some(tokens.read.clone());
        let until = Instant::now() + TOKEN_KNOWN;
        // A token without the role gets 403. One that is not known gets 401 or, from a node that needed no token until now, what
        // anybody gets: whether that has ended is checked next.
        for (token, known) in [(&tokens.read, 200), (&tokens.upload.reveal(), 403)] {
            loop {
                let status = api.send(Method::GET, "/v1/fleet", Some(token)).await.map(|response| response.status);
                let (is_known, late) = (status.as_ref().is_ok_and(|status| *status == known), Instant::now() >= until);
                if is_known || status.is_err() || (late && status != Ok(401)) {
                    break;
                }
                let state = &self.settings.store.state;
                anyhow::ensure!(!late, "the web node does not accept a new token: can it read {state}?");
                sleep(POLL).await;
            }
        }
        Ok(tokens)
    }

    /// Checks what must be refused without a token, and with one that may only upload.
    async fn access(&self, api: &Api, tokens: &Tokens) -> anyhow::Result<()> {
        let photo = self.photo("anonymous", photos::small()?, None);
        let posted = api.post(&photo, None, false, self.args.timeout).await;
        if !posted.as_ref().is_ok_and(|response| response.status == 401) {
            self.keep(&photo);
        }
        let mut responses = vec![("POST /v1/recognitions", posted)];
        for path in ["/v1/people", "/v1/fleet"] {
            responses.push((path, api.send(Method::GET, path, None).await));
        }
        let remedy = "set http.anonymous to \"none\", and http.listen to an address that others can reach, so that tokens are needed";
        self.report.add(live::refused("without a token", 401, &responses, remedy));

        let (upload, nothing) = (tokens.upload.reveal(), format!("/v1/recognitions/{}", JobId::new()));
        let mut responses = Vec::new();
        for (what, method, path) in [
            ("GET /v1/people", Method::GET, "/v1/people"),
            ("GET /v1/fleet", Method::GET, "/v1/fleet"),
            ("DELETE /v1/recognitions/ID", Method::DELETE, nothing.as_str()),
        ] {
            responses.push((what, api.send(method, path, Some(&upload)).await));
        }
        let remedy = "all web nodes must run this version of the program: `rollcall aws bake`, `rollcall aws up`";
        self.report.add(live::refused("with an upload token", 403, &responses, remedy));
        Ok(())
    }

    /// Checks uploads: a burst while no worker runs, small, large and damaged ones, and one after a stop.
    async fn uploads(&self, api: &Api, tokens: &Tokens) -> anyhow::Result<()> {
        let from_zero = self.wait_for_stop().await?;
        let small = photos::small()?;
        let burst = (0..BURST).map(|n| self.photo(&format!("burst-{n}"), small.clone(), Some(&tokens.upload)));
        let burst = self.send(api, tokens, burst.collect()).await?;
        let nothing_works = burst.has_failed();
        let busy = |left: &[String]| format!("workers run for others: {}", left.join(", "));
        self.report.add(match &from_zero {
            (_, left) if !left.is_empty() && !nothing_works => {
                Check::skipped("burst from zero", "uploads launch workers", busy(left))
            }
            _ => live::burst(&burst),
        });
        if nothing_works {
            self.report.add(Check::skipped("further uploads", "they are answered", "those of the burst were not"));
            return Ok(());
        }
        for (name, bytes) in [("small upload", small.clone()), ("large upload", photos::large()?)] {
            let (size, photo) = (bytes.len(), self.photo(&name.replace(' ', "-"), bytes, Some(&tokens.upload)));
            self.report.add(live::upload(name, size, &self.send(api, tokens, vec![photo]).await?));
        }
        let damaged = self.photo("damaged", photos::damaged()?, Some(&tokens.upload));
        let response = api.post(&damaged, Some(&tokens.upload.reveal()), true, self.args.timeout).await;
        if !response.as_ref().is_ok_and(|response| response.status == 422 && response.body["id"].is_null()) {
            self.keep(&damaged);
        }
        self.report.add(live::damaged(&response));
        let (took, left) = self.wait_for_stop().await?;
        self.report.add(live::stop(took, &left));
        self.warm_start(api, tokens, &left, small).await
    }

    async fn warm_start(&self, api: &Api, tokens: &Tokens, running: &[String], small: Vec<u8>) -> anyhow::Result<()> {
        let expected = "an upload starts a stopped worker again";
        let workers = self.account.worker_facts().await?.into_iter();
        let stopped: Vec<String> = workers.filter(|worker| worker.state == "stopped").map(|worker| worker.id).collect();
        if stopped.is_empty() || !running.is_empty() {
            let why = if running.is_empty() {
                "no stopped worker is kept (fleet.keep_stopped, aws.spot)"
            } else {
                "workers have not stopped"
            };
            self.report.add(Check::skipped("warm start", expected, why));
            return Ok(());
        }
        let counts: Vec<usize> = stopped.iter().map(|id| self.spend().workers.starts(id)).collect();
        let photo = self.photo("warm", small, Some(&tokens.upload));
        let uploaded = self.send(api, tokens, vec![photo]).await?;
        let restarted =
            stopped.iter().zip(counts).filter(|(id, count)| self.spend().workers.starts(id) > *count).count();
        self.report.add(live::warm_start(stopped.len(), restarted, &uploaded));
        Ok(())
    }

    /// Waits until no worker runs. Returns how long that took, and which still run.
    async fn wait_for_stop(&self) -> anyhow::Result<(Duration, Vec<String>)> {
        let began = Instant::now();
        loop {
            let running: Vec<InstanceFacts> =
                self.account.worker_facts().await?.into_iter().filter(InstanceFacts::is_billed).collect();
            if running.is_empty() || began.elapsed() >= self.args.timeout {
                self.observe().await?;
                let left = running.into_iter().map(|worker| format!("{} ({})", worker.id, worker.state));
                return Ok((began.elapsed(), left.collect()));
            }
            sleep(POLL).await;
        }
    }

    /// Uploads photos at the same time, and waits until they are answered and stored.
    async fn send(&self, api: &Api, tokens: &Tokens, photos: Vec<Photo>) -> anyhow::Result<Burst> {
        let (began, before, token) = (Instant::now(), self.spend().workers.all_starts(), tokens.upload.reveal());
        photos.iter().for_each(|photo| self.keep(photo));
        let uploads = photos.iter().map(|photo| api.upload(photo, &token, self.args.timeout));
        let uploads = futures_util::future::join_all(uploads).await;
        let took = began.elapsed();
        self.observe().await?;
        let started = self.spend().workers.all_starts() - before;
        let fleet = self.fleet(api, &tokens.read).await.map(|view| live::fleet(&view));
        Ok(Burst { uploads, took, started, fleet })
    }

    async fn fleet(&self, api: &Api, token: &str) -> Option<FleetView> {
        let response = api.send(Method::GET, "/v1/fleet", Some(token)).await.ok()?;
        serde_json::from_value(response.body).ok()
    }

    /// Returns a photo whose job belongs to this run. `token` is the one that it will be sent with.
    fn photo(&self, name: &str, bytes: Vec<u8>, token: Option<&Token>) -> Photo {
        let key = format!("verify-{}-{name}", self.run);
        let id = derived_id(key.as_bytes(), &bytes, &GalleryName::default(), token.map(Token::id));
        Photo { id, key, file: format!("verify-{name}.jpg"), bytes: bytes.into() }
    }

    /// Remembers that a photo's job may exist.
    fn keep(&self, photo: &Photo) {
        self.created().jobs.push(CreatedJob { id: photo.id, file: photo.file.clone() });
    }
}
