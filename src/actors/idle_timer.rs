//! Reports when a worker has been idle for long enough to stop (see [`IdleStop`]).

use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, SpawnHandle, WrapFuture};
use tokio::{sync::watch, time::Instant};

use super::{actor_ref::Sender, guardian::DeathNotice};
use crate::fleet::IdleStop;

/// Tells the timer that one more job is in flight.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Busy;

/// Tells the timer that one job fewer is in flight.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Idle;

/// Reports that there has been no job for as long as the rule requires.
#[derive(Message)]
#[rtype(result = "()")]
pub struct IdleExpired;

/// Longest time between two checks: an idle limit may be longer than what a timer can wait for.
const LONGEST: Duration = Duration::from_secs(3600);

/// Reports when a worker has been idle for long enough to stop.
pub struct IdleTimer {
    rule: IdleStop,
    /// The idle limits that this worker is told, until the first check.
    limits: Option<watch::Receiver<Option<Duration>>>,
    /// The next check.
    next: Option<SpawnHandle>,
    born: Instant,
    in_flight: usize,
    idle_since: Instant,
    expired: Sender<IdleExpired>,
    _notice: DeathNotice,
}

impl IdleTimer {
    /// Creates a timer that counts idle time from now on. `born` is when the instance came up, as far as is known.
    pub fn new(rule: IdleStop, born: Instant, expired: Sender<IdleExpired>, notice: DeathNotice) -> Self {
        let idle_since = Instant::now();
        Self { rule, limits: None, next: None, born, in_flight: 0, idle_since, expired, _notice: notice }
    }

    /// Replaces the idle limit of the rule by the latest one of `limits`, once there is one.
    pub fn following(self, limits: Option<watch::Receiver<Option<Duration>>>) -> Self {
        Self { limits, ..self }
    }

    /// Checks again whenever the idle limit changes.
    fn follow(&mut self, mut limits: watch::Receiver<Option<Duration>>, ctx: &mut Context<Self>) {
        if let Some(limit) = *limits.borrow_and_update() {
            self.rule.idle = limit;
        }
        self.check(ctx);
        let next = async move { limits.changed().await.map(|()| limits) }.into_actor(self);
        ctx.spawn(next.map(|limits, act, ctx| {
            if let Ok(limits) = limits {
                act.follow(limits, ctx);
            }
        }));
    }

    /// Reports when the idle time is over, and schedules the next check. Deadlines are compared instead of restarting a
    /// timer per job, because a full mailbox is emptied before timers fire.
    fn check(&mut self, ctx: &mut Context<Self>) {
        if let Some(scheduled) = self.next.take() {
            ctx.cancel_future(scheduled);
        }
        let wait = match self.in_flight {
            0 => self.rule.wait(self.idle_since.elapsed(), self.born.elapsed()),
            _ => self.rule.idle,
        };
        if wait.is_zero() {
            self.expired.tell(IdleExpired);
        }
        // The supervisor may not be able to stop now, so this is reported again later.
        let next = if wait.is_zero() { self.rule.idle } else { wait };
        self.next = Some(ctx.run_later(next.min(LONGEST), Self::check));
    }
}

impl Actor for IdleTimer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        match self.limits.take() {
            Some(limits) => self.follow(limits, ctx),
            None => self.check(ctx),
        }
    }
}

impl Handler<Busy> for IdleTimer {
    type Result = ();
    fn handle(&mut self, _: Busy, _: &mut Self::Context) {
        self.in_flight += 1;
    }
}

impl Handler<Idle> for IdleTimer {
    type Result = ();
    fn handle(&mut self, _: Idle, _: &mut Self::Context) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.idle_since = Instant::now();
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, rc::Rc};

    use super::*;
    use crate::actors::guardian::Guardian;

    /// Records when the idle time was over, in seconds.
    struct Recorder {
        start: Instant,
        expired: Rc<RefCell<Vec<u64>>>,
        _notice: DeathNotice,
    }

    impl Actor for Recorder {
        type Context = Context<Self>;
    }

    impl Handler<IdleExpired> for Recorder {
        type Result = ();
        fn handle(&mut self, _: IdleExpired, _: &mut Self::Context) {
            self.expired.borrow_mut().push(self.start.elapsed().as_secs());
        }
    }

    #[actix::test]
    async fn the_idle_timer_waits_for_both_idle_limit_and_billing_minimum() {
        tokio::time::pause();
        let (start, expired) = (Instant::now(), Rc::<RefCell<Vec<u64>>>::default());
        let rule = IdleStop { idle: Duration::from_secs(20), billing_minimum: Duration::from_secs(60) };
        let mut guardian = Guardian::builder();
        let (timer, owner) = (guardian.actor_ref::<IdleTimer>("timer"), guardian.actor_ref::<Recorder>("recorder"));
        let (sender, seen) = (owner.sender(), expired.clone());
        guardian.supervise(&owner, move |notice| Recorder { start, expired: seen.clone(), _notice: notice });
        guardian.supervise(&timer, move |notice| IdleTimer::new(rule, start, sender.clone(), notice));
        guardian.start().expect("every actor was added");
        let until = async |seconds: f64| tokio::time::sleep_until(start + Duration::from_secs_f64(seconds)).await;

        until(59.9).await;
        assert_eq!(*expired.borrow(), [0; 0], "the first minute is billed in full");
        until(70.0).await;
        assert_eq!(*expired.borrow(), [60]);
        timer.sender::<Busy>().tell(Busy);
        timer.sender::<Busy>().tell(Busy);
        until(100.0).await;
        timer.sender::<Idle>().tell(Idle);
        until(170.0).await;
        assert_eq!(*expired.borrow(), [60], "a job is in flight");
        timer.sender::<Idle>().tell(Idle);
        until(189.9).await;
        assert_eq!(*expired.borrow(), [60]);
        until(190.1).await;
        assert_eq!(*expired.borrow(), [60, 190]);
    }

    #[actix::test]
    async fn the_idle_timer_follows_the_latest_limit_that_it_is_told() {
        tokio::time::pause();
        let (start, expired) = (Instant::now(), Rc::<RefCell<Vec<u64>>>::default());
        let rule = IdleStop { idle: Duration::from_secs(600), billing_minimum: Duration::ZERO };
        let (tell, limits) = watch::channel(None);
        let mut guardian = Guardian::builder();
        let (timer, owner) = (guardian.actor_ref::<IdleTimer>("timer"), guardian.actor_ref::<Recorder>("recorder"));
        let (sender, seen) = (owner.sender(), expired.clone());
        guardian.supervise(&owner, move |notice| Recorder { start, expired: seen.clone(), _notice: notice });
        guardian.supervise(&timer, move |notice| {
            IdleTimer::new(rule, start, sender.clone(), notice).following(Some(limits.clone()))
        });
        guardian.start().expect("every actor was added");
        let until = async |seconds: u64| tokio::time::sleep_until(start + Duration::from_secs(seconds)).await;

        until(100).await;
        tell.send_replace(Some(Duration::MAX));
        until(7300).await;
        assert_eq!(*expired.borrow(), [0; 0], "it stays");
        tell.send_replace(Some(Duration::from_secs(7350)));
        until(7340).await;
        assert_eq!(*expired.borrow(), [0; 0]);
        until(7360).await;
        assert_eq!(*expired.borrow(), [7350]);
        timer.sender::<Busy>().tell(Busy);
        until(7400).await;
        timer.sender::<Idle>().tell(Idle);
        tell.send_replace(Some(Duration::from_secs(5)));
        drop(tell); // the last limit holds
        until(7404).await;
        assert_eq!(*expired.borrow(), [7350]);
        until(7408).await;
        assert_eq!(*expired.borrow(), [7350, 7405]);
    }
}
