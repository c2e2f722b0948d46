//! Settings: the text of a file.

use std::{cell::RefCell, collections::HashMap, fmt::Write as _, io::Write as _};

use tempfile::NamedTempFile;

use crate::settings::{Entry, Layers, Machine, Settings};

thread_local! {
    // In memory, where there is such a folder: it is written thousands of times per second.
    static FILE: RefCell<NamedTempFile> = RefCell::new(
        NamedTempFile::new_in("/dev/shm").or_else(|_| NamedTempFile::new()).expect("a temporary file"),
    );
}

/// Reads a file of settings. What can be read can be shown, and is read again as it is shown.
pub(super) fn settings(input: &[u8]) {
    let Ok(layers) = load(input) else { return };
    let entries: Vec<_> = layers.entries().collect();
    let mut text = String::new();
    for Entry { key, value, .. } in entries.iter().filter(|entry| entry.origin != "default") {
        writeln!(text, "{key} = {value}").expect("a string can be written");
    }
    let again = load(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
    assert_eq!(again.entries().collect::<Vec<_>>(), entries);
    let _ = Settings::effective(&layers, Machine::with_cores(2));
    let _ = Settings::for_simulation(&layers);
}

fn load(text: &[u8]) -> Result<Layers, String> {
    FILE.with_borrow_mut(|file| {
        let written =
            file.as_file().set_len(0).and_then(|()| std::io::Seek::rewind(file)).and_then(|()| file.write_all(text));
        written.expect("a temporary file can be written");
        Layers::load(Some(file.path()), HashMap::new()).map_err(|error| error.to_string())
    })
}

/// Returns the files of this project, and short ones.
pub(super) fn seeds() -> Vec<(&'static str, Vec<u8>)> {
    let texts = [
        ("aws", include_str!("../../config/aws.toml")),
        ("report", include_str!("../../config/report.toml")),
        (
            "strings",
            "http.hosts = [\"a\", 'b']\nhttp.listen = \"[::1]:80\"\nhttp.deadline = '2m'\nlocal.data_dir = \"\\u0001\"\n",
        ),
        ("numbers", "[fleet]\nmax_instances = 0x10\n[recognition]\nthreshold = 1e-1\nmax_pixels = 1_000\n"),
        ("tables", "http = { max_upload = \"1MiB\", threads = \"auto\" }\n[[fleet.schedule]]\n"),
        ("wrong", "[http]\nlisten = 1979-05-27T07:32:00Z\nport = nan\n"),
    ];
    texts.map(|(name, text)| (name, text.as_bytes().to_vec())).into()
}
