//! Binary values: what queues carry and stores keep.

use crate::{
    inference::gallery::fuzzing as gallery,
    job::{Failure, FailureKind, Job, JobId, JobKind, Payload, Reply},
    results::{JobResult, Status},
    telemetry::{Sample, Value, WorkerReport},
    wire::{self, Wire},
};

/// The first byte chooses the type.
pub(super) fn wire(input: &[u8]) {
    let Some((kind, bytes)) = input.split_first() else { return };
    match kind % 6 {
        0 => drop(stable::<Job>(bytes)),
        1 => drop(stable::<Reply>(bytes)),
        2 => drop(stable(bytes).inspect(gallery::check_manifest)),
        3 => drop(stable(bytes).inspect(gallery::check_part)),
        4 => result(bytes),
        _ => drop(stable(bytes).inspect(WorkerReport::replay)),
    }
}

/// Decodes a value, and checks that it is encoded to the same bytes, or as another version.
fn stable<T: Wire>(bytes: &[u8]) -> Option<T> {
    let value = wire::from_bytes::<T>(bytes).ok()?;
    let encoded = wire::to_bytes(&value).expect("what was decoded can be encoded");
    if bytes[0] == value.version() {
        assert_eq!(encoded, bytes, "a value has one encoding");
    }
    Some(value)
}

/// The stored result of a job.
fn result(bytes: &[u8]) {
    if let Ok(result) = serde_json::from_slice::<JobResult>(bytes) {
        let encoded = serde_json::to_vec(&result).expect("what was decoded can be encoded");
        let again: JobResult = serde_json::from_slice(&encoded).expect("what was encoded can be decoded");
        assert_eq!(serde_json::to_vec(&again).expect("encoded"), encoded);
    }
}

/// Returns one value of each type, as the corpus has them.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let job = |payload| Job {
        id: JobId(7),
        kind: JobKind(1),
        reply_to: "rollcall-speaker".into(),
        file: "photo.jpg".into(),
        payload,
        dataset: "staff".into(),
        min_version: 3,
        submitted_ms: 1_700_000_000_000,
    };
    let inline = job(Payload::Inline("bytes".into()));
    let stored = job(Payload::Stored { bucket: "rollcall-input".into(), key: "7/photo.jpg".into() });
    let reply = |outcome| Reply { id: JobId(7), outcome, worker: "i-1".into(), worker_ms: 12.5 };
    let done = reply(Ok("{}".into()));
    let failed = reply(Err(Failure::new(FailureKind::Damaged, "it ends too early")));
    let result = JobResult {
        id: JobId(7).to_string(),
        file: "photo.jpg".into(),
        status: Status::Pending,
        output: None,
        summary: None,
        failure: None,
        worker: None,
        submitted_ms: 1,
        finished_ms: Some(2),
    };
    let labels = vec![("stage".into(), "embed".into())];
    let observed = Value::Observed(vec![0.02, f32::NAN]);
    let samples = vec![
        Sample { name: "rollcall_job_redeliveries_total".into(), labels: Vec::new(), value: Value::Counted(3) },
        Sample { name: "rollcall_job_stage_duration_seconds".into(), labels, value: observed },
    ];
    let (manifest, part, snapshot) = gallery::seeds();
    let (manifest_with_rejected, part_with_rejected) = gallery::seeds_with_rejected();
    vec![
        ("job-inline", encoded(0, &inline)),
        ("job-stored", encoded(0, &stored)),
        ("reply-done", encoded(1, &done)),
        ("reply-failed", encoded(1, &failed)),
        ("manifest", encoded(2, &manifest)),
        ("snapshot", [&[2][..], &snapshot].concat()),
        ("part", encoded(3, &part)),
        ("manifest-rejected", encoded(2, &manifest_with_rejected)),
        ("part-rejected", encoded(3, &part_with_rejected)),
        ("result", [b"\x04", &serde_json::to_vec(&result).expect("encoded")[..]].concat()),
        ("report", encoded(5, &WorkerReport { samples })),
    ]
}

fn encoded(kind: u8, value: &impl Wire) -> Vec<u8> {
    [&[kind], &wire::to_bytes(value).expect("encoded")[..]].concat()
}
