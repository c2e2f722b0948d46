//! Judges what the cluster does with uploads: pure functions from what was seen to checks.

use std::time::Duration;

use super::{api::Uploaded, check::Check};
use crate::fleet::view::FleetView;

/// What to do when uploads fail.
const UPLOADS: &str = "look at `rollcall fleet explain`, at the log of the web node (/var/log/syslog or journalctl -u \
                       rollcall-serve) and at the console output of a worker; `doctor` on the web node names what it lacks";

/// Some uploads at the same time.
pub(super) struct Burst {
    pub(super) uploads: Vec<Uploaded>,
    pub(super) took: Duration,
    /// Instances that were launched or started meanwhile.
    pub(super) started: usize,
    /// What the fleet says of itself: why it is degraded, or how many instances it has.
    pub(super) fleet: Option<String>,
}

impl Burst {
    /// Returns how many uploads are faults of a kind and why the first is, and what the fleet says.
    fn faults(&self) -> Vec<String> {
        let of_kind = |answered: bool| {
            let kind = |uploaded: &&Uploaded| matches!(uploaded, Uploaded::Unanswered(_)) != answered;
            let faults: Vec<String> = self.uploads.iter().filter(kind).filter_map(fault).collect();
            let first = faults.first()?;
            let (count, all) = (faults.len(), self.uploads.len());
            Some(if all == 1 { first.clone() } else { format!("{count} of {all} {first}") })
        };
        let mut faults: Vec<String> = [false, true].into_iter().filter_map(of_kind).collect();
        let fleet = self.fleet.as_ref().filter(|_| !faults.is_empty());
        faults.extend(fleet.map(|fleet| format!("the fleet: {fleet}")));
        faults
    }

    /// Returns whether none of the uploads is as it should be.
    pub(super) fn has_failed(&self) -> bool {
        self.uploads.iter().all(|uploaded| fault(uploaded).is_some())
    }
}

/// Returns why an upload is a fault.
fn fault(uploaded: &Uploaded) -> Option<String> {
    match uploaded {
        Uploaded::Stored { .. } => None,
        Uploaded::NotStored { label, why } => Some(format!("answered ({label}), but not stored: {why}")),
        Uploaded::Unanswered(why) => Some(format!("not answered: {why}")),
    }
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

/// Describes the fleet: why it is degraded, or how many instances it has; and its latest error, if there was one.
pub(super) fn fleet(view: &FleetView) -> String {
    let (counts, error) = (view.counts, view.events.iter().rev().find(|event| event.kind == "error"));
    let state = match &view.degraded {
        Some(degraded) => format!("degraded, {degraded}"),
        None => format!("{} booting, {} running, {} stopped", counts.pending, counts.running, counts.stopped),
    };
    state + &error.map_or_else(String::new, |error| format!(", {}", error.text))
}

/// Judges a burst while no worker ran.
pub(super) fn burst(burst: &Burst) -> Check {
    let count = burst.uploads.len();
    let expected = format!("{count} uploads at once launch workers, and are answered and stored");
    let mut faults = burst.faults();
    if faults.is_empty() && burst.started == 0 {
        faults.push("they were answered, but no instance of this cluster was launched or started".to_owned());
    }
    let instances = if burst.started == 1 { "instance" } else { "instances" };
    let healthy = format!("all in {}, by {} {instances} that started", seconds(burst.took), burst.started);
    Check::of_faults("burst from zero", expected, healthy, &faults, UPLOADS)
}

/// Judges one upload while workers run.
pub(super) fn upload(name: &str, size: usize, uploaded: &Burst) -> Check {
    let expected = format!("{} are answered and stored", bytesize::ByteSize(size as u64).display().iec());
    let label = match uploaded.uploads.first() {
        Some(Uploaded::Stored { label }) => label.as_str(),
        _ => "",
    };
    let healthy = format!("\"{label}\" in {}", seconds(uploaded.took));
    Check::of_faults(name, expected, healthy, &uploaded.faults(), UPLOADS)
}

/// Judges the upload that follows a stop. `warm` is how many stopped workers there were, and `restarted` how many of them
/// were started.
pub(super) fn warm_start(warm: usize, restarted: usize, uploaded: &Burst) -> Check {
    let expected = "an upload starts a stopped worker again, and is answered and stored";
    let mut faults = uploaded.faults();
    if faults.is_empty() && restarted == 0 {
        faults.push(format!("answered in {}, by none of the {warm} stopped workers", seconds(uploaded.took)));
    }
    let healthy = format!("in {}, by {restarted} of {warm} stopped workers", seconds(uploaded.took));
    Check::of_faults("warm start", expected, healthy, &faults, UPLOADS)
}

/// Judges whether idle workers have stopped. `left` are the ids and states of those that have not.
pub(super) fn stop(took: Duration, left: &[String]) -> Check {
    let expected = "idle workers stop (worker.idle_stop) or are terminated";
    let faults: Vec<String> = left.iter().map(|worker| format!("{worker} after {}", seconds(took))).collect();
    let remedy = "look at the console output of these instances; a longer --timeout helps if worker.idle_stop is longer, or \
                  others upload photos";
    Check::of_faults("stop", expected, format!("none runs after {}", seconds(took)), &faults, remedy)
}

/// Judges the largest number of instances at the same time. `cap` is `fleet.max_instances`.
pub(super) fn cap(most: usize, cap: Option<usize>) -> Check {
    let Some(cap) = cap else {
        return Check::skipped("cap", "at most fleet.max_instances", "the fleet could not be read");
    };
    let (expected, seen) = (format!("at most {cap} workers at once (fleet.max_instances)"), format!("{most}"));
    if most <= cap {
        return Check::ok("cap", expected, seen);
    }
    Check::failed("cap", expected, seen, "look for a second controller, and for who launches instances with this tag")
}

/// Judges the response to a damaged photo.
pub(super) fn damaged(response: &Result<super::api::Response, String>) -> Check {
    let expected = "half a photo is refused with HTTP 422";
    match response {
        Ok(response) if response.status == 422 => Check::ok("damaged upload", expected, response.text()),
        Ok(response) => Check::failed("damaged upload", expected, response.text(), UPLOADS),
        Err(why) => Check::failed("damaged upload", expected, why, UPLOADS),
    }
}

/// Judges requests that must be refused with a status: each with what came of it.
pub(super) fn refused(
    name: &str,
    status: u16,
    responses: &[(&str, Result<super::api::Response, String>)],
    remedy: &str,
) -> Check {
    let fault = |(what, response): &(&str, Result<super::api::Response, String>)| match response {
        Ok(response) if response.status == status => None,
        Ok(response) => Some(format!("{what}: {}", response.text())),
        Err(why) => Some(format!("{what}: {why}")),
    };
    let faults: Vec<String> = responses.iter().filter_map(fault).collect();
    let expected = format!("{} requests are refused with HTTP {status}", responses.len());
    Check::of_faults(name, expected, "all", &faults, remedy)
}

/// Judges what is left in the end.
pub(super) fn nothing_left(left: &[String]) -> Check {
    let expected = "no job, token, machine or object of these checks";
    let remedy = "remove what is listed by hand; `rollcall token list` shows tokens of these checks";
    Check::of_faults("nothing left", expected, "nothing", left, remedy)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{api::Response, check::Verdict},
        *,
    };
    use crate::fleet::view::{DegradedView, LoggedEvent};

    fn of(uploads: Vec<Uploaded>, started: usize) -> Burst {
        Burst { uploads, took: Duration::from_millis(1_500), started, fleet: Some("boots fail".into()) }
    }

    fn stored() -> Uploaded {
        Uploaded::Stored { label: "no face".into() }
    }

    #[test]
    fn uploads_are_answered_and_stored_or_the_reason_is_seen() {
        assert_eq!(burst(&of(vec![stored(), stored()], 2)).seen, "all in 1.5 s, by 2 instances that started");
        assert_eq!(upload("small upload", 10, &of(vec![stored()], 0)).seen, "\"no face\" in 1.5 s");
        assert_eq!(warm_start(2, 1, &of(vec![stored()], 1)).seen, "in 1.5 s, by 1 of 2 stopped workers");
        for (uploaded, part) in [
            (Uploaded::Unanswered("HTTP 504".into()), "not answered: HTTP 504"),
            (Uploaded::NotStored { label: "x".into(), why: "HTTP 404".into() }, "not stored: HTTP 404"),
        ] {
            let burst_of = || of(vec![stored(), uploaded.clone(), uploaded.clone()], 1);
            let one = of(vec![uploaded.clone()], 1);
            for check in [burst(&burst_of()), upload("small upload", 10, &one), warm_start(1, 1, &one)] {
                assert_eq!(check.verdict, Verdict::Failed, "{check:?}");
                assert_eq!(check.seen.matches(part).count(), 1, "{check:?}");
                assert_eq!(check.seen.contains("2 of 3 "), check.name == "burst from zero", "{check:?}");
                assert!(check.seen.contains("the fleet: boots fail"), "{check:?}");
            }
        }
    }

    #[test]
    fn the_fleet_is_described_with_its_latest_error() {
        let mut view = FleetView::default();
        view.counts.pending = 2;
        assert_eq!(fleet(&view), "2 booting, 0 running, 0 stopped");
        for (kind, text) in [("error", "first"), ("error", "no capacity"), ("launch", "two more")] {
            view.events.push(LoggedEvent { at_ms: 0, kind: kind.into(), text: text.into() });
        }
        view.degraded = Some(DegradedView { failed_boots: 3, reason: "exit 78".into(), ..DegradedView::default() });
        assert_eq!(fleet(&view), "degraded, 3 boots in a row failed, the last because exit 78, no capacity");
    }

    #[test]
    fn a_burst_launches_workers_and_a_warm_start_starts_a_stopped_one() {
        assert_eq!(burst(&of(vec![stored()], 0)).verdict, Verdict::Failed);
        let check = warm_start(2, 0, &of(vec![stored()], 1));
        assert_eq!((check.verdict, check.seen.contains("none of the 2")), (Verdict::Failed, true));
    }

    #[test]
    fn what_must_be_refused_must_be_refused_with_that_status() {
        let response = |status| Ok(Response { status, body: serde_json::Value::Null });
        assert_eq!(refused("a", 401, &[("GET /x", response(401))], "r").verdict, Verdict::Ok);
        let check = refused("a", 401, &[("GET /x", response(200)), ("GET /y", Err("gone".into()))], "r");
        assert_eq!((check.verdict, check.seen.as_str()), (Verdict::Failed, "GET /x: HTTP 200; GET /y: gone"));
        assert_eq!(damaged(&response(422)).verdict, Verdict::Ok);
        assert_eq!(damaged(&response(200)).verdict, Verdict::Failed);
        assert_eq!(damaged(&Err("gone".into())).verdict, Verdict::Failed);
    }

    #[test]
    fn workers_stop_and_are_at_most_the_cap_and_nothing_is_left() {
        assert_eq!(stop(Duration::from_secs(9), &[]).verdict, Verdict::Ok);
        assert_eq!(stop(Duration::from_secs(9), &["i-1 (running)".into()]).seen, "i-1 (running) after 9.0 s");
        let verdicts = [cap(2, Some(2)), cap(3, Some(2)), cap(3, None)].map(|check| check.verdict);
        assert_eq!(verdicts, [Verdict::Ok, Verdict::Failed, Verdict::Skipped]);
        assert_eq!(nothing_left(&[]).verdict, Verdict::Ok);
        assert_eq!(nothing_left(&["token x".into()]).seen, "token x");
    }
}
