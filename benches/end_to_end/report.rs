//! The results of the benchmark, as a table and as JSON.

use serde::Serialize;

/// The medians of one case.
#[derive(Serialize)]
pub struct Row {
    /// Id of the model that embeds faces.
    pub model: String,
    pub photos: &'static str,
    /// Uploads at a time.
    pub waiting: usize,
    /// Images per second of the bare loop.
    pub bare_images_per_s: f64,
    /// Images per second over HTTP and back.
    pub images_per_s: f64,
    /// The same in relation to the bare loop, as if the client had needed no CPU time.
    pub ratio: f64,
    /// Milliseconds of CPU per image: of the bare loop, of the server, of its workers beyond the bare loop, of the
    /// client.
    pub bare_cpu_ms: f64,
    pub parent_cpu_ms: f64,
    pub worker_extra_cpu_ms: f64,
    pub client_cpu_ms: f64,
    /// Milliseconds from an upload to its response.
    pub p50_ms: f64,
    pub p99_ms: f64,
}

/// The times of single uploads, each next to a bare recognition of the same photo, in milliseconds.
#[derive(Serialize)]
pub struct Single {
    pub model: String,
    pub photos: &'static str,
    pub bare_p50_ms: f64,
    pub added_p50_ms: f64,
    pub added_p99_ms: f64,
}

/// Everything that was measured.
#[derive(Default, Serialize)]
pub struct Report {
    pub threads: usize,
    pub rounds: usize,
    pub round_s: f64,
    pub rows: Vec<Row>,
    pub singles: Vec<Single>,
    /// Largest memory of the server and of a worker in MB, by model.
    pub peak_mb: Vec<(String, f64, f64)>,
}

/// Returns the median.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

impl Row {
    /// Prints the head of the table.
    pub fn print_head() {
        println!(
            "{:<18} {:<21} {:>5} {:>8} {:>8} {:>6} {:>24} {:>7} {:>13}",
            "", "", "", "bare", "", "", "CPU ms per image", "", "response ms"
        );
        println!(
            "{:<18} {:<21} {:>5} {:>8} {:>8} {:>6} {:>7} {:>7} {:>8} {:>7} {:>6} {:>6}",
            "model",
            "photos",
            "at a time",
            "images/s",
            "images/s",
            "ratio",
            "bare",
            "parent",
            "workers+",
            "client",
            "p50",
            "p99"
        );
    }

    pub fn print(&self) {
        println!(
            "{:<18} {:<21} {:>9} {:>8.1} {:>8.1} {:>6.3} {:>7.2} {:>7.2} {:>8.2} {:>7.2} {:>6.1} {:>6.1}",
            self.model,
            self.photos,
            self.waiting,
            self.bare_images_per_s,
            self.images_per_s,
            self.ratio,
            self.bare_cpu_ms,
            self.parent_cpu_ms,
            self.worker_extra_cpu_ms,
            self.client_cpu_ms,
            self.p50_ms,
            self.p99_ms
        );
    }
}

impl Single {
    pub fn print(&self) {
        println!(
            "{:<18} {:<21} one at a time: bare p50 {:.2} ms, added p50 {:.2} ms, p99 {:.2} ms",
            self.model, self.photos, self.bare_p50_ms, self.added_p50_ms, self.added_p99_ms
        );
    }
}
