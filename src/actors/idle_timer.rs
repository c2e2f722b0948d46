//! When to stop oneself: after `worker.idle_stop` with no job in hand.

use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Handler};
use tokio::time::Instant;

use super::{
    guardian::{DeathNotice, Link},
    messages::{Busy, Idle, IdleExpired},
};

/// See the module.
pub struct IdleTimer {
    limit: Duration,
    in_hand: usize,
    idle_since: Instant,
    expired: Link<IdleExpired>,
    _notice: DeathNotice,
}

impl IdleTimer {
    pub fn new(limit: Duration, expired: Link<IdleExpired>, notice: DeathNotice) -> Self {
        Self { limit, in_hand: 0, idle_since: Instant::now(), expired, _notice: notice }
    }

    /// Compares deadlines instead of restarting a timer a job: a full mailbox is emptied before timers fire.
    fn check(&mut self, ctx: &mut Context<Self>) {
        let idle = self.idle_since.elapsed();
        let wait = match self.in_hand {
            0 if idle >= self.limit => {
                self.expired.tell(IdleExpired);
                self.limit // the supervisor may not be able to stop now: ask again later
            }
            0 => self.limit - idle,
            _ => self.limit,
        };
        ctx.run_later(wait, Self::check);
    }
}

impl Actor for IdleTimer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.run_later(self.limit, Self::check);
    }
}

impl Handler<Busy> for IdleTimer {
    type Result = ();
    fn handle(&mut self, _: Busy, _: &mut Self::Context) {
        self.in_hand += 1;
    }
}

impl Handler<Idle> for IdleTimer {
    type Result = ();
    fn handle(&mut self, _: Idle, _: &mut Self::Context) {
        self.in_hand = self.in_hand.saturating_sub(1);
        self.idle_since = Instant::now();
    }
}
