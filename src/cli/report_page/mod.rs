//! A page that compares runs of a fleet: figures, cost against waiting, and each run over time.
//!
//! The page is self-contained: style, scripts and data are in the file, and it works without a network.

mod timeline;

use anyhow::Result;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::Serialize;

pub use timeline::{Request, Timeline};

const PAGE: &str = include_str!("page.html");
const STYLES: [&str; 3] =
    [include_str!("../../../pages/page.css"), include_str!("../../../pages/fleet.css"), include_str!("page.css")];
/// The modules that the page shares with those of the server, and its own.
const MODULES: [(&str, &str); 3] = [
    ("numbers.js", include_str!("../../../pages/numbers.js")),
    ("chart.js", include_str!("../../../pages/chart.js")),
    ("report.js", include_str!("report.js")),
];

/// What a page shows.
#[derive(Clone, Debug, Serialize)]
pub struct ReportPage {
    /// The command that has made it.
    pub command: &'static str,
    /// What the runs have in common.
    pub title: String,
    /// One paragraph each.
    pub notes: Vec<String>,
    /// The columns of the table, beside the name of the run.
    pub columns: Vec<Column>,
    /// The runs.
    pub runs: Vec<PageRun>,
    /// Settings and other facts: a name and a value.
    pub facts: Vec<(String, String)>,
}

/// A column of the table.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Column {
    /// Its head.
    pub name: &'static str,
    /// What is shown beside the head, for example "s".
    pub unit: &'static str,
}

/// A run.
#[derive(Clone, Debug, Serialize)]
pub struct PageRun {
    /// Its name.
    pub name: String,
    /// One value per column.
    pub figures: Vec<Option<f64>>,
    /// Cost, and 99th percentile of waiting in seconds, if both are known.
    pub point: Option<(f64, f64)>,
    /// What happened over time.
    pub timeline: Timeline,
}

impl ReportPage {
    /// Returns the page as HTML.
    ///
    /// # Errors
    /// A number cannot be written as JSON.
    pub fn html(&self) -> Result<String> {
        // Data URLs have no folder, so modules refer to one another by names, which the import map resolves.
        let modules = MODULES.map(|(name, text)| {
            (name, format!("data:text/javascript;base64,{}", STANDARD.encode(text.replace("from './", "from '"))))
        });
        let imports: std::collections::BTreeMap<_, _> = modules.into();
        // Inside of a script element, "</" would end it.
        let json = |value: String| value.replace("</", "<\\/");
        Ok(PAGE
            .replace("/*STYLE*/", &STYLES.join("\n"))
            .replace("{/*IMPORTS*/}", &json(serde_json::to_string(&imports)?))
            .replace("{/*DATA*/}", &json(serde_json::to_string(self)?)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_in_the_data_ends_the_script_and_no_module_is_loaded_from_elsewhere() {
        let page = ReportPage {
            command: "simulate",
            title: "</script><b>".into(),
            notes: Vec::new(),
            columns: Vec::new(),
            runs: Vec::new(),
            facts: vec![("{/*DATA*/}".into(), "{/*IMPORTS*/}".into())],
        };
        let html = page.html().expect("a page");
        assert_eq!(html.matches("</script>").count(), html.matches("<script").count());
        assert!(!html.contains("</script><b>") && !html.contains("http://") && !html.contains("https://"));
        for (name, text) in MODULES {
            for import in text.lines().filter(|line| line.starts_with("import ")) {
                let known = MODULES.iter().any(|(other, _)| import.ends_with(&format!("from './{other}';")));
                assert!(known, "{name}: {import}");
            }
        }
    }
}
