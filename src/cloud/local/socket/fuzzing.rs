//! Frames on the socket of the workers: a fuzz target.

use std::{cell::LazyCell, sync::Once};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    runtime::Builder,
};
use tokio_util::codec::length_delimited;

use super::*;
use crate::cloud::local::{journal::Journal, processes::Launcher};

/// Memory for one connection, in bytes: two frames, and what their messages take.
pub(crate) const MEMORY: usize = 2 * MAX_FRAME + (8 << 20);
/// The queue that a worker may use.
const QUEUE: &str = "q";
/// Buffers of the connection, in bytes.
const BUFFER: usize = 64 << 10;

/// Panics of the library are printed without a backtrace, whose memory would count.
static QUIET: Once = Once::new();

/// What all connections of a thread share.
struct Parent {
    journal: Arc<Journal>,
    compute: Arc<LocalCompute>,
    folder: tempfile::TempDir,
}

thread_local! {
    static PARENT: LazyCell<Parent> = LazyCell::new(|| {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let journal = Arc::new(Journal::open(&folder.path().join("queues.redb")).expect("a journal"));
        let launcher = Launcher { program: "/bin/false".into(), args: vec![], name_prefix: String::new() };
        Parent { journal, compute: LocalCompute::new(launcher), folder }
    });
}

/// Serves a worker that sends these bytes and closes the connection. Bit 0 of the first byte: the worker has said hello
/// before; bit 1: the queue is FIFO.
pub(crate) fn frames(input: &[u8]) {
    QUIET.call_once(|| std::panic::set_hook(Box::new(|panic| eprintln!("{panic}"))));
    let Some((first, bytes)) = input.split_first() else { return };
    PARENT.with(|parent| {
        // Calls that still wait for a message when the connection is closed end with their runtime.
        let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
        runtime.block_on(serve_bytes(parent, *first, bytes));
    });
}

async fn serve_bytes(parent: &Parent, first: u8, bytes: &[u8]) {
    let (said_hello, fifo) = (first & 1 != 0, first & 2 != 0);
    let broker = Arc::new(
        Broker::on(parent.journal.clone(), parent.folder.path().join("queues.redb"))
            .expect("a journal that can be read"),
    );
    let spec = QueueSpec {
        name: QUEUE.into(),
        fifo,
        visibility: Duration::from_secs(30),
        max_receives: 2,
        dead_letter: None,
        durable: false,
    };
    let queue = broker.create(spec).await.expect("a queue");
    let waiting = Message { body: "a message".into(), group: fifo.then(|| "g".to_owned()), ..Message::default() };
    queue.send(vec![waiting]).await.remove(0).expect("sent");
    let connection = Connection::new(broker, parent.compute.clone());
    if said_hello {
        connection.instance.set(InstanceId("i-1".into())).expect("said hello once");
    }
    let in_flight = connection.in_flight.clone();
    let (mut worker, socket) = tokio::io::duplex(BUFFER);
    let framed = length_delimited::Builder::new().max_frame_length(MAX_FRAME).new_framed(socket);
    let transport = tarpc::serde_transport::new(framed, MessagePack::default());
    // As in the program, where a panic in the library ends only this connection.
    let served = tokio::spawn(connection.run(transport));
    let sent = async {
        let (mut responses, mut requests) = tokio::io::split(&mut worker);
        let write = async {
            let _ = requests.write_all(bytes).await; // the parent may have closed the connection
            let _ = requests.shutdown().await;
        };
        let read = async {
            let mut buffer = [0; 1024];
            while responses.read(&mut buffer).await.is_ok_and(|read| read > 0) {}
        };
        tokio::join!(write, read);
    };
    let _ = tokio::join!(served, sent);
    assert!(in_flight.lock().expect("no panic while it was locked").is_none(), "what was in flight was returned");
    let depth = queue.depth().await.expect("a queue in memory");
    assert!(depth.in_flight == 0 || !said_hello, "{depth:?}");
}

/// Returns what workers send: each call alone, and a job from its receive to its deletion.
pub(crate) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let message = || Message { body: "a message".into(), group: Some("g".into()), ..Message::default() };
    let receipt = || Receipt("1-1-1".into());
    let calls: Vec<(&str, ParentRequest)> = vec![
        ("hello", ParentRequest::Hello { instance: InstanceId("i-1".into()), secret: "secret".into() }),
        ("ready", ParentRequest::Ready {}),
        ("stopping", ParentRequest::Stopping {}),
        ("open", ParentRequest::Open { queue: QUEUE.into() }),
        ("send", ParentRequest::Send { queue: QUEUE.into(), batch: vec![message(), message()] }),
        ("receive", ParentRequest::Receive { queue: QUEUE.into(), max: 1, wait: Duration::ZERO }),
        ("delete", ParentRequest::Delete { queue: QUEUE.into(), batch: vec![receipt()] }),
        ("extend", ParentRequest::Extend { queue: QUEUE.into(), batch: vec![(receipt(), Duration::ZERO)] }),
        ("depth", ParentRequest::Depth { queue: QUEUE.into() }),
    ];
    let frame = |id: usize, call: &ParentRequest| {
        let request = tarpc::Request { context: context::current(), id: id as u64, message: call };
        let mut body = encoded(&ClientMessage::Request(request));
        // The deadline, as the seconds and nanoseconds that are left: a little less than 10 s.
        let left = body.windows(3).position(|bytes| bytes == [0x92, 9, 0xCE]).expect("a deadline");
        body[left + 3..left + 7].fill(0);
        [&(body.len() as u32).to_be_bytes()[..], &body].concat()
    };
    let mut all: Vec<u8> = vec![1];
    let mut seeds = Vec::new();
    for (id, (name, call)) in calls.iter().enumerate() {
        all.extend(frame(id, call));
        seeds.push((*name, [&[1][..], &frame(id, call)].concat()));
    }
    seeds.push(("stranger", [&[0][..], &all[1..]].concat()));
    seeds.push(("all", all));
    seeds
}

/// Returns a message in the encoding of the socket.
fn encoded(message: &ClientMessage<&ParentRequest>) -> Vec<u8> {
    let mut codec = MessagePack::<(), ClientMessage<&ParentRequest>>::default();
    tokio_serde::Serializer::serialize(std::pin::Pin::new(&mut codec), message).expect("encoded").to_vec()
}
