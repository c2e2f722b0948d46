//! When booting and stopping instances will be available.

use std::time::Duration;

use super::{
    estimators::TimeEstimators,
    instances::Instances,
    launches::Launches,
    timestamp::Timestamp,
    tracked::{Boot, BootKind, Role},
};

/// Returns the remaining times until the booting instances are running, each with the number of such instances.
/// Neighbours with the same time are merged.
pub(super) fn booting(
    now: Timestamp,
    instances: &Instances,
    launches: &Launches,
    estimators: &TimeEstimators,
) -> Vec<(Duration, usize)> {
    let left = |kind, requested| estimators.boot_remaining(kind, now.saturating_since(requested));
    let pending = instances.of(Role::Booting).map(|(since, key)| {
        let boot = instances.get(key).startup.boot.unwrap_or(Boot { kind: BootKind::Cold, requested: since });
        (left(boot.kind, boot.requested), 1)
    });
    let starting = instances.of(Role::Starting).map(|(requested, _)| (left(BootKind::Warm, requested), 1));
    let launching = launches.iter().map(|(requested, count)| (left(BootKind::Cold, requested), count));
    let mut groups: Vec<(Duration, usize)> = Vec::new();
    for (left, count) in pending.chain(starting).chain(launching) {
        match groups.last_mut() {
            Some((same, n)) if *same == left => *n += count,
            _ => groups.push((left, count)),
        }
    }
    groups
}

/// Returns the number of stopping instances that will have stopped and restarted before a new instance would be up, and
/// when time alone changes that number.
pub(super) fn soon_restartable(
    now: Timestamp,
    instances: &Instances,
    estimators: &TimeEstimators,
) -> (usize, Option<Timestamp>) {
    let learned = estimators.learned();
    let Some(spare) = learned.boot_cold.checked_sub(learned.boot_warm) else { return (0, None) };
    let in_time = estimators.stops_within(spare);
    let since = || instances.of(Role::Stopping).map(|(since, _)| since);
    let count = since().filter(|since| in_time.contains(&now.saturating_since(*since))).count();
    let changes = since().flat_map(|since| [since + in_time.start, since + in_time.end]);
    (count, changes.filter(|at| *at > now).min())
}
