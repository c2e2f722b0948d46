//! When to stop oneself: after `worker.idle_stop` with no job in hand, and not before the time that is paid for is over.

use actix::{Actor, AsyncContext, Context, Handler};
use tokio::time::Instant;

use super::{
    guardian::{DeathNotice, Link},
    messages::{Busy, Idle, IdleExpired},
};
use crate::fleet::IdleStop;

/// See the module.
pub struct IdleTimer {
    rule: IdleStop,
    born: Instant,
    in_hand: usize,
    idle_since: Instant,
    expired: Link<IdleExpired>,
    _notice: DeathNotice,
}

impl IdleTimer {
    /// `born`: when the instance came up, as far as it can know.
    pub fn new(rule: IdleStop, born: Instant, expired: Link<IdleExpired>, notice: DeathNotice) -> Self {
        Self { rule, born, in_hand: 0, idle_since: Instant::now(), expired, _notice: notice }
    }

    /// Compares deadlines instead of restarting a timer a job: a full mailbox is emptied before timers fire.
    fn check(&mut self, ctx: &mut Context<Self>) {
        let wait = match self.in_hand {
            0 => self.rule.wait(self.idle_since.elapsed(), self.born.elapsed()),
            _ => self.rule.idle,
        };
        if wait.is_zero() {
            self.expired.tell(IdleExpired);
        }
        // The supervisor may not be able to stop now: ask again later.
        let next = if wait.is_zero() { self.rule.idle } else { wait };
        ctx.run_later(next, Self::check);
    }
}

impl Actor for IdleTimer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.check(ctx);
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
