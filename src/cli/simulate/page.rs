//! A self-contained HTML page with the plots of all runs, side by side.

use anyhow::Result;

use super::{
    plots::{self, Axes},
    text,
};
use crate::simulator::Run;

const STYLE: &str = "body{font:14px/1.4 sans-serif;margin:1.5rem;color:#222}\
    .runs{display:flex;gap:1.5rem;overflow-x:auto}.run{flex:0 0 auto}h2{font-size:1rem;margin:0}\
    pre{background:#f4f4f4;padding:1rem;overflow-x:auto}svg{display:block;margin-top:.6rem}";

/// Returns the page.
///
/// # Errors
/// A plot cannot be drawn.
pub fn page(runs: &[Run]) -> Result<String> {
    let axes = Axes::of(runs);
    let reports: Vec<_> = runs.iter().map(|run| &run.report).collect();
    let title = reports.first().map_or_else(String::new, |r| escaped(&format!("{}, seed {}", r.trace, r.seed)));
    let mut columns = String::new();
    for run in runs {
        let label = escaped(&run.report.label);
        columns += &format!(
            "<section class=\"run\"><h2>{label}</h2>\n{}\n{}\n{}\n</section>\n",
            plots::queue(run, axes)?,
            plots::instances(run, axes)?,
            plots::latency(run, axes)?
        );
    }
    Ok(format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>rollcall simulate: {title}</title>\n\
         <style>{STYLE}</style></head><body>\n<h1>{title}</h1>\n<pre>{}</pre>\n<div class=\"runs\">\n{columns}</div>\n\
         </body></html>\n",
        escaped(&text::text(&reports))
    ))
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
