//! Rebuilds a dead actor from its factory, within a budget; beyond it the process ends non-zero, because an actor that
//! keeps dying is better served by a fresh process than by another try.

use std::{
    cell::Cell,
    collections::{BTreeMap, VecDeque},
    sync::{Arc, RwLock},
    time::Duration,
};

use actix::{Actor, AsyncContext, Context, Handler, MailboxError, Message, Recipient, System};
use tokio::time::Instant;

use super::messages::Died;

/// Exit code of a process whose actors keep dying (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_SOFTWARE: i32 = 70;
/// Deaths of one actor forgiven within [`WINDOW`].
const BUDGET: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// The way to an actor that may be rebuilt: holds whichever address is the present one.
pub struct Link<M: Message + Send + 'static>(Arc<RwLock<Option<Recipient<M>>>>)
where
    M::Result: Send;

impl<M: Message + Send + 'static> Clone for Link<M>
where
    M::Result: Send,
{
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Message + Send + 'static> Default for Link<M>
where
    M::Result: Send,
{
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<M: Message + Send + 'static> Link<M>
where
    M::Result: Send,
{
    pub fn set(&self, to: Recipient<M>) {
        *self.0.write().unwrap_or_else(|e| e.into_inner()) = Some(to);
    }

    fn get(&self) -> Option<Recipient<M>> {
        self.0.read().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Sends without waiting. `false` if the actor is dead at the moment and the message is lost.
    pub fn tell(&self, message: M) -> bool {
        let to = self.get().filter(Recipient::connected);
        if let Some(to) = &to {
            to.do_send(message);
        }
        to.is_some()
    }

    /// Sends and waits for the answer; `Closed` if the actor is dead.
    pub async fn ask(&self, message: M) -> Result<M::Result, MailboxError> {
        match self.get() {
            Some(to) => to.send(message).await,
            None => Err(MailboxError::Closed),
        }
    }
}

/// A field of every guarded actor: tells the guardian when the actor is dropped. A panic in a handler drops the actor
/// without calling `stopped`, so only a destructor sees every death.
pub struct DeathNotice {
    name: &'static str,
    guardian: Recipient<Died>,
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        self.guardian.do_send(Died { name: self.name });
    }
}

/// Starts an actor and links its new address.
pub type Factory = Box<dyn Fn(DeathNotice)>;

/// A factory for an actor that must not be rebuilt: what it had in hand would be lost with nobody to say so. Its death ends
/// the process, and others do its work.
pub fn fail_fast(start: impl FnOnce(DeathNotice) + 'static) -> Factory {
    let start = Cell::new(Some(start));
    Box::new(move |notice| match start.take() {
        Some(start) => start(notice),
        None => {
            tracing::error!("it cannot be rebuilt: the process ends, and others do its work");
            System::current().stop_with_code(EXIT_SOFTWARE);
        }
    })
}

struct Supervised {
    factory: Factory,
    deaths: VecDeque<Instant>,
}

/// See the module.
pub struct Guardian {
    wards: BTreeMap<&'static str, Supervised>,
    standing_down: bool,
}

impl Guardian {
    /// Guards the actors that these factories make; they are made when the guardian starts, in name order.
    pub fn new(factories: impl IntoIterator<Item = (&'static str, Factory)>) -> Self {
        let ward = |(name, factory)| (name, Supervised { factory, deaths: VecDeque::new() });
        Self { wards: factories.into_iter().map(ward).collect(), standing_down: false }
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for (name, ward) in &self.wards {
            (ward.factory)(DeathNotice { name, guardian: ctx.address().recipient() });
        }
    }
}

/// The process is ending: deaths are no longer mended.
#[derive(Message)]
#[rtype(result = "()")]
pub struct StandDown;

impl Handler<StandDown> for Guardian {
    type Result = ();
    fn handle(&mut self, _: StandDown, _: &mut Self::Context) {
        self.standing_down = true;
    }
}

impl Handler<Died> for Guardian {
    type Result = ();
    fn handle(&mut self, Died { name }: Died, ctx: &mut Self::Context) {
        let Some(ward) = self.wards.get_mut(name).filter(|_| !self.standing_down) else { return };
        let now = Instant::now();
        if within_budget(&mut ward.deaths, now) {
            tracing::error!(actor = name, deaths = ward.deaths.len(), "actor died, rebuilding it");
            (ward.factory)(DeathNotice { name, guardian: ctx.address().recipient() });
        } else {
            tracing::error!(actor = name, deaths = BUDGET + 1, window = ?WINDOW, "actor keeps dying, giving up");
            System::current().stop_with_code(EXIT_SOFTWARE);
        }
    }
}

/// Records a death; whether there were at most [`BUDGET`] within [`WINDOW`].
fn within_budget(deaths: &mut VecDeque<Instant>, now: Instant) -> bool {
    deaths.push_back(now);
    while deaths.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
        deaths.pop_front();
    }
    deaths.len() <= BUDGET
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Poke {
        panic: bool,
    }

    struct Fragile {
        life: usize,
        _notice: DeathNotice,
    }

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    impl Handler<Poke> for Fragile {
        type Result = usize;
        fn handle(&mut self, poke: Poke, _: &mut Self::Context) -> usize {
            assert!(!poke.panic, "as asked");
            self.life
        }
    }

    #[actix::test]
    async fn an_actor_that_panics_is_rebuilt_and_reached_by_the_same_link() {
        let link = Link::<Poke>::default();
        let lives = std::cell::Cell::new(0);
        let factory: Factory = {
            let link = link.clone();
            Box::new(move |notice| {
                lives.set(lives.get() + 1);
                link.set(Fragile { life: lives.get(), _notice: notice }.start().recipient());
            })
        };
        let _guardian = Guardian::new([("fragile", factory)]).start();
        tokio::task::yield_now().await;
        assert_eq!(link.ask(Poke { panic: false }).await, Ok(1));
        assert!(link.ask(Poke { panic: true }).await.is_err());
        while link.ask(Poke { panic: false }).await != Ok(2) {
            tokio::task::yield_now().await;
        }
    }

    #[test]
    fn the_death_of_an_irreplaceable_actor_ends_the_process() {
        let system = System::new();
        system.block_on(async {
            let link = Link::<Poke>::default();
            let start = {
                let link = link.clone();
                move |notice| link.set(Fragile { life: 1, _notice: notice }.start().recipient())
            };
            Guardian::new([("fragile", fail_fast(start))]).start();
            tokio::task::yield_now().await;
            assert_eq!(link.ask(Poke { panic: false }).await, Ok(1));
            assert!(link.ask(Poke { panic: true }).await.is_err());
        });
        assert_eq!(system.run_with_code().expect("the system ran"), EXIT_SOFTWARE);
    }

    #[tokio::test(start_paused = true)]
    async fn the_budget_is_for_a_window() {
        let mut deaths = VecDeque::new();
        let now = Instant::now();
        assert!((0..BUDGET).all(|_| within_budget(&mut deaths, now)));
        assert!(!within_budget(&mut deaths, now + WINDOW));
        assert!(within_budget(&mut deaths, now + WINDOW + Duration::from_secs(1)));
    }
}
