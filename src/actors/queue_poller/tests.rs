//! An idle worker polls once more before it ends, and does the jobs that have arrived in the meantime.

use std::sync::Mutex;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc};

use super::*;
use crate::{
    actors::{actor_ref::ActorRef, guardian::Guardian},
    cloud::{Depth, Message},
};

/// A queue whose polls are answered by the test.
#[derive(Default)]
struct ByHand {
    polls: Mutex<Vec<Duration>>,
    answers: Mutex<Vec<Vec<Delivery>>>,
    answered: Notify,
    returned_to_queue: Mutex<usize>,
    /// The number of messages of each call that deletes.
    deletes: Mutex<Vec<usize>>,
}

impl ByHand {
    fn answer(&self, bodies: &[&'static str]) {
        let delivery = |body: &&'static str| Delivery {
            body: Bytes::from_static(body.as_bytes()),
            receipt: Receipt((*body).into()),
            receives: 1,
            group: None,
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
        self.deletes.lock().expect("no panic").push(batch.len());
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

/// The poller's reports.
#[derive(Debug, PartialEq)]
enum Said {
    Took(usize),
    QueueEmpty,
    Drained,
}

struct Recorder(mpsc::Sender<Said>);

impl Actor for Recorder {
    type Context = Context<Self>;
}

impl Handler<RequestCapacity> for Recorder {
    type Result = usize;
    fn handle(&mut self, _: RequestCapacity, _: &mut Self::Context) -> usize {
        1
    }
}

impl Handler<Deliveries> for Recorder {
    type Result = ();
    fn handle(&mut self, Deliveries(batch): Deliveries, _: &mut Self::Context) {
        let _ = self.0.try_send(Said::Took(batch.len()));
    }
}

impl Handler<QueueEmpty> for Recorder {
    type Result = ();
    fn handle(&mut self, _: QueueEmpty, _: &mut Self::Context) {
        let _ = self.0.try_send(Said::QueueEmpty);
    }
}

impl Handler<Drained> for Recorder {
    type Result = ();
    fn handle(&mut self, _: Drained, _: &mut Self::Context) {
        let _ = self.0.try_send(Said::Drained);
    }
}

struct World {
    queue: Arc<ByHand>,
    poller: ActorRef<QueuePoller>,
    said: mpsc::Receiver<Said>,
}

impl World {
    fn final_poll(&self) {
        self.poller.sender().tell(FinalPoll);
    }

    fn drain(&self) {
        self.poller.sender().tell(Drain);
    }
}

/// Starts a poller and waits until it has begun its first poll.
async fn world(finish_poll: bool) -> World {
    world_with(finish_poll, Duration::ZERO).await
}

async fn world_with(finish_poll: bool, delete_linger: Duration) -> World {
    let (tell, said) = mpsc::channel(16);
    let mut guardian = Guardian::builder();
    let owner = guardian.actor_ref::<Recorder>("owner");
    let poller = guardian.actor_ref::<QueuePoller>("poller");
    guardian.supervise(&owner, move |_| Recorder(tell.clone()));
    let queue = Arc::new(ByHand::default());
    let options = PollerOptions {
        visibility: Duration::from_secs(30),
        delete_linger,
        poll_linger: Duration::ZERO,
        wait: Duration::from_secs(10),
        finish_poll,
        max_receives: 1,
    };
    let (polled, owner) = (queue.clone(), Owner::of_draining(&owner));
    guardian.supervise(&poller, move |notice| QueuePoller::new(polled.clone(), options.clone(), owner.clone(), notice));
    guardian.start().expect("every actor was added");
    while queue.polls().is_empty() {
        tokio::task::yield_now().await;
    }
    World { queue, poller, said }
}

/// Lets every actor, all on this thread, handle its messages.
async fn run_actors() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[actix::test]
async fn jobs_from_the_final_poll_are_kept_and_not_returned_to_the_queue() {
    for finish_poll in [true, false] {
        let mut world = world(finish_poll).await;
        world.final_poll();
        run_actors().await;
        world.queue.answer(&["a"]);
        assert_eq!(world.said.recv().await, Some(Said::Took(1)), "finish_poll {finish_poll}");
        assert_eq!(*world.queue.returned_to_queue.lock().expect("no panic"), 0);
        // With a job in flight there is no final poll, and nothing is reported.
        world.final_poll();
        world.drain();
        run_actors().await;
        assert!(world.said.try_recv().is_err(), "finish_poll {finish_poll}");
    }
}

#[actix::test]
async fn a_final_poll_that_is_requested_after_a_job_has_arrived_is_not_made() {
    let mut world = world(false).await;
    world.queue.answer(&["a"]);
    assert_eq!(world.said.recv().await, Some(Said::Took(1)));
    run_actors().await;
    let polls = world.queue.polls();
    world.final_poll();
    run_actors().await;
    assert_eq!(world.queue.polls(), polls);
}

#[actix::test]
async fn an_empty_final_poll_reports_an_empty_queue_and_ends_polling() {
    for (finish_poll, polls) in [(true, 1), (false, 2)] {
        let mut world = world(finish_poll).await;
        world.final_poll();
        run_actors().await;
        world.queue.answer(&[]);
        assert_eq!(world.said.recv().await, Some(Said::QueueEmpty), "finish_poll {finish_poll}");
        if !finish_poll {
            assert_eq!(world.queue.polls()[1], Duration::ZERO, "the final poll does not wait");
        }
        run_actors().await;
        assert_eq!(world.queue.polls().len(), polls);
        world.drain();
        assert_eq!(world.said.recv().await, Some(Said::Drained));
    }
}

#[actix::test]
async fn a_drain_awaits_the_poll_of_a_remote_queue_and_returns_its_messages() {
    let mut world = world(true).await;
    world.drain();
    run_actors().await;
    assert!(world.said.try_recv().is_err(), "the poll may still bring messages");
    world.queue.answer(&["a"]);
    run_actors().await;
    assert_eq!(world.said.try_recv(), Ok(Said::Drained));
    assert_eq!(*world.queue.returned_to_queue.lock().expect("no panic"), 1);
}

#[actix::test]
async fn a_drain_cancels_the_poll_of_a_local_queue() {
    let mut world = world(false).await;
    world.drain();
    run_actors().await;
    assert_eq!(world.said.try_recv(), Ok(Said::Drained));
}

#[actix::test]
async fn a_batch_of_deletes_is_sent_at_once_when_full_or_draining() {
    let mut world = world_with(true, Duration::from_secs(3600)).await;
    let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
    world.queue.answer(&names);
    assert_eq!(world.said.recv().await, Some(Said::Took(names.len())));
    let done = |name: &str| assert!(world.poller.sender().tell(Done(Receipt(name.into()))));
    let deletes = || world.queue.deletes.lock().expect("no panic").clone();
    names[..MAX_BATCH - 1].iter().for_each(|name| done(name));
    run_actors().await;
    assert!(deletes().is_empty(), "they wait for more");
    done(names[MAX_BATCH - 1]);
    run_actors().await;
    assert_eq!(deletes(), [MAX_BATCH]);
    world.drain();
    done(names[MAX_BATCH]);
    run_actors().await;
    assert_eq!(deletes(), [MAX_BATCH, 1]);
}
