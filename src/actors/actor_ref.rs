//! Stable references to actors that may be rebuilt. A message to a dead actor is lost, and its sender is notified.
//!
//! There is one reference per actor. A component that sends messages of a type to the actor takes a [`Sender`] of that
//! type from the reference; this compiles only if the actor handles such messages. A role does not start while a
//! reference has no actor (see [`GuardianBuilder`](super::guardian::GuardianBuilder)).

use std::sync::{Arc, RwLock};

use actix::{Actor, Addr, Context, Handler, MailboxError, Message};
use futures_util::future::BoxFuture;

/// Refers to an actor of type `A`, wherever it currently is.
pub struct ActorRef<A: Actor>(Arc<Slot<A>>);

struct Slot<A: Actor> {
    name: &'static str,
    address: RwLock<Option<Addr<A>>>,
}

impl<A: Actor> Clone for ActorRef<A> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<A: Actor<Context = Context<A>>> ActorRef<A> {
    /// Creates the reference of an actor that will be started. `name` identifies the actor to its guardian and in log
    /// lines.
    pub fn new(name: &'static str) -> Self {
        Self(Arc::new(Slot { name, address: RwLock::new(None) }))
    }

    /// Returns the actor's name.
    pub fn name(&self) -> &'static str {
        self.0.name
    }

    /// Returns a sender of `M` to the actor behind this reference.
    pub fn sender<M>(&self) -> Sender<M>
    where
        A: Handler<M>,
        M: Message<Result: Send> + Send + 'static,
    {
        Sender(self.0.clone())
    }

    /// Sets the address of an actor that has been started.
    pub(super) fn set(&self, address: Addr<A>) {
        *self.0.address.write().unwrap_or_else(|e| e.into_inner()) = Some(address);
    }
}

impl<A: Actor> Slot<A> {
    fn address(&self) -> Option<Addr<A>> {
        self.address.read().unwrap_or_else(|e| e.into_inner()).clone()
    }
}

trait Route<M: Message>: Send + Sync {
    fn tell(&self, message: M) -> bool;
    fn ask(&self, message: M) -> BoxFuture<'static, Result<M::Result, MailboxError>>;
}

impl<A, M> Route<M> for Slot<A>
where
    A: Actor<Context = Context<A>> + Handler<M>,
    M: Message<Result: Send> + Send + 'static,
{
    fn tell(&self, message: M) -> bool {
        let address = self.address().filter(Addr::connected);
        if let Some(address) = &address {
            address.do_send(message);
        }
        address.is_some()
    }

    fn ask(&self, message: M) -> BoxFuture<'static, Result<M::Result, MailboxError>> {
        match self.address() {
            Some(address) => Box::pin(address.send(message)),
            None => Box::pin(std::future::ready(Err(MailboxError::Closed))),
        }
    }
}

/// Sends messages of one type to the actor behind a reference. Cheap to clone.
pub struct Sender<M: Message>(Arc<dyn Route<M>>);

impl<M: Message> Clone for Sender<M> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<M: Message> Sender<M> {
    /// Sends without waiting. Returns `false` if the actor is currently dead and the message is lost.
    pub fn tell(&self, message: M) -> bool {
        self.0.tell(message)
    }

    /// Sends and waits for the answer.
    ///
    /// # Errors
    /// `Closed` if the actor is dead or dies before it answers.
    pub async fn ask(&self, message: M) -> Result<M::Result, MailboxError> {
        self.0.ask(message).await
    }
}
