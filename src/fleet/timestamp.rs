//! An instant of the controller's time.

use std::{ops::Add, time::Duration};

use serde::{Deserialize, Serialize};

/// An instant, counted from the controller's start. A span of time is a [`Duration`].
///
/// It serializes as the duration since the start. Arithmetic saturates, so that no event can make the core panic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(Duration);

impl Timestamp {
    /// The controller's start.
    pub const START: Self = Self(Duration::ZERO);

    /// Returns the instant `elapsed` after the controller's start.
    pub const fn new(elapsed: Duration) -> Self {
        Self(elapsed)
    }

    /// Returns the time from the controller's start to this instant.
    pub const fn since_start(self) -> Duration {
        self.0
    }

    /// Returns the time from `earlier` to this instant; zero if `earlier` is the later one.
    pub fn saturating_since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// Returns the instant `span` before this one, at the earliest the controller's start.
    pub fn saturating_sub(self, span: Duration) -> Self {
        Self(self.0.saturating_sub(span))
    }
}

impl Add<Duration> for Timestamp {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timestamp_serializes_like_a_duration() {
        let span = Duration::new(3, 5);
        let json = serde_json::to_string(&Timestamp::new(span)).expect("JSON");
        assert_eq!(json, serde_json::to_string(&span).expect("JSON"));
        assert_eq!(serde_json::from_str::<Timestamp>(&json).expect("a timestamp"), Timestamp::new(span));
    }

    #[test]
    fn arithmetic_saturates() {
        let (start, second) = (Timestamp::START, Duration::from_secs(1));
        assert_eq!((start + second).saturating_since(start), second);
        assert_eq!(start.saturating_since(start + second), Duration::ZERO);
        assert_eq!(start.saturating_sub(second), start);
        assert_eq!((start + second * 3).saturating_sub(second), start + second * 2);
        assert_eq!((start + Duration::MAX + second).since_start(), Duration::MAX);
    }
}
