//! Which orphans may be deleted while the store is in use.
//!
//! Pure. An upload stores a large payload before it sends the job, so its payload looks like an orphan for a moment. What
//! is an orphan in each of several listings, between which far more time passes than an upload takes, is one. The
//! number of listings counts, not the time: a process that was halted for long finds that much time has passed and has
//! done nothing in it, but has that happen between two listings only.

use std::{collections::HashMap, mem};

use super::Orphan;

/// In how many listings in a row an object must be an orphan, so that more than one pause lies between the first and the
/// last.
const LISTINGS: u32 = 3;

/// In how many listings in a row each orphan has been found; see the [module](self).
#[derive(Debug, Default)]
pub struct Suspects {
    found: HashMap<Orphan, u32>,
}

impl Suspects {
    /// Takes the orphans of the next listing. Returns those that may be deleted.
    pub fn confirm(&mut self, listed: Vec<Orphan>) -> Vec<Orphan> {
        let earlier = mem::take(&mut self.found);
        let count = |orphan: Orphan| {
            let listings = earlier.get(&orphan).map_or(1, |listings| listings.saturating_add(1));
            (orphan, listings)
        };
        self.found = listed.into_iter().map(count).collect();
        self.found.iter().filter(|(_, listings)| **listings >= LISTINGS).map(|(orphan, _)| orphan.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cloud::ObjectInfo, job::JobId};

    fn orphan(id: u128, modified_ms: u64) -> Orphan {
        let object = ObjectInfo { key: JobId(id).to_string(), size: 1, modified_ms };
        Orphan { id: JobId(id), bucket: "input".into(), object }
    }

    #[test]
    fn an_orphan_may_be_deleted_once_three_listings_in_a_row_have_it() {
        let (left, upload) = (orphan(1, 5), orphan(2, 5));
        let mut suspects = Suspects::default();
        assert_eq!(suspects.confirm(vec![left.clone()]), []);
        assert_eq!(suspects.confirm(vec![left.clone(), upload.clone()]), []);
        // A process that is halted in the middle of an upload finds this listing due when it goes on.
        assert_eq!(suspects.confirm(vec![left.clone(), upload]), std::slice::from_ref(&left));
        assert_eq!(suspects.confirm(vec![left.clone()]), [left], "it could not be deleted");
    }

    #[test]
    fn an_object_that_was_no_orphan_in_between_or_was_put_again_counts_anew() {
        let mut suspects = Suspects::default();
        for listed in [vec![orphan(1, 5)], vec![orphan(1, 5)], vec![], vec![orphan(1, 5)], vec![orphan(1, 5)]] {
            assert_eq!(suspects.confirm(listed), []);
        }
        for _ in 0..2 {
            assert_eq!(suspects.confirm(vec![orphan(1, 6)]), []);
        }
        assert_eq!(suspects.confirm(vec![orphan(1, 6)]), [orphan(1, 6)]);
    }
}
