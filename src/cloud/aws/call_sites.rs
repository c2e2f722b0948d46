//! Shows that tests reach every place that calls AWS.
//!
//! A call that no test makes is one whose parameters, rights and errors nobody has seen. A debug build appends the place of
//! each call to the file that `ROLLCALL_CALL_SITES` names; `make call-sites` lists them with the tests that reach them.

/// Marks the place of a call.
pub(crate) trait CallSite: Sized {
    /// Returns the call itself, before it is sent.
    #[track_caller]
    fn recorded(self) -> Self {
        #[cfg(debug_assertions)]
        record::append(std::panic::Location::caller());
        self
    }
}

impl<T> CallSite for T {}

#[cfg(debug_assertions)]
mod record {
    use std::{
        collections::BTreeSet,
        env,
        fs::{File, OpenOptions},
        io::Write as _,
        panic::Location,
        sync::{Mutex, OnceLock, PoisonError},
    };

    /// The file, and the places that this process has written to it.
    struct Record {
        file: File,
        written: BTreeSet<String>,
    }

    /// `None` if nothing is recorded.
    static RECORD: OnceLock<Option<Mutex<Record>>> = OnceLock::new();

    fn open() -> Option<Mutex<Record>> {
        let path = env::var_os("ROLLCALL_CALL_SITES")?;
        let file = OpenOptions::new().create(true).append(true).open(path).ok()?;
        Some(Mutex::new(Record { file, written: BTreeSet::new() }))
    }

    /// Writes the name of the test that this process belongs to, which nextest sets, and a place: once for each.
    pub(super) fn append(place: &Location<'_>) {
        let Some(record) = RECORD.get_or_init(open) else { return };
        let Record { file, written } = &mut *record.lock().unwrap_or_else(PoisonError::into_inner);
        let place = format!("{}:{}", place.file(), place.line());
        if !written.contains(&place) {
            let test = env::var("NEXTEST_TEST_NAME").unwrap_or_default();
            // A single write, so that lines of several processes do not mix. The record is for tests only, so a call
            // does not fail because of it.
            let _ = file.write_all(format!("{test}\t{place}\n").as_bytes());
            written.insert(place);
        }
    }
}
