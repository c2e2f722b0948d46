//! `fleet.schedule`: the minimum number of instances by time of day, for any policy.

use std::{fmt, str::FromStr, time::Duration};

use serde::{Deserialize, Serialize};

/// Minutes of a day.
const DAY: u32 = 24 * 60;
/// Monday first, as in ISO 8601.
const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

/// One line of the schedule, such as `mon-fri 08:00-18:00 2`. Times are UTC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Days on which the window begins, Monday first.
    pub days: [bool; 7],
    /// First minute, counted from midnight.
    pub from: u32,
    /// First minute after the window. If it is not after `from`, the window ends on the next day.
    pub to: u32,
    /// Minimum number of instances.
    #[serde(rename = "least")]
    pub minimum: usize,
}

/// The text is not a [`Window`].
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("such as \"mon-fri 08:00-18:00 2\": days (mon-fri, sat,sun, daily), hours in UTC, instances")]
pub struct NoWindow;

impl FromStr for Window {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let [days, hours, minimum] = text.split_whitespace().collect::<Vec<_>>()[..] else { return Err(NoWindow) };
        let (from, to) = hours.split_once('-').ok_or(NoWindow)?;
        let (from, to) = (minute(from)?, minute(to)?);
        if from == DAY || from == to {
            return Err(NoWindow);
        }
        Ok(Self { days: day_set(days)?, from, to, minimum: minimum.parse().map_err(|_| NoWindow)? })
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let days: Vec<&str> = DAYS.iter().zip(self.days).filter(|(_, on)| *on).map(|(name, _)| *name).collect();
        let hour = |m: u32| format!("{:02}:{:02}", m / 60, m % 60);
        write!(f, "{} {}-{} {}", days.join(","), hour(self.from), hour(self.to), self.minimum)
    }
}

fn day(name: &str) -> Result<usize, NoWindow> {
    DAYS.iter().position(|d| *d == name).ok_or(NoWindow)
}

fn day_set(text: &str) -> Result<[bool; 7], NoWindow> {
    if text == "daily" {
        return Ok([true; 7]);
    }
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (day(first)?, day(last)?);
        for n in 0..=(last + 7 - first) % 7 {
            days[(first + n) % 7] = true;
        }
    }
    Ok(days)
}

fn minute(text: &str) -> Result<u32, NoWindow> {
    let (h, m) = text.split_once(':').ok_or(NoWindow)?;
    let (h, m): (u32, u32) = (h.parse().map_err(|_| NoWindow)?, m.parse().map_err(|_| NoWindow)?);
    let minute = h * 60 + m;
    if h <= 24 && m < 60 && minute <= DAY { Ok(minute) } else { Err(NoWindow) }
}

/// Returns the largest minimum of the windows that are open at `clock`, the time since the Unix epoch.
pub fn scheduled(schedule: &[Window], clock: Duration) -> usize {
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
    schedule.iter().filter(open).map(|w| w.minimum).max().unwrap_or(0)
}

/// Returns the time from `clock` to the next minute at which a window may open or close; `None` without a schedule.
pub(super) fn next_change(schedule: &[Window], clock: Duration) -> Option<Duration> {
    let day = Duration::from_secs(60 * u64::from(DAY));
    let since_midnight = Duration::new(clock.as_secs() % day.as_secs(), clock.subsec_nanos());
    let until = |minute: u32| {
        let at = Duration::from_secs(60 * u64::from(minute));
        if at > since_midnight { at - since_midnight } else { at + day - since_midnight }
    };
    schedule.iter().flat_map(|w| [until(w.from), until(w.to)]).min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_parse_and_display() {
        for (text, written) in [
            ("mon-fri 08:00-18:00 2", "mon,tue,wed,thu,fri 08:00-18:00 2"),
            ("sat,sun 10:30-24:00 1", "sat,sun 10:30-24:00 1"),
            ("fri-mon 22:00-06:00 3", "mon,fri,sat,sun 22:00-06:00 3"),
            ("daily 00:00-24:00 0", "mon,tue,wed,thu,fri,sat,sun 00:00-24:00 0"),
        ] {
            let window: Window = text.parse().expect(text);
            assert_eq!(window.to_string(), written);
            assert_eq!(written.parse::<Window>().expect(written), window);
        }
        for text in [
            "",
            "mon",
            "mon 8-18 2",
            "mon 08:00-25:00 2",
            "mon 08:00-08:00 2",
            "day 08:00-18:00 2",
            "mon 08:60-18:00 2",
            "mon 08:00-18:00 -1",
            "mon 24:00-08:00 1",
        ] {
            assert!(text.parse::<Window>().is_err(), "{text}");
        }
    }
}
