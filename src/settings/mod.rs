//! What is tunable. `layers` merges the files and the environment and remembers where each value came from; this
//! file turns the result into validated [`Settings`]. Defaults and documentation: `config/default.toml`.

mod aws;
mod layers;
mod simulate;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::fleet::FleetRules;
pub use crate::fleet::{Policy, Window};
pub use aws::{Aws, Launching};
pub use layers::{Layers, SettingsError};
pub use simulate::{Boot, Faults, Prices, Simulate};

#[derive(Clone, Debug)]
pub struct Settings {
    pub cloud: Cloud,
    pub local: Local,
    pub aws: Aws,
    pub http: Http,
    pub queue: Queue,
    pub store: Store,
    pub gallery: Gallery,
    pub fleet: Fleet,
    pub worker: Worker,
    pub recognition: Recognition,
    pub log: Log,
    pub simulate: Simulate,
    pub prices: Prices,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloudKind {
    Local,
    Aws,
}

#[derive(Clone, Debug)]
pub struct Cloud {
    pub kind: CloudKind,
    pub cluster: String,
}

#[derive(Clone, Debug)]
pub struct Local {
    pub data_dir: PathBuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplyStyle {
    Label,
    StemLabel,
}

#[derive(Clone, Debug)]
pub struct Http {
    pub listen: SocketAddr,
    pub reply: ReplyStyle,
    pub deadline: Duration,
    /// Bytes.
    pub max_upload: usize,
    pub upload_timeout: Duration,
    pub max_waiting: usize,
    /// Bytes.
    pub max_upload_memory: usize,
    pub threads: usize,
    pub max_files: usize,
}

#[derive(Clone, Debug)]
pub struct Queue {
    pub listener: String,
    pub speaker: String,
    pub dead_letter: String,
    pub visibility: Duration,
    pub max_receives: u32,
    /// Bytes of the image, before base64.
    pub inline_limit: usize,
}

#[derive(Clone, Debug)]
pub struct Store {
    pub input: String,
    pub input_key: String,
    pub output: String,
    pub output_key: String,
    pub state: String,
}

#[derive(Clone, Debug)]
pub struct Gallery {
    pub refresh: Duration,
    pub max_people: usize,
    pub max_photos: usize,
}

#[derive(Clone, Debug)]
pub struct Fleet {
    pub policy: Policy,
    pub max_instances: usize,
    pub name_prefix: String,
    pub launch_cooldown: Duration,
    pub sweep_every: Duration,
    pub keep_stopped: usize,
    pub sweep_cooldown: Duration,
    pub boot_timeout: Duration,
    pub poll_every: Duration,
    pub describe_every: Duration,
    pub lease: Duration,
    pub describe_lag: Duration,
    pub silent_timeout: Duration,
    pub jobs_per_instance: usize,
    pub up_delay: Duration,
    pub down_delay: Duration,
    pub target_latency: Duration,
    pub boot_cold: Duration,
    pub boot_warm: Duration,
    pub service_time: Duration,
    pub billing_minimum: Duration,
    pub schedule: Vec<Window>,
    /// Where the record is kept, if it is.
    pub record: Option<PathBuf>,
}

#[derive(Clone, Debug)]
pub struct Worker {
    pub idle_stop: Duration,
    pub threads: usize,
    pub drain_timeout: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecogniserKind {
    Face,
    Classifier,
}

#[derive(Clone, Debug)]
pub struct Recognition {
    pub kind: RecogniserKind,
    pub threshold: f32,
    pub runtime: PathBuf,
    pub detector: PathBuf,
    pub embedder: PathBuf,
    pub detector_score: f32,
    pub detector_nms: f32,
    pub detector_side: u32,
    pub max_faces: usize,
    pub max_pixels: u64,
    pub classifier: PathBuf,
    pub labels: PathBuf,
    pub classifier_mean: [f32; 3],
    pub classifier_std: [f32; 3],
    pub classifier_top: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    Text,
    Json,
}

#[derive(Clone, Debug)]
pub struct Log {
    pub level: String,
    pub format: LogFormat,
}

const MIB: u64 = 1 << 20;
const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

const KINDS: &[(&str, CloudKind)] = &[("local", CloudKind::Local), ("aws", CloudKind::Aws)];

impl Settings {
    /// Validated settings. `cores` resolves "auto". Every error names the source, the key and what is allowed.
    pub fn from_layers(l: &Layers, cores: usize) -> Result<Self, SettingsError> {
        let kind = l.choice("cloud.kind", KINDS)?;
        Self::resolve(l, kind, cores, kind == CloudKind::Local)
    }

    /// Settings for the simulator: "auto" is what it is on AWS, with one core an instance, on every machine.
    pub fn for_simulation(l: &Layers) -> Result<Self, SettingsError> {
        let kind = l.choice("cloud.kind", KINDS)?;
        Self::resolve(l, kind, 1, false)
    }

    /// `local`: what "auto" means.
    fn resolve(l: &Layers, kind: CloudKind, cores: usize, local: bool) -> Result<Self, SettingsError> {
        let pick = |here: Duration, aws: Duration| if local { here } else { aws };
        let ms = Duration::from_millis;
        let data_dir = l.path("local.data_dir")?;

        let policy = l.choice("fleet.policy", &Policy::ALL)?;
        // The thresholds of the design that this policy comes from belong to it.
        let plain = policy == Policy::OnePerJob;
        let max_instances = l.count_or_auto("fleet.max_instances", 1, 10_000, if local { cores } else { 19 })?;

        let settings = Self {
            cloud: Cloud { kind, cluster: l.name("cloud.cluster", 32)? },
            local: Local { data_dir: data_dir.clone() },
            aws: Aws::from_layers(l)?,
            http: Http {
                listen: l.parsed("http.listen", "an address and a port such as 127.0.0.1:8080")?,
                reply: l
                    .choice("http.reply", &[("label", ReplyStyle::Label), ("stem-label", ReplyStyle::StemLabel)])?,
                deadline: l.duration("http.deadline", SECOND, HOUR)?,
                max_upload: l.size("http.max_upload", 1 << 10, 512 * MIB)?,
                upload_timeout: l.duration("http.upload_timeout", SECOND, HOUR)?,
                max_waiting: l.count("http.max_waiting", 1, 100_000)?,
                max_upload_memory: l.size("http.max_upload_memory", 1 << 10, 65_536 * MIB)?,
                threads: l.count_or_auto("http.threads", 1, 256, cores.min(4))?,
                max_files: l.count("http.max_files", 1, 1000)?,
            },
            queue: Queue {
                listener: l.queue_name("queue.listener", true)?,
                speaker: l.queue_name("queue.speaker", false)?,
                dead_letter: l.queue_name("queue.dead_letter", true)?,
                visibility: l.duration("queue.visibility", SECOND, 12 * HOUR)?,
                max_receives: l.count("queue.max_receives", 1, 1000)? as u32,
                inline_limit: l.size("queue.inline_limit", 1 << 10, 700 << 10)?,
            },
            store: Store {
                input: l.name("store.input", 63)?,
                input_key: l.key_template("store.input_key")?,
                output: l.name("store.output", 63)?,
                output_key: l.key_template("store.output_key")?,
                state: l.name("store.state", 63)?,
            },
            gallery: Gallery {
                refresh: l.duration("gallery.refresh", ms(100), HOUR)?,
                max_people: l.count("gallery.max_people", 1, 1_000_000)?,
                max_photos: l.count("gallery.max_photos", 1, 1000)?,
            },
            fleet: Fleet {
                policy,
                max_instances,
                name_prefix: l.name("fleet.name_prefix", 64)?,
                launch_cooldown: l.duration("fleet.launch_cooldown", Duration::ZERO, HOUR)?,
                sweep_every: l.duration("fleet.sweep_every", SECOND, 24 * HOUR)?,
                keep_stopped: l.count_or_auto(
                    "fleet.keep_stopped",
                    0,
                    10_000,
                    if local || plain { 0 } else { max_instances.min(5) },
                )?,
                sweep_cooldown: l.duration("fleet.sweep_cooldown", Duration::ZERO, HOUR)?,
                boot_timeout: l.duration("fleet.boot_timeout", 5 * SECOND, HOUR)?,
                poll_every: l.duration_or_auto("fleet.poll_every", ms(100), 300 * SECOND, pick(ms(500), 5 * SECOND))?,
                describe_every: l.duration_or_auto(
                    "fleet.describe_every",
                    ms(100),
                    300 * SECOND,
                    pick(SECOND, 15 * SECOND),
                )?,
                lease: l.duration("fleet.lease", 3 * SECOND, 600 * SECOND)?,
                describe_lag: l.duration_or_auto(
                    "fleet.describe_lag",
                    Duration::ZERO,
                    300 * SECOND,
                    pick(Duration::ZERO, 15 * SECOND),
                )?,
                silent_timeout: l.duration("fleet.silent_timeout", 10 * SECOND, 24 * HOUR)?,
                jobs_per_instance: l.count("fleet.jobs_per_instance", 1, 1_000_000)?,
                up_delay: l.duration("fleet.up_delay", Duration::ZERO, HOUR)?,
                down_delay: l.duration("fleet.down_delay", Duration::ZERO, 24 * HOUR)?,
                target_latency: l.duration("fleet.target_latency", ms(100), 24 * HOUR)?,
                boot_cold: l.duration_or_auto("fleet.boot_cold", ms(10), HOUR, pick(SECOND, 25 * SECOND))?,
                boot_warm: l.duration_or_auto("fleet.boot_warm", ms(10), HOUR, pick(SECOND, 15 * SECOND))?,
                service_time: l.duration("fleet.service_time", ms(1), HOUR)?,
                billing_minimum: l.duration_or_auto(
                    "fleet.billing_minimum",
                    Duration::ZERO,
                    HOUR,
                    pick(Duration::ZERO, 60 * SECOND),
                )?,
                schedule: l.list("fleet.schedule")?,
                record: match l.path_or_auto("fleet.record")? {
                    None => local.then(|| data_dir.join("fleet.jsonl")),
                    Some(path) if path.as_os_str().is_empty() => None,
                    path => path,
                },
            },
            worker: Worker {
                idle_stop: l.duration_or_auto(
                    "worker.idle_stop",
                    SECOND,
                    24 * HOUR,
                    pick(30 * SECOND, if plain { 300 * SECOND } else { 90 * SECOND }),
                )?,
                threads: l.count_or_auto("worker.threads", 1, 256, if local { 1 } else { cores })?,
                drain_timeout: l.duration("worker.drain_timeout", SECOND, HOUR)?,
            },
            recognition: Recognition {
                kind: l.choice(
                    "recognition.kind",
                    &[("face", RecogniserKind::Face), ("classifier", RecogniserKind::Classifier)],
                )?,
                threshold: l.number("recognition.threshold", -1.0, 1.0)?,
                runtime: l.path("recognition.runtime")?,
                detector: l.path("recognition.detector")?,
                embedder: l.path("recognition.embedder")?,
                detector_score: l.number("recognition.detector_score", 0.0, 1.0)?,
                detector_nms: l.number("recognition.detector_nms", 0.0, 1.0)?,
                detector_side: l.count("recognition.detector_side", 64, 4096)? as u32,
                max_faces: l.count("recognition.max_faces", 1, 1000)?,
                max_pixels: l.count("recognition.max_pixels", 10_000, 1_000_000_000)? as u64,
                classifier: l.path("recognition.classifier")?,
                labels: l.path("recognition.labels")?,
                classifier_mean: l.triple("recognition.classifier_mean", -1e3, 1e3)?,
                classifier_std: l.triple("recognition.classifier_std", 1e-6, 1e3)?,
                classifier_top: l.count("recognition.classifier_top", 1, 1000)?,
            },
            log: Log {
                level: l.text("log.level")?,
                format: l.choice("log.format", &[("text", LogFormat::Text), ("json", LogFormat::Json)])?,
            },
            simulate: Simulate::from_layers(l)?,
            prices: Prices::from_layers(l)?,
        };
        if settings.http.max_upload_memory < settings.http.max_upload {
            return Err(l.invalid("http.max_upload_memory", "at least http.max_upload"));
        }
        if settings.fleet.keep_stopped > settings.fleet.max_instances {
            return Err(l.invalid("fleet.keep_stopped", "at most fleet.max_instances"));
        }
        let r = &settings.recognition;
        let no_model = r.classifier.as_os_str().is_empty() || r.labels.as_os_str().is_empty();
        if r.kind == RecogniserKind::Classifier && no_model {
            let allowed = "\"face\", unless recognition.classifier and recognition.labels name files";
            return Err(l.invalid("recognition.kind", allowed));
        }
        Ok(settings)
    }
}

impl Settings {
    /// Returns the rules of the fleet, for a core whose time begins at `started_at` (since the Unix epoch).
    pub fn fleet_rules(&self, started_at: Duration) -> FleetRules {
        let fleet = &self.fleet;
        FleetRules {
            policy: fleet.policy,
            max_instances: fleet.max_instances,
            launch_cooldown: fleet.launch_cooldown,
            sweep_every: fleet.sweep_every,
            keep_stopped: fleet.keep_stopped,
            sweep_cooldown: fleet.sweep_cooldown,
            boot_timeout: fleet.boot_timeout,
            poll_every: fleet.poll_every,
            describe_every: fleet.describe_every,
            describe_lag: fleet.describe_lag,
            silent_timeout: Some(fleet.silent_timeout),
            jobs_per_instance: fleet.jobs_per_instance,
            up_delay: fleet.up_delay,
            down_delay: fleet.down_delay,
            target_latency: fleet.target_latency,
            boot_cold: fleet.boot_cold,
            boot_warm: fleet.boot_warm,
            service_time: fleet.service_time,
            billing_minimum: fleet.billing_minimum,
            schedule: fleet.schedule.clone(),
            threads: self.worker.threads,
            idle_stop: self.worker.idle_stop,
            started_at,
        }
    }
}

#[cfg(test)]
mod tests;
