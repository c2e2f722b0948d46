//! A worker that has had nothing to do looks once more before it ends: work that comes meanwhile is taken.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::{
    actors::guardian::Guardian,
    cloud::{Depth, Message},
};

/// A queue whose polls end when the test says so, with what the test says.
#[derive(Default)]
struct ByHand {
    polls: Mutex<Vec<Duration>>,
    answers: Mutex<Vec<Vec<Delivery>>>,
    answered: Notify,
    returned_to_queue: Mutex<usize>,
}

impl ByHand {
    fn answer(&self, bodies: &[&'static str]) {
        let delivery = |body: &&'static str| Delivery {
            body: Bytes::from_static(body.as_bytes()),
            receipt: Receipt((*body).into()),
            receives: 1,
        };
        self.answers.lock().expect("no panic").push(bodies.iter().map(delivery).collect());
        self.answered.notify_one();
    }

    fn polls(&self) -> Vec<Duration> {
        self.polls.lock().expect("no panic").clone()
    }
}

#[async_trait]
impl Queue for ByHand {
    async fn send(&self, batch: Vec<Message>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn receive(&self, _: usize, wait: Duration) -> CloudResult<Vec<Delivery>> {
        self.polls.lock().expect("no panic").push(wait);
        loop {
            if let Some(answer) = self.answers.lock().expect("no panic").pop() {
                return Ok(answer);
            }
            self.answered.notified().await;
        }
    }
    async fn delete(&self, batch: Vec<Receipt>) -> Vec<CloudResult<()>> {
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn extend(&self, batch: Vec<(Receipt, Duration)>) -> Vec<CloudResult<()>> {
        *self.returned_to_queue.lock().expect("no panic") += batch.iter().filter(|(_, left)| left.is_zero()).count();
        batch.iter().map(|_| Ok(())).collect()
    }
    async fn depth(&self) -> CloudResult<Depth> {
        Ok(Depth::default())
    }
}

/// What the poller said.
#[derive(Debug, PartialEq)]
enum Said {
    Took(usize),
    QueueEmpty,
    Drained,
}

struct Listener(mpsc::Sender<Said>);

impl Actor for Listener {
    type Context = Context<Self>;
}

impl Handler<RequestCapacity> for Listener {
    type Result = usize;
    fn handle(&mut self, _: RequestCapacity, _: &mut Self::Context) -> usize {
        1
    }
}

impl Handler<Deliveries> for Listener {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, _: &mut Self::Context) {
        let _ = self.0.try_send(Said::Took(batch.len()));
    }
}

impl Handler<QueueEmpty> for Listener {
    type Result = ();
    fn handle(&mut self, _: QueueEmpty, _: &mut Self::Context) {
        let _ = self.0.try_send(Said::QueueEmpty);
    }
}

impl Handler<Drained> for Listener {
    type Result = ();
    fn handle(&mut self, _: Drained, _: &mut Self::Context) {
        let _ = self.0.try_send(Said::Drained);
    }
}

struct World {
    queue: Arc<ByHand>,
    final_poll: Link<FinalPoll>,
    drain: Link<Drain>,
    said: mpsc::Receiver<Said>,
}

/// A poller that has begun its first poll.
async fn world(finish_poll: bool) -> World {
    let (tell, said) = mpsc::channel(16);
    let listener = Listener(tell).start();
    let owner = Owner::default();
    owner.capacity.set(listener.clone().recipient());
    owner.deliveries.set(listener.clone().recipient());
    owner.quiet.set(listener.clone().recipient());
    owner.drained.set(listener.recipient());
    let queue = Arc::new(ByHand::default());
    let (final_poll, drain) = (Link::default(), Link::default());
    let (links, polled) = ((final_poll.clone(), drain.clone()), queue.clone());
    let options = PollerOptions {
        visibility: Duration::from_secs(30),
        linger: Duration::ZERO,
        pace: Duration::ZERO,
        wait: Duration::from_secs(10),
        finish_poll,
    };
    let factory = Box::new(move |notice| {
        let poller = QueuePoller::new(polled.clone(), options.clone(), owner.clone(), notice).start();
        links.0.set(poller.clone().recipient());
        links.1.set(poller.recipient());
    }) as crate::actors::guardian::Factory;
    Guardian::new([("poller", factory)]).start();
    while queue.polls().is_empty() {
        tokio::task::yield_now().await;
    }
    World { queue, final_poll, drain, said }
}

/// Lets every actor, all on this thread, handle what it was told.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn work_that_a_last_look_brings_is_taken_and_not_given_back() {
    for finish_poll in [true, false] {
        let mut world = world(finish_poll).await;
        world.final_poll.tell(FinalPoll);
        settle().await;
        world.queue.answer(&["a"]);
        assert_eq!(world.said.recv().await, Some(Said::Took(1)), "finish_poll {finish_poll}");
        assert_eq!(*world.queue.returned_to_queue.lock().expect("no panic"), 0);
        // With a job in hand there is nothing to look for, and nobody is told that it is quiet.
        world.final_poll.tell(FinalPoll);
        world.drain.tell(Drain);
        settle().await;
        assert!(world.said.try_recv().is_err(), "finish_poll {finish_poll}");
    }
}

#[actix::test]
async fn where_nothing_comes_it_is_quiet_and_no_further_poll_begins() {
    for (finish_poll, looks) in [(true, 1), (false, 2)] {
        let mut world = world(finish_poll).await;
        world.final_poll.tell(FinalPoll);
        settle().await;
        world.queue.answer(&[]);
        assert_eq!(world.said.recv().await, Some(Said::QueueEmpty), "finish_poll {finish_poll}");
        if !finish_poll {
            assert_eq!(world.queue.polls()[1], Duration::ZERO, "a last look does not wait");
        }
        settle().await;
        assert_eq!(world.queue.polls().len(), looks);
        world.drain.tell(Drain);
        assert_eq!(world.said.recv().await, Some(Said::Drained));
    }
}
