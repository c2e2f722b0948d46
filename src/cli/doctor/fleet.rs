//! Checks whether the fleet of a running server is degraded.

use std::time::Duration;

use super::finding::Finding;
use crate::{
    cli::server::{Server, time},
    fleet::view::{DegradedView, FleetView},
    settings::Settings,
};

/// How long a running server may take to respond.
const TIMEOUT: Duration = Duration::from_secs(2);

/// What to do if boots fail, and if no instance can be had.
const BOOTS: &str = "look at the log of an instance (on AWS, `aws ec2 get-console-output`), and correct the image, the models \
                     or the configuration of workers; a restart of the controller tries at once";
const REFUSALS: &str = "if there is no capacity, list further types in aws.instance_types, and subnets of other zones in \
                        aws.subnets; if a quota is reached, have it raised; otherwise correct what the message names. It \
                        is tried again every minute";

/// Asks the server of this configuration. Returns nothing if none runs, or if it refuses.
pub(super) async fn of_server(settings: &Settings) -> Option<Finding> {
    let server = Server::of_settings();
    let view: FleetView = tokio::time::timeout(TIMEOUT, server.get("/v1/fleet", settings)).await.ok()?.ok()?;
    Some(finding(&view))
}

/// Judges the view of a fleet.
pub(super) fn finding(view: &FleetView) -> Finding {
    let Some(degraded) = &view.degraded else { return Finding::new("fleet", Ok("instances become ready")) };
    let DegradedView { since_ms, next_attempt_ms, refused, .. } = degraded;
    let (under_way, remedy) = match refused {
        0 => ("one is booting", BOOTS),
        _ => ("one is being requested", REFUSALS),
    };
    let next = next_attempt_ms.map_or(under_way.to_owned(), |at| format!("the next is tried at {}", time(at)));
    let fault = format!("degraded since {}: {degraded}; {next}", time(*since_ms));
    Finding::new("fleet", Err::<&str, _>((fault, remedy.to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_degraded_fleet_is_a_fault_with_the_reason_and_the_time_of_the_next_attempt() {
        assert!(finding(&FleetView::default()).result.is_ok());
        let reason = "worker-7 ended before it was ready (exited with code 1)".to_owned();
        let boots =
            DegradedView { since_ms: 1_000, failed_boots: 5, next_attempt_ms: Some(61_000), reason, refused: 0 };
        let refused = DegradedView { failed_boots: 0, refused: 7, ..boots.clone() };
        for (degraded, what, how) in [(boots, "5 boots", "console-output"), (refused, "7 requests", "aws.subnets")] {
            let reason = degraded.reason.clone();
            let finding = finding(&FleetView { degraded: Some(degraded), ..FleetView::default() });
            assert!(finding.is_fault());
            let (fault, remedy) = finding.result.expect_err("a fault");
            for part in [what, "1970-01-01T00:00:01", "1970-01-01T00:01:01", &reason] {
                assert!(fault.contains(part), "{part}: {fault}");
            }
            assert!(remedy.contains(how), "{remedy}");
        }
    }
}
