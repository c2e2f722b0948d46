//! Measures the overhead of HTTP, queue and processes: `cargo bench --bench end_to_end`.
//!
//! *Bare* is the recognition loop alone (decode to name), with one thread per core. *End to end* is the same photos
//! over HTTP and the durable queue to as many worker processes with one inference thread each, and back. The two
//! alternate, so that other load on the machine affects both. Then single requests are measured, each next to a bare
//! recognition of the same photo.
//!
//! Settings in the environment apply to both, such as `ROLLCALL__RECOGNITION__EMBEDDER` for another model.

#![expect(clippy::disallowed_methods, reason = "measures real time")]

use std::{
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use reqwest::{Client, header::CONTENT_TYPE};
use rollcall::{
    cloud::local::LocalObjects,
    inference::{factory::factory, gallery::Gallery, gallery_store::GalleryStore},
    settings::{Int8, Layers, Machine, Settings},
};
use rollcall_testing::{Rollcall, RollcallOptions, assets::sample_photos, uploads::KNOWN, wait_until};

/// Rounds of each kind.
const ROUNDS: usize = 5;
/// Length of a round.
const ROUND: Duration = Duration::from_secs(5);
/// Concurrent requests per worker, so that the queue is never empty.
const DEPTH: usize = 4;
/// Single requests per photo.
const SINGLES: usize = 40;
/// Longest time until all workers are running.
const START: Duration = Duration::from_secs(60);

/// Returns the settings of the environment on this machine, as the server has them.
fn settings() -> Settings {
    let layers = Layers::load(None, env::vars().collect()).expect("the environment's settings exist");
    Settings::from_layers(&layers, Machine { cores: 2, int8: Int8::detect() }).expect("they are allowed")
}

/// Threads with one recogniser each, which run on request.
struct Bare {
    threads: Vec<(SyncSender<Run>, Receiver<usize>)>,
}

/// A request to a thread, which answers with the number of images.
enum Run {
    /// Recognises all photos again and again until the flag is set.
    Until(Arc<AtomicBool>),
    /// Recognises one photo once.
    One(usize),
}

impl Bare {
    /// Starts the threads.
    fn start(threads: usize, photos: &Arc<Vec<Vec<u8>>>, gallery: &Arc<Gallery>) -> Self {
        let thread = |_| {
            let (orders, todo) = sync_channel(1);
            let (results, done) = sync_channel(1);
            let (photos, gallery) = (photos.clone(), gallery.clone());
            thread::spawn(move || {
                let mut recogniser = factory(&settings().recognition).build().expect("the models are there");
                let mut see = |i: usize| {
                    let image = &photos[i % photos.len()];
                    recogniser.recognise(image, &gallery, false).expect("a photo is recognised");
                };
                while let Ok(order) = todo.recv() {
                    let images = match order {
                        Run::Until(stop) => (0..).take_while(|_| !stop.load(Ordering::Relaxed)).map(&mut see).count(),
                        Run::One(i) => {
                            see(i);
                            1
                        }
                    };
                    results.send(images).expect("the bench listens");
                }
            });
            (orders, done)
        };
        Self { threads: (0..threads).map(thread).collect() }
    }

    /// Measures images per second of all threads.
    async fn rate(&self) -> f64 {
        let stop = Arc::new(AtomicBool::new(false));
        let started = Instant::now();
        for (orders, _) in &self.threads {
            orders.send(Run::Until(stop.clone())).expect("the thread lives");
        }
        tokio::time::sleep(ROUND).await;
        stop.store(true, Ordering::Relaxed);
        let images: usize = self.threads.iter().map(|(_, done)| done.recv().expect("the thread lives")).sum();
        images as f64 / started.elapsed().as_secs_f64()
    }

    /// Measures one recognition.
    fn one(&self, i: usize) -> Duration {
        let (orders, done) = &self.threads[0];
        let started = Instant::now();
        orders.send(Run::One(i)).expect("the thread lives");
        done.recv().expect("the thread lives");
        started.elapsed()
    }
}

/// Returns a photo as a browser's form. Forms are built once, so that the client's work is not measured.
fn form(photo: &[u8]) -> Bytes {
    let head = "--rollcall\r\nContent-Disposition: form-data; name=\"myfile\"; filename=\"photo.jpg\"\r\n\r\n";
    [head.as_bytes(), photo, b"\r\n--rollcall--\r\n"].concat().into()
}

/// Uploads a photo and waits for the label.
async fn post(client: &Client, url: &str, form: &Bytes) {
    let request = client.post(url).header(CONTENT_TYPE, "multipart/form-data; boundary=rollcall");
    let response = request.body(form.clone()).send().await.expect("an answer");
    assert_eq!(response.status(), 200);
    response.bytes().await.expect("the label");
}

/// Measures images per second over HTTP, with `waiting` concurrent requests.
async fn end_to_end_rate(client: &Client, url: &str, forms: &[Bytes], waiting: usize) -> f64 {
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    let answered = AtomicUsize::new(0);
    let clients = (0..waiting).map(|_| async {
        while started.elapsed() < ROUND {
            let i = next.fetch_add(1, Ordering::Relaxed);
            post(client, url, &forms[i % forms.len()]).await;
            answered.fetch_add(1, Ordering::Relaxed);
        }
    });
    join_all(clients).await;
    answered.into_inner() as f64 / started.elapsed().as_secs_f64()
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the median time of single requests in milliseconds, for the bare loop and end to end.
async fn singles(bare: &Bare, client: &Client, url: &str, forms: &[Bytes]) -> (f64, f64) {
    let histogram = || Histogram::<u64>::new(3).expect("3 digits");
    let (mut alone, mut whole) = (histogram(), histogram());
    for i in 0..SINGLES * forms.len() {
        let took = bare.one(i);
        alone.record(took.as_micros() as u64).expect("in range");
        let started = Instant::now();
        post(client, url, &forms[i % forms.len()]).await;
        whole.record(started.elapsed().as_micros() as u64).expect("in range");
    }
    let p50 = |h: &Histogram<u64>| h.value_at_quantile(0.5) as f64 / 1e3;
    (p50(&alone), p50(&whole))
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let paths = sample_photos();
    let photos: Arc<Vec<Vec<u8>>> = Arc::new(paths.iter().map(|p| std::fs::read(p).expect("a photo")).collect());

    let forms: Vec<Bytes> = photos.iter().map(|photo| form(photo)).collect();

    let options = RollcallOptions::default()
        .enroll(KNOWN)
        .env("ROLLCALL__FLEET__MAX_INSTANCES", &threads.to_string())
        .env("ROLLCALL__WORKER__THREADS", "1")
        .env("ROLLCALL__WORKER__IDLE_STOP", "1h");
    let server = Rollcall::start(options).await;
    let objects = LocalObjects::open(server.data_dir()).expect("the server's store");
    let settings = settings();
    let store = GalleryStore::new(Arc::new(objects), settings.store.state, settings.gallery);
    let gallery = store.load().await.expect("the server's gallery");
    let bare = Bare::start(threads, &photos, &gallery);

    let (client, url) = (Client::new(), server.url("/"));
    let waiting = threads * DEPTH;
    wait_until("all workers run", START, async || {
        join_all((0..waiting).map(|i| post(&client, &url, &forms[i % forms.len()]))).await;
        server.fleet().await["counts"]["running"] == threads
    })
    .await;
    bare.rate().await; // a warm-up

    println!("{threads} threads, {} photos, {ROUNDS} rounds of {} s each\n", photos.len(), ROUND.as_secs());
    println!("round   bare images/s   e2e images/s    ratio");
    let (mut bares, mut end_to_ends, mut ratios) = (vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        let (alone, whole) = (bare.rate().await, end_to_end_rate(&client, &url, &forms, waiting).await);
        println!("{round:>5}   {alone:>13.1}   {whole:>13.1}   {:.3}", whole / alone);
        bares.push(alone);
        end_to_ends.push(whole);
        ratios.push(whole / alone);
    }
    println!(
        "{:>5}   {:>13.1}   {:>13.1}   {:.3}",
        "p50",
        median(&mut bares),
        median(&mut end_to_ends),
        median(&mut ratios)
    );

    let (alone, whole) = singles(&bare, &client, &url, &forms).await;
    println!("\nsingle requests, p50: bare {alone:.2} ms, end to end {whole:.2} ms, added {:.2} ms", whole - alone);
}
