//! Checks how much of the disk is free.

use std::path::Path;

use bytesize::ByteSize;

use super::finding::Finding;
use crate::cloud::local::free_bytes;

/// Checks the disk of the data folder.
pub(super) fn check(folder: &Path, min_free: u64) -> Finding {
    match free_bytes(folder) {
        Ok(free) => finding(free, min_free),
        Err(error) => {
            let remedy = "set local.data_dir to a folder of another disk".to_owned();
            Finding::new("disk", Err::<&str, _>((format!("{}: {error}", folder.display()), remedy)))
        }
    }
}

/// Judges the free bytes of a disk: less than twice `local.min_free` is a warning, less than that a fault.
fn finding(free: u64, min_free: u64) -> Finding {
    let bytes = |bytes| ByteSize(bytes).display().iec().to_string();
    let detail = format!("{} of the disk are free", bytes(free));
    let remedy = "delete what is not needed, use a larger disk, or lower store.retention_days";
    if free < min_free {
        let fault = format!("{detail}, so uploads are refused (local.min_free is {})", bytes(min_free));
        Finding::new("disk", Err::<&str, _>((fault, remedy.to_owned())))
    } else if free < min_free.saturating_mul(2) {
        let near = format!("{detail}; below {}, uploads are refused (local.min_free)", bytes(min_free));
        Finding::warning("disk", near, remedy)
    } else {
        Finding::new("disk", Ok(detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn less_than_twice_the_floor_is_a_warning_and_less_than_the_floor_is_a_fault() {
        for (free, warning, fault) in [(9, false, true), (10, true, false), (19, true, false), (20, false, false)] {
            let finding = finding(free, 10);
            assert_eq!((finding.is_warning, finding.is_fault()), (warning, fault), "{free}");
            assert_eq!(finding.result.is_err(), warning || fault, "{free}");
        }
        assert!(finding(0, 0).result.is_ok(), "there is no floor");
    }
}
