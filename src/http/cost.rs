//! What the workers cost, for `/metrics`.

use std::{sync::Arc, time::Duration};

use metrics::gauge;
use tokio::{
    sync::watch,
    time::{Instant, timeout},
};

use crate::{fleet::view::FleetView, settings::Prices};

/// Longest time between two updates.
const EVERY: Duration = Duration::from_secs(5);

/// Adds up what the workers cost, view by view, until the fleet's view is no longer published.
pub(super) async fn follow(mut fleet: watch::Receiver<Arc<FleetView>>, prices: Prices) {
    let (mut dollars, mut last) = (0.0, Instant::now());
    loop {
        let per_hour = prices.workers_per_hour(&fleet.borrow_and_update().counts);
        gauge!("rollcall_worker_cost_dollars_per_hour").set(per_hour);
        if let Ok(Err(_)) = timeout(EVERY, fleet.changed()).await {
            return;
        }
        let elapsed = last.elapsed();
        last += elapsed;
        dollars += per_hour * elapsed.as_secs_f64() / 3600.0;
        gauge!("rollcall_worker_cost_dollars").set(dollars);
    }
}

#[cfg(test)]
mod tests {
    use metrics_exporter_prometheus::PrometheusBuilder;

    use super::*;
    use crate::fleet::Counts;

    #[tokio::test(start_paused = true)]
    async fn each_view_costs_until_the_next_one() {
        let recorder = PrometheusBuilder::new().build_recorder();
        let _recording = metrics::set_default_local_recorder(&recorder);
        let prices = Prices { instance_hour: 3.6, disk_gb_month: 0.0, disk_gb: 0.0, queue_million_calls: 0.0 };
        let (views, fleet) = watch::channel(Arc::new(FleetView::default()));
        let publish = |running| {
            views.send_modify(|view| Arc::make_mut(view).counts = Counts { running, ..Counts::default() });
        };
        let hours = async {
            tokio::time::sleep(Duration::from_secs(100)).await; // nothing runs
            publish(2);
            tokio::time::sleep(Duration::from_secs(1000)).await; // 2 · 0.001 dollars a second
            publish(1);
            tokio::time::sleep(Duration::from_secs(500)).await;
        };
        tokio::select! {
            () = follow(fleet, prices) => unreachable!("the views go on"),
            () = hours => {}
        }
        let rendered = recorder.handle().render();
        let value = |name: &str| -> f64 {
            let line = rendered.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
            line.expect(name).parse().expect("a number")
        };
        assert!((value("rollcall_worker_cost_dollars") - 2.5).abs() < 0.01, "{rendered}");
        assert!((value("rollcall_worker_cost_dollars_per_hour") - 3.6).abs() < 1e-9, "{rendered}");
    }
}
