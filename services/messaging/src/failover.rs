//! Two ways to live with providers that fail.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use mosaic::{Code, Context, Error, Result};

use crate::model::Message;
use crate::sender::{Sender, caller_gave_up};

/// Starts each message at the next provider and goes on until one takes it.
///
/// Spreads load and needs no memory of failures; a provider that is down costs its share of messages one timeout each.
/// A caller that has run out of time gets its own failure back: trying further would be work for nobody.
pub(crate) struct Rotation {
    providers: Vec<Arc<dyn Sender>>,
    next: AtomicUsize,
}

impl Rotation {
    /// Makes a rotation over `providers`, of which there is at least one.
    pub(crate) fn new(providers: Vec<Arc<dyn Sender>>) -> Self {
        Self {
            providers,
            next: AtomicUsize::new(0),
        }
    }
}

#[mosaic::async_trait]
impl Sender for Rotation {
    async fn send(&self, cx: &Context, message: &Message) -> Result<()> {
        let start = self.next.fetch_add(1, Ordering::Relaxed);
        let mut last = Error::unavailable("NO_PROVIDER", "there is no provider");
        for step in 0..self.providers.len() {
            let provider = &self.providers[start.wrapping_add(step) % self.providers.len()];
            match provider.send(cx, message).await {
                Ok(()) => return Ok(()),
                Err(error) if caller_gave_up(cx) || error.code() == Code::Cancelled => return Err(error),
                Err(error) => {
                    metrics::counter!("mosaic_message_failovers_total", "kind" => "rotation").increment(1);
                    last = error;
                }
            }
        }
        Err(last)
    }
}

/// Sends everything to one provider until it has timed out `switch_after` times in a row, then to the next.
///
/// Only timeouts count: a provider that refuses is alive. State is one number (which provider, how many timeouts), so
/// that of many senders that see the last timeout together exactly one switches.
pub(crate) struct HealthFailover {
    providers: Vec<Arc<dyn Sender>>,
    switch_after: u32,
    /// Provider in the high half, timeouts in a row in the low half.
    state: AtomicU64,
}

impl HealthFailover {
    /// Makes a failover over `providers`, of which there is at least one.
    pub(crate) fn new(providers: Vec<Arc<dyn Sender>>, switch_after: u32) -> Self {
        Self {
            providers,
            switch_after: switch_after.max(1),
            state: AtomicU64::new(0),
        }
    }

    /// Records a timeout of the provider `epoch`; a late one of a provider that was left counts for nobody.
    fn timed_out(&self, epoch: u64) {
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            if state >> 32 != epoch {
                return None;
            }
            let timeouts = (state & u64::from(u32::MAX)) + 1;
            let switch = timeouts >= u64::from(self.switch_after);
            Some(if switch {
                (epoch + 1) << 32
            } else {
                (epoch << 32) | timeouts
            })
        });
        if self.state.load(Ordering::Acquire) >> 32 != epoch {
            metrics::counter!("mosaic_message_failovers_total", "kind" => "health").increment(1);
            tracing::warn!(epoch, "a message provider keeps timing out; switched to the next");
        }
    }

    /// Records a sign of life of the provider `epoch`.
    fn answered(&self, epoch: u64) {
        let _ = self.state.fetch_update(Ordering::AcqRel, Ordering::Acquire, |state| {
            (state >> 32 == epoch && state != epoch << 32).then_some(epoch << 32)
        });
    }
}

#[mosaic::async_trait]
impl Sender for HealthFailover {
    async fn send(&self, cx: &Context, message: &Message) -> Result<()> {
        let epoch = self.state.load(Ordering::Acquire) >> 32;
        let provider_idx = usize::try_from(epoch).unwrap_or(0) % self.providers.len();
        let outcome = self.providers[provider_idx].send(cx, message).await;
        match &outcome {
            Err(error) if error.code() == Code::DeadlineExceeded && !caller_gave_up(cx) => self.timed_out(epoch),
            Ok(()) | Err(_) => self.answered(epoch),
        }
        outcome
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::sender::script::{Act, Scripted, cx, message};

    fn ports(providers: &[Arc<Scripted>]) -> Vec<Arc<dyn Sender>> {
        providers
            .iter()
            .map(|provider| provider.clone() as Arc<dyn Sender>)
            .collect()
    }

    #[tokio::test]
    async fn a_rotation_moves_its_start_on() {
        let providers = [Scripted::new(&[]), Scripted::new(&[]), Scripted::new(&[])];
        let rotation = Rotation::new(ports(&providers));
        for _ in 0..6 {
            rotation.send(&cx(), &message("a")).await.unwrap();
        }
        assert_eq!(providers.each_ref().map(|provider| provider.n_taken()), [2, 2, 2]);
    }

    #[tokio::test]
    async fn a_rotation_goes_on_past_those_that_fail_and_says_so_if_all_do() {
        let providers = [
            Scripted::new(&[Act::Fail, Act::Fail]),
            Scripted::new(&[Act::TimeOut, Act::Fail]),
        ];
        let rotation = Rotation::new(ports(&providers));
        let third = Scripted::new(&[]);
        let with_third = Rotation::new(ports(&[providers[0].clone(), providers[1].clone(), third.clone()]));
        with_third.send(&cx(), &message("a")).await.unwrap();
        assert_eq!(third.n_taken(), 1);
        assert_eq!(
            rotation.send(&cx(), &message("b")).await.unwrap_err().reason(),
            "PROVIDER_DOWN"
        );
    }

    #[tokio::test]
    async fn a_caller_out_of_time_is_not_served_elsewhere() {
        let providers = [Scripted::new(&[Act::TimeOut]), Scripted::new(&[])];
        let rotation = Rotation::new(ports(&providers));
        let cx = cx().with_timeout(Duration::ZERO);
        assert_eq!(
            rotation.send(&cx, &message("a")).await.unwrap_err().code(),
            Code::DeadlineExceeded
        );
        assert_eq!(providers[1].n_asked(), 0);
    }

    #[tokio::test]
    async fn health_switches_after_timeouts_in_a_row_only() {
        use Act::{Fail, Take, TimeOut};
        let providers = [
            Scripted::new(&[TimeOut, TimeOut, Take, TimeOut, Fail, TimeOut, TimeOut, TimeOut]),
            Scripted::new(&[]),
        ];
        let failover = HealthFailover::new(ports(&providers), 3);
        for _ in 0..8 {
            let _ = failover.send(&cx(), &message("a")).await;
        }
        assert_eq!((providers[0].n_asked(), providers[1].n_asked()), (8, 0));
        failover.send(&cx(), &message("b")).await.unwrap();
        assert_eq!((providers[0].n_asked(), providers[1].n_taken()), (8, 1));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn many_that_time_out_together_switch_once() {
        let providers = [
            Scripted::new(&[Act::TimeOut; 100]),
            Scripted::new(&[]),
            Scripted::new(&[]),
        ];
        let failover = Arc::new(HealthFailover::new(ports(&providers), 3));
        let group = mosaic::TaskGroup::new(|panic| panic!("{panic:?}"));
        let (done, mut all) = tokio::sync::mpsc::channel(50);
        for _ in 0..50 {
            let (failover, done) = (failover.clone(), done.clone());
            group.spawn("sender", async move {
                let _ = failover.send(&cx(), &message("a")).await;
                done.send(()).await.unwrap();
            });
        }
        for _ in 0..50 {
            all.recv().await.unwrap();
        }
        assert!(providers[0].n_asked() >= 3);
        assert_eq!(providers[2].n_asked(), 0, "switched past the healthy one");
        assert_eq!(providers[0].n_asked() + providers[1].n_taken(), 50);
    }
}
