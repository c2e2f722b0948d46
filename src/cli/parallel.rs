//! Computes independent results on several threads.

use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

/// Returns the number of threads to use: `wanted`, or one per core.
pub fn threads(wanted: Option<usize>) -> usize {
    wanted.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)).max(1)
}

/// Returns the result of each item, in the order of the items. Their order of computation does not matter to a pure `work`.
pub fn map<T: Sync, R: Send>(items: &[T], threads: usize, work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::with_capacity(items.len())));
    std::thread::scope(|scope| {
        for _ in 0..threads.min(items.len()) {
            scope.spawn(|| {
                while let Some((n, item)) =
                    Some(next.fetch_add(1, Ordering::Relaxed)).and_then(|n| Some((n, items.get(n)?)))
                {
                    let result = work(item);
                    // A thread that panics ends the scope with a panic, so nobody sees what it leaves.
                    done.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push((n, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_unstable_by_key(|(n, _)| *n);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_the_order_of_the_items_whatever_the_number_of_threads() {
        let items: Vec<u64> = (0..100).collect();
        let squares: Vec<u64> = items.iter().map(|n| n * n).collect();
        for count in [1, 3, 200] {
            assert_eq!(map(&items, count, |n| n * n), squares);
        }
        assert_eq!(map(&[] as &[u64], 4, |n| n * n), [0; 0]);
        assert_eq!((threads(Some(3)), threads(Some(0))), (3, 1));
        assert!(threads(None) > 0);
    }
}
