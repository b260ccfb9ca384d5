//! Follows one service in etcd, for ever: list, then watch from the next revision on.
//!
//! A stream may die without a word, so silence is asked to prove that it is only silence: every ten seconds a progress
//! request, which etcd answers on the same stream. Whatever goes wrong, what is known stays, and the next attempt begins
//! with a list; this covers lost events, compacted revisions and a store that was replaced, without a case for each.

use std::sync::Arc;
use std::time::Duration;

use mosaic_core::Runtime;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::Streaming;

use super::client::{CALL_TIMEOUT, Client};
use super::entry::{Layout, range_end};
use super::view::View;
use super::wire::watch_request::RequestUnion;
use super::wire::{RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse};
use crate::backoff::Backoff;
use crate::due::{COALESCE, Due};
use crate::feed::Publisher;

const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);
/// Two progress requests without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(25);

/// What a service is followed with.
#[derive(Debug, Clone)]
pub(crate) struct Follow {
    pub(crate) client: Arc<Client>,
    pub(crate) layout: Layout,
    /// How long those are kept whom a store that lost its data does not know.
    pub(crate) grace: Duration,
    pub(crate) runtime: Runtime,
}

/// Why a conversation ended.
enum Ended {
    /// What comes next was compacted away: list at once, the store is well.
    Compacted,
    Failed(String),
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Failed(status.message().to_owned())
    }
}

/// When something is to be done.
#[derive(Default)]
struct Dues {
    publish: Due,
    forget_missed: Due,
}

impl Follow {
    pub(crate) async fn run(self, publisher: Publisher) {
        let prefix = self.layout.prefix(publisher.service());
        let mut view = View::default();
        let mut backoff = Backoff::new(&self.runtime);
        let mut dues = Dues::default();
        loop {
            let mut returns = self.client.returns();
            match self
                .converse(&prefix, &mut view, &mut dues, &publisher, &mut backoff)
                .await
            {
                Ended::Compacted => publisher.restarted(),
                Ended::Failed(cause) => {
                    publisher.lost(&cause);
                    tokio::select! {
                        () = backoff.pause() => {}
                        _ = returns.changed() => {}
                    }
                }
            }
        }
    }

    async fn converse(
        &self,
        prefix: &str,
        view: &mut View,
        dues: &mut Dues,
        publisher: &Publisher,
        backoff: &mut Backoff,
    ) -> Ended {
        let (requests, mut responses) = match self.begin(prefix, view, publisher).await {
            Ok(begun) => begun,
            Err(ended) => return ended,
        };
        backoff.reset();
        dues.publish.clear();
        if view.misses_some() {
            dues.forget_missed.within(self.grace);
        }
        let mut heard = Instant::now();
        let mut ask = Instant::now() + PROGRESS_INTERVAL;
        loop {
            tokio::select! {
                response = responses.message() => match response {
                    Ok(Some(response)) => {
                        heard = Instant::now();
                        match take(prefix, view, response, publisher) {
                            Ok(true) => dues.publish.within(COALESCE),
                            Ok(false) => {}
                            Err(ended) => return ended,
                        }
                    }
                    Ok(None) => return Ended::Failed("etcd has ended the watch".to_owned()),
                    Err(status) => return status.into(),
                },
                () = dues.publish.reached() => {
                    dues.publish.clear();
                    publisher.publish(view.instances());
                }
                () = dues.forget_missed.reached() => {
                    dues.forget_missed.clear();
                    view.forget_missed();
                    publisher.publish(view.instances());
                }
                () = sleep_until(ask) => {
                    if heard.elapsed() > SILENCE_MAX {
                        return Ended::Failed("etcd is silent".to_owned());
                    }
                    ask += PROGRESS_INTERVAL;
                    // A full queue is silence as well, and will be taken for it.
                    let _ = requests.try_send(request(RequestUnion::ProgressRequest(WatchProgressRequest {})));
                }
            }
        }
    }

    /// Lists, publishes, and begins to watch.
    async fn begin(
        &self,
        prefix: &str,
        view: &mut View,
        publisher: &Publisher,
    ) -> Result<(mpsc::Sender<WatchRequest>, Streaming<WatchResponse>), Ended> {
        let list = RangeRequest {
            key: prefix.into(),
            range_end: range_end(prefix),
            ..RangeRequest::default()
        };
        view.replace(prefix, self.client.range(list).await?, publisher);
        publisher.publish(view.instances());

        let (requests, waiting) = mpsc::channel(4);
        let create = WatchCreateRequest {
            key: prefix.into(),
            range_end: range_end(prefix),
            start_revision: view.revision() + 1,
            progress_notify: true,
        };
        let _ = requests.try_send(request(RequestUnion::CreateRequest(create)));
        let mut responses = self.client.watch(waiting).await?;
        match tokio::time::timeout(CALL_TIMEOUT, responses.message()).await {
            Ok(Ok(Some(response))) if response.created && !response.canceled => Ok((requests, responses)),
            Ok(Ok(Some(response))) => Err(ended_by(&response)),
            Ok(Ok(None)) => Err(Ended::Failed("etcd has ended the watch".to_owned())),
            Ok(Err(status)) => Err(status.into()),
            Err(_) => Err(Ended::Failed("etcd did not begin the watch in time".to_owned())),
        }
    }
}

fn request(union: RequestUnion) -> WatchRequest {
    WatchRequest {
        request_union: Some(union),
    }
}

/// Takes a response; returns whether it changes something.
fn take(prefix: &str, view: &mut View, response: WatchResponse, publisher: &Publisher) -> Result<bool, Ended> {
    if response.canceled {
        return Err(ended_by(&response));
    }
    publisher.alive();
    let revision = response.header.map_or(0, |header| header.revision);
    Ok(view.apply(prefix, revision, response.events, publisher))
}

fn ended_by(response: &WatchResponse) -> Ended {
    if response.compact_revision > 0 {
        Ended::Compacted
    } else {
        Ended::Failed(format!("etcd has cancelled the watch: {}", response.cancel_reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cancelled_watch_is_begun_anew_at_once_only_after_a_compaction() {
        let publisher = Publisher::new(&"users".parse().unwrap(), &Runtime::system());
        let cancelled = |compact_revision| {
            let response = WatchResponse {
                canceled: true,
                compact_revision,
                cancel_reason: "etcdserver: no leader".to_owned(),
                ..WatchResponse::default()
            };
            take("service/users/", &mut View::default(), response, &publisher)
        };
        assert!(matches!(cancelled(7), Err(Ended::Compacted)));
        assert!(matches!(cancelled(0), Err(Ended::Failed(cause)) if cause.contains("no leader")));
    }
}
