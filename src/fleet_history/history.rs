//! The history: four rings of buckets, the latest decisions, and the cost since the beginning.

use std::{collections::VecDeque, sync::Arc};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    bucket::{Bucket, Point},
    count::Count,
    gauges::{COST, Gauges},
    latency::Latency,
    series::Series,
};
use crate::{
    fleet::explain::{Decision, Decisions},
    wire::Wire,
};

/// A range of time, which ends now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = FleetHistoryRange)]
pub enum Range {
    /// 15 minutes, by the second.
    #[serde(rename = "15m")]
    Minutes,
    /// 3 hours, by 10 seconds.
    #[serde(rename = "3h")]
    Hours,
    /// 24 hours, by 2 minutes.
    #[serde(rename = "24h")]
    Day,
    /// 14 days, by 20 minutes.
    #[serde(rename = "14d")]
    Days,
}

impl Range {
    /// Every range, from the shortest to the longest.
    pub const ALL: [Self; 4] = [Self::Minutes, Self::Hours, Self::Day, Self::Days];

    /// Returns the length of its buckets in seconds, and their number. A chart is about a thousand pixels wide.
    pub const fn shape(self) -> (u64, usize) {
        match self {
            Self::Minutes => (1, 900),
            Self::Hours => (10, 1080),
            Self::Day => (120, 720),
            Self::Days => (1200, 1008),
        }
    }
}

/// Number of decisions that are kept.
pub(super) const MAX_DECISIONS: usize = 500;
/// Number of ids of instances that are kept of a decision, whose `count` has all.
const MAX_IDS: usize = 20;
/// Length of a reason that is kept, in bytes.
const MAX_REASON: usize = 1000;
/// What was seen of the fleet counts for at most this long, in milliseconds: a process that was suspended saw nothing.
const MAX_HOLD_MS: u64 = 30_000;
/// A clock that goes back by more than this, in milliseconds, was set; by less, it was corrected.
const MAX_CORRECTION_MS: u64 = 60_000;

/// What the fleet did. Every method takes the time, in milliseconds since the Unix epoch.
pub struct History {
    series: [Series; Range::ALL.len()],
    decisions: VecDeque<Arc<Decision>>,
    /// The cost since `since_ms`.
    cost: f64,
    /// When the history begins; 0 if nothing was seen yet.
    since_ms: u64,
    now_ms: u64,
    /// What was seen last, and when.
    seen: Option<(u64, Gauges)>,
}

/// A history as it is kept in a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Kept {
    pub since_ms: u64,
    pub cost: f64,
    pub points: [Vec<Point>; Range::ALL.len()],
    /// As JSON, because it leaves out what a decision does not have.
    pub decisions: Vec<String>,
}

impl Wire for Kept {}

impl Default for History {
    fn default() -> Self {
        let series = Range::ALL.map(|range| {
            let (step_s, capacity) = range.shape();
            Series::new(step_s, capacity)
        });
        Self { series, decisions: VecDeque::new(), cost: 0.0, since_ms: 0, now_ms: 0, seen: None }
    }
}

impl History {
    /// Lets time pass: what was seen last still holds.
    pub fn advance(&mut self, now_ms: u64) {
        if now_ms.saturating_add(MAX_CORRECTION_MS) < self.now_ms {
            self.forget_after(now_ms);
        }
        let before = self.now_ms;
        self.now_ms = now_ms.max(before);
        let Some((seen_ms, gauges)) = self.seen else { return };
        let (from, to) = (before.max(seen_ms), self.now_ms.min(seen_ms.saturating_add(MAX_HOLD_MS)));
        if from >= to {
            return;
        }
        self.cost += gauges.means[COST] * seconds(to - from);
        for series in &mut self.series {
            let step_ms = series.step_s() * 1000;
            let mut at = from;
            while at < to {
                let end = to.min(at - at % step_ms + step_ms);
                series.bucket(at / 1000).hold(&gauges, seconds(end - at));
                at = end;
            }
        }
    }

    /// Notes the state of the fleet.
    pub fn observe(&mut self, now_ms: u64, gauges: Gauges) {
        self.advance(now_ms);
        if self.since_ms == 0 {
            self.since_ms = self.now_ms;
        }
        self.seen = Some((self.now_ms, gauges));
        self.in_each(|bucket| bucket.touch(&gauges));
    }

    /// Counts something.
    pub fn count(&mut self, now_ms: u64, count: Count) {
        self.advance(now_ms);
        self.in_each(|bucket| bucket.count(count));
    }

    /// Adds how long an answer took.
    pub fn answered_in(&mut self, now_ms: u64, latency: Latency) {
        self.advance(now_ms);
        self.in_each(|bucket| bucket.answered_in(&latency));
    }

    fn in_each(&mut self, change: impl Fn(&mut Bucket)) {
        let at_s = self.now_ms / 1000;
        self.series.iter_mut().for_each(|series| change(series.bucket(at_s)));
    }

    /// Adds the decisions that are not known yet, and the instances that a known one has meanwhile.
    pub fn note_decisions(&mut self, decisions: &Decisions) {
        let order = |decision: &Decision| (decision.at_ms, decision.number);
        let known = self.decisions.back().map(|last| order(last));
        for waiting in
            self.decisions.iter_mut().rev().filter(|known| known.token.is_some() && known.instances.is_empty())
        {
            let same = decisions.iter().rev().find(|other| order(other) == order(waiting));
            if let Some(answered) = same.filter(|other| !other.instances.is_empty()) {
                *waiting = shortened(answered);
            }
        }
        let unknown = decisions.iter().rev().take_while(|decision| Some(order(decision)) > known);
        let unknown: Vec<_> = unknown.take(MAX_DECISIONS).map(shortened).collect();
        self.decisions.extend(unknown.into_iter().rev());
        let surplus = self.decisions.len().saturating_sub(MAX_DECISIONS);
        self.decisions.drain(..surplus);
    }

    /// The clock was set back: what was noted with later times is forgotten, so that times only grow.
    fn forget_after(&mut self, now_ms: u64) {
        self.series.iter_mut().for_each(|series| series.forget_after(now_ms / 1000));
        self.decisions.retain(|decision| decision.at_ms <= now_ms);
        (self.now_ms, self.seen, self.since_ms) = (now_ms, None, self.since_ms.min(now_ms));
    }

    /// Returns the time of the last change.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Returns when the history begins, and what the instances have cost since.
    pub fn cost(&self) -> (u64, f64) {
        (self.since_ms, self.cost)
    }

    /// Returns the buckets of a range that begin at `from_s` or later, oldest first.
    pub fn points(&self, range: Range, from_s: u64) -> Vec<Point> {
        self.series[range as usize].points(from_s)
    }

    /// Returns the decisions since `from_ms`, oldest first.
    pub fn decisions(&self, from_ms: u64) -> impl Iterator<Item = &Arc<Decision>> {
        self.decisions.iter().skip_while(move |decision| decision.at_ms < from_ms)
    }

    pub(super) fn to_keep(&self) -> Kept {
        // A decision consists of numbers and strings.
        let json = |decision: &Arc<Decision>| serde_json::to_string(&**decision).expect("a decision is JSON");
        Kept {
            since_ms: self.since_ms,
            cost: self.cost,
            points: Range::ALL.map(|range| self.points(range, 0)),
            decisions: self.decisions.iter().map(json).collect(),
        }
    }

    /// Continues a history that was kept. What could not have been kept is left out.
    pub(super) fn restore(kept: Kept) -> Self {
        let mut points = kept.points.into_iter();
        let series = Range::ALL.map(|range| {
            let (step_s, capacity) = range.shape();
            Series::restore(step_s, capacity, points.next().unwrap_or_default())
        });
        let decisions = kept.decisions.iter().filter_map(|text| serde_json::from_str(text).ok()).map(Arc::new);
        let cost = if kept.cost.is_finite() { kept.cost.max(0.0) } else { 0.0 };
        let mut decisions: Vec<Arc<Decision>> = decisions.collect();
        decisions.sort_by_key(|decision| (decision.at_ms, decision.number));
        let surplus = decisions.len().saturating_sub(MAX_DECISIONS);
        let decisions = decisions.into_iter().skip(surplus).collect();
        let mut restored = Self { series, decisions, cost, since_ms: kept.since_ms, ..Self::default() };
        let last = restored.series.iter().filter_map(|series| series.points(0).last().map(|point| point.at_s)).max();
        restored.now_ms = last.unwrap_or(0).saturating_mul(1000);
        restored
    }
}

fn shortened(decision: &Arc<Decision>) -> Arc<Decision> {
    if decision.instances.len() <= MAX_IDS && decision.reason.len() <= MAX_REASON {
        return decision.clone();
    }
    let mut short = Decision::clone(decision);
    short.instances.truncate(MAX_IDS);
    short.reason.truncate(short.reason.floor_char_boundary(MAX_REASON));
    Arc::new(short)
}

fn seconds(ms: u64) -> f64 {
    ms as f64 / 1000.0
}
