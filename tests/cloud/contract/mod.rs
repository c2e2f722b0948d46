//! The contract of each port, as test cases that every adapter must pass.

pub mod compute;
pub mod objects;
pub mod queue;

use futures_util::future::LocalBoxFuture;
use tokio::task::LocalSet;

/// Defines tests for contract cases: with `each`, one test per case; with `concurrently`, one test for all of them.
///
/// The latter is for adapters that need an emulator: it takes longer to start than most cases take.
#[macro_export]
macro_rules! contract_tests {
    (each, $port:ident, $adapter:ident, $world:path, $($case:ident)*) => {
        mod $adapter {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $crate::contract::$port::$case(&$world().await).await;
                }
            )*
        }
    };
    (concurrently, $port:ident, $adapter:ident, $world:path, $($case:ident)*) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $adapter() {
            $crate::contract::run_all(vec![$(
                (stringify!($case), Box::pin(async { $crate::contract::$port::$case(&$world().await).await })),
            )*])
            .await;
        }
    };
}

/// Runs cases concurrently and names those that failed.
#[cfg_attr(not(feature = "aws"), expect(dead_code))]
pub async fn run_all(cases: Vec<(&str, LocalBoxFuture<'static, ()>)>) {
    let tasks = LocalSet::new();
    let running: Vec<_> = cases.into_iter().map(|(name, case)| (name, tasks.spawn_local(case))).collect();
    tasks.await;
    let mut failed = Vec::new();
    for (name, task) in running {
        if task.await.is_err() {
            failed.push(name);
        }
    }
    assert!(failed.is_empty(), "these cases failed: {failed:?}");
}
