//! The recognition loop alone, from an image to a name: what the hardware and the models allow.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use rollcall::{
    inference::{factory::factory, gallery::Gallery},
    settings::Recognition,
};

use super::cpu;

/// Photos of one kind, shared by all threads.
pub type Photos = Arc<Vec<Bytes>>;

/// A request to a thread, which returns the number of images.
enum Run {
    /// Recognises all photos again and again until the flag is set.
    Until(Photos, Arc<AtomicBool>),
    /// Recognises one photo once.
    One(Bytes),
}

/// Threads with one recogniser each, which run on request.
pub struct Bare {
    threads: Vec<(SyncSender<Run>, Receiver<usize>)>,
}

/// What was measured in one round.
#[derive(Clone, Copy, Default)]
pub struct Rate {
    /// Images per second of all threads.
    pub images: f64,
    /// Milliseconds of CPU per image.
    pub cpu_ms: f64,
}

impl Bare {
    /// Starts the threads.
    pub fn start(threads: usize, settings: &Recognition, gallery: &Arc<Gallery>) -> Self {
        let thread = |_| {
            let (orders, todo) = sync_channel(1);
            let (results, done) = sync_channel(1);
            let (settings, gallery) = (settings.clone(), gallery.clone());
            thread::spawn(move || {
                let mut recogniser = factory(&settings).build().expect("the models are installed");
                let mut see = |image: &[u8]| {
                    recogniser.recognise(image, &gallery, false).expect("a photo is recognised");
                };
                while let Ok(order) = todo.recv() {
                    let images = match order {
                        Run::Until(photos, stop) => {
                            let images = photos.iter().cycle().take_while(|_| !stop.load(Ordering::Relaxed));
                            images.map(|image| see(image)).count()
                        }
                        Run::One(image) => {
                            see(&image);
                            1
                        }
                    };
                    results.send(images).expect("the benchmark receives results");
                }
            });
            (orders, done)
        };
        Self { threads: (0..threads).map(thread).collect() }
    }

    /// Measures one round.
    pub async fn rate(&self, photos: &Photos, round: Duration) -> Rate {
        let stop = Arc::new(AtomicBool::new(false));
        let (started, cpu) = (Instant::now(), cpu::own());
        for (orders, _) in &self.threads {
            orders.send(Run::Until(photos.clone(), stop.clone())).expect("the thread is alive");
        }
        tokio::time::sleep(round).await;
        stop.store(true, Ordering::Relaxed);
        let images: usize = self.threads.iter().map(|(_, done)| done.recv().expect("the thread is alive")).sum();
        let cpu_ms = (cpu::own() - cpu).as_secs_f64() * 1e3 / images as f64;
        Rate { images: images as f64 / started.elapsed().as_secs_f64(), cpu_ms }
    }

    /// Measures one recognition.
    pub fn one(&self, image: Bytes) -> Duration {
        let (orders, done) = &self.threads[0];
        let started = Instant::now();
        orders.send(Run::One(image)).expect("the thread is alive");
        done.recv().expect("the thread is alive");
        started.elapsed()
    }
}
