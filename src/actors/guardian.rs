//! Rebuilds a dead actor from its factory, within a budget. When the budget is exhausted, the process exits with an
//! error, because an actor that keeps dying is more likely to recover in a fresh process.

use std::{cell::Cell, collections::VecDeque, time::Duration};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, System};
use tokio::time::Instant;

use super::actor_ref::ActorRef;

/// Exit code of a process whose actors keep dying (`EX_SOFTWARE` of sysexits.h).
pub const EXIT_SOFTWARE: i32 = 70;
/// Number of deaths of one actor that are tolerated within [`WINDOW`].
const BUDGET: usize = 5;
const WINDOW: Duration = Duration::from_secs(60);

/// Notifies the guardian when the actor that owns it is dropped. Every guarded actor has one as a field. A panic in a
/// handler drops the actor without calling `stopped`, so only a destructor sees every death.
pub struct DeathNotice {
    name: &'static str,
    guardian: Addr<Guardian>,
}

impl DeathNotice {
    /// Reports that the process is ending: the guardian stops rebuilding actors.
    pub fn stand_down(&self) {
        self.guardian.do_send(StandDown);
    }
}

impl Drop for DeathNotice {
    fn drop(&mut self) {
        self.guardian.do_send(Died { name: self.name });
    }
}

/// Starts an actor and sets it in its reference.
type Factory = Box<dyn Fn(DeathNotice)>;

struct Supervised {
    name: &'static str,
    factory: Factory,
    deaths: VecDeque<Instant>,
}

/// Collects the actors of a role and checks that none was forgotten.
#[derive(Default)]
pub struct GuardianBuilder {
    actor_refs: Vec<&'static str>,
    supervised: Vec<Supervised>,
}

impl GuardianBuilder {
    /// Creates the reference of an actor, which must be added before [`Self::start`].
    pub fn actor_ref<A: Actor<Context = Context<A>>>(&mut self, name: &'static str) -> ActorRef<A> {
        self.actor_refs.push(name);
        ActorRef::new(name)
    }

    /// Adds an actor. `make` rebuilds it when it dies.
    pub fn supervise<A: Actor<Context = Context<A>>>(
        &mut self,
        actor: &ActorRef<A>,
        make: impl Fn(DeathNotice) -> A + 'static,
    ) {
        let place = actor.clone();
        self.add(actor.name(), Box::new(move |notice| place.set(make(notice).start())));
    }

    /// Adds an actor that must not be rebuilt, because its work in progress would be lost unnoticed. Its death ends
    /// the process, and other processes do the work.
    pub fn fail_fast<A: Actor<Context = Context<A>>>(
        &mut self,
        actor: &ActorRef<A>,
        make: impl FnOnce(DeathNotice) -> A + 'static,
    ) {
        let (place, make) = (actor.clone(), Cell::new(Some(make)));
        let factory = move |notice| match make.take() {
            Some(make) => place.set(make(notice).start()),
            None => {
                tracing::error!("the actor cannot be rebuilt: exiting, so that other processes do its work");
                System::current().stop_with_code(EXIT_SOFTWARE);
            }
        };
        self.add(actor.name(), Box::new(factory));
    }

    fn add(&mut self, name: &'static str, factory: Factory) {
        self.supervised.push(Supervised { name, factory, deaths: VecDeque::new() });
    }

    /// Starts the guardian and, in the order in which they were added, its actors.
    ///
    /// # Errors
    /// A reference has no actor, so its messages would be lost.
    pub fn start(self) -> anyhow::Result<Addr<Guardian>> {
        let added = |name: &&str| self.supervised.iter().any(|actor| actor.name == *name);
        if let Some(name) = self.actor_refs.iter().find(|name| !added(name)) {
            anyhow::bail!("the actor \"{name}\" has a reference, but was not added to its guardian");
        }
        Ok(Guardian { supervised: self.supervised, standing_down: false }.start())
    }
}

/// Rebuilds dead actors from their factories, within a budget.
pub struct Guardian {
    supervised: Vec<Supervised>,
    standing_down: bool,
}

impl Guardian {
    /// Collects the actors to guard.
    pub fn builder() -> GuardianBuilder {
        GuardianBuilder::default()
    }
}

impl Actor for Guardian {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        for Supervised { name, factory, .. } in &self.supervised {
            factory(DeathNotice { name, guardian: ctx.address() });
        }
    }
}

/// Reports that an actor has stopped or panicked.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Died {
    name: &'static str,
}

/// Asks the guardian to rebuild no more actors, because the process is ending.
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
        let Some(actor) = self.supervised.iter_mut().find(|actor| actor.name == name) else { return };
        if self.standing_down {
            return;
        }
        let now = Instant::now();
        if within_budget(&mut actor.deaths, now) {
            tracing::error!(actor = name, deaths = actor.deaths.len(), "actor died: rebuilding it");
            (actor.factory)(DeathNotice { name, guardian: ctx.address() });
        } else {
            tracing::error!(actor = name, deaths = BUDGET + 1, window = ?WINDOW, "actor keeps dying: exiting");
            System::current().stop_with_code(EXIT_SOFTWARE);
        }
    }
}

/// Records a death and returns whether there were at most [`BUDGET`] within [`WINDOW`].
fn within_budget(deaths: &mut VecDeque<Instant>, now: Instant) -> bool {
    deaths.push_back(now);
    while deaths.front().is_some_and(|first| now.duration_since(*first) > WINDOW) {
        deaths.pop_front();
    }
    deaths.len() <= BUDGET
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;

    use super::*;

    #[derive(Message)]
    #[rtype(result = "usize")]
    struct Poke {
        panic: bool,
    }

    struct Fragile {
        incarnation: usize,
        _notice: DeathNotice,
    }

    impl Actor for Fragile {
        type Context = Context<Self>;
    }

    impl Handler<Poke> for Fragile {
        type Result = usize;
        fn handle(&mut self, poke: Poke, _: &mut Self::Context) -> usize {
            assert!(!poke.panic, "as asked");
            self.incarnation
        }
    }

    #[actix::test]
    async fn an_actor_that_panics_is_rebuilt_and_reached_through_the_same_reference() {
        let mut guardian = Guardian::builder();
        let actor = guardian.actor_ref::<Fragile>("fragile");
        let incarnations = Cell::new(0);
        guardian.supervise(&actor, move |notice| {
            incarnations.set(incarnations.get() + 1);
            Fragile { incarnation: incarnations.get(), _notice: notice }
        });
        let _guardian = guardian.start().expect("every actor was added");
        let poke = actor.sender::<Poke>();
        tokio::task::yield_now().await;
        assert_eq!(poke.ask(Poke { panic: false }).await, Ok(1));
        assert!(poke.ask(Poke { panic: true }).await.is_err());
        while poke.ask(Poke { panic: false }).await != Ok(2) {
            tokio::task::yield_now().await;
        }
    }

    #[actix::test]
    async fn an_actor_that_dies_while_the_process_ends_is_not_rebuilt() {
        let mut guardian = Guardian::builder();
        let actor = guardian.actor_ref::<Fragile>("fragile");
        let incarnations = Rc::new(Cell::new(0));
        let counted = incarnations.clone();
        guardian.supervise(&actor, move |notice| {
            counted.set(counted.get() + 1);
            Fragile { incarnation: counted.get(), _notice: notice }
        });
        let guardian = guardian.start().expect("every actor was added");
        let poke = actor.sender::<Poke>();
        guardian.send(StandDown).await.expect("the guardian is alive");
        assert!(poke.ask(Poke { panic: true }).await.is_err());
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(poke.ask(Poke { panic: false }).await.is_err());
        assert_eq!(incarnations.get(), 1);
    }

    #[test]
    fn the_death_of_a_fail_fast_actor_ends_the_process() {
        let system = System::new();
        system.block_on(async {
            let mut guardian = Guardian::builder();
            let actor = guardian.actor_ref::<Fragile>("fragile");
            guardian.fail_fast(&actor, |notice| Fragile { incarnation: 1, _notice: notice });
            guardian.start().expect("every actor was added");
            let poke = actor.sender::<Poke>();
            tokio::task::yield_now().await;
            assert_eq!(poke.ask(Poke { panic: false }).await, Ok(1));
            assert!(poke.ask(Poke { panic: true }).await.is_err());
        });
        assert_eq!(system.run_with_code().expect("the system ran"), EXIT_SOFTWARE);
    }

    #[test]
    fn an_actor_that_keeps_dying_ends_the_process() {
        let (system, incarnations) = (System::new(), Rc::new(Cell::new(0)));
        let counted = incarnations.clone();
        system.block_on(async {
            let mut guardian = Guardian::builder();
            let actor = guardian.actor_ref::<Fragile>("fragile");
            guardian.supervise(&actor, move |notice| {
                counted.set(counted.get() + 1);
                Fragile { incarnation: counted.get(), _notice: notice }
            });
            guardian.start().expect("every actor was added");
            let poke = actor.sender::<Poke>();
            for incarnation in 1..=BUDGET + 1 {
                while poke.ask(Poke { panic: false }).await != Ok(incarnation) {
                    tokio::task::yield_now().await;
                }
                assert!(poke.ask(Poke { panic: true }).await.is_err());
            }
        });
        assert_eq!(system.run_with_code().expect("the system ran"), EXIT_SOFTWARE);
        assert_eq!(incarnations.get(), BUDGET + 1);
    }

    #[actix::test]
    async fn a_role_does_not_start_while_a_reference_has_no_actor() {
        let mut guardian = Guardian::builder();
        let sender = guardian.actor_ref::<Fragile>("fragile").sender::<Poke>();
        assert!(!sender.tell(Poke { panic: false }), "there is no actor yet");
        let error = guardian.start().expect_err("an actor was forgotten");
        assert!(error.to_string().contains("fragile"), "{error}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_restart_budget_applies_to_a_sliding_window() {
        let mut deaths = VecDeque::new();
        let now = Instant::now();
        assert!((0..BUDGET).all(|_| within_budget(&mut deaths, now)));
        assert!(!within_budget(&mut deaths, now + WINDOW));
        assert!(within_budget(&mut deaths, now + WINDOW + Duration::from_secs(1)));
    }
}
