//! `fleet.schedule`: minimum instances by time of day, on top of any policy.

use super::Time;
use crate::settings::Window;

/// The largest `least` of the windows that are open at `clock` (time since the Unix epoch; days and hours are UTC).
pub fn least(schedule: &[Window], clock: Time) -> usize {
    let minutes = clock.as_secs() / 60;
    let (day, minute) = (minutes / (24 * 60), (minutes % (24 * 60)) as u32);
    let today = ((day + 3) % 7) as usize; // 1 January 1970 was a Thursday; Monday is 0
    let yesterday = (today + 6) % 7;
    let open = |w: &&Window| {
        if w.from < w.to {
            w.days[today] && (w.from..w.to).contains(&minute)
        } else {
            w.days[today] && minute >= w.from || w.days[yesterday] && minute < w.to
        }
    };
    schedule.iter().filter(open).map(|w| w.least).max().unwrap_or(0)
}
