//! The lists of articles that everybody sees, kept ready.
//!
//! They change every few seconds and are read all the time. A list that is older than [`FRESH_FOR`] is made anew by one of
//! those who ask; the others get the one there is, and so does everybody while it cannot be made: a hot list of a minute ago is
//! better than none.

use std::sync::Arc;
use std::time::Duration;

use mosaic::{Context, Result, Timestamp, lock};
use mosaic_api::content::v1::Article;
use tokio::sync::Mutex;

/// How old a list may be before somebody makes it anew.
const FRESH_FOR: Duration = Duration::from_secs(1);

struct Kept {
    articles: Arc<Vec<Article>>,
    made_at: Timestamp,
}

/// One list.
#[derive(Default)]
pub(crate) struct Chart {
    kept: std::sync::Mutex<Option<Kept>>,
    turn: Mutex<()>,
}

impl Chart {
    /// Returns the list, made by `make` if it is due and nobody else is at it.
    ///
    /// # Errors
    /// Those of `make` while there has never been a list.
    pub(crate) async fn get(
        &self,
        cx: &Context,
        make: impl AsyncFnOnce() -> Result<Vec<Article>>,
    ) -> Result<Arc<Vec<Article>>> {
        if let Some((articles, true)) = self.kept(cx) {
            return Ok(articles);
        }
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(_) => match self.kept(cx) {
                Some((articles, _)) => return Ok(articles),
                None => self.turn.lock().await,
            },
        };
        // Whoever had the turn before may have made it.
        if let Some((articles, true)) = self.kept(cx) {
            return Ok(articles);
        }
        match make().await {
            Ok(articles) => {
                let articles = Arc::new(articles);
                *lock(&self.kept) = Some(Kept {
                    articles: articles.clone(),
                    made_at: cx.runtime().now(),
                });
                Ok(articles)
            }
            Err(error) => match self.kept(cx) {
                Some((articles, _)) => {
                    tracing::warn!(
                        cause = error.cause_chain(),
                        "a list of articles could not be made: the last one is shown"
                    );
                    metrics::counter!("content_stale_charts_total").increment(1);
                    Ok(articles)
                }
                None => Err(error),
            },
        }
    }

    /// Returns what is kept, and whether it is fresh.
    fn kept(&self, cx: &Context) -> Option<(Arc<Vec<Article>>, bool)> {
        let kept = lock(&self.kept);
        let kept = kept.as_ref()?;
        let is_fresh = cx.runtime().now().since(kept.made_at) < FRESH_FOR;
        Some((kept.articles.clone(), is_fresh))
    }
}

#[cfg(test)]
mod tests {
    use mosaic::{Error, ManualClock, Runtime, SystemRandom};

    use super::*;

    fn article(id: i64) -> Vec<Article> {
        vec![Article {
            id,
            ..Article::default()
        }]
    }

    #[tokio::test]
    async fn a_list_is_made_when_due_and_shown_stale_when_it_cannot_be() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
        let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
        let cx = Context::new(&runtime);
        let chart = Chart::default();
        let away = async || Err(Error::unavailable("AWAY", "away"));
        assert!(chart.get(&cx, away).await.is_err());
        assert_eq!(chart.get(&cx, async || Ok(article(1))).await.unwrap()[0].id, 1);
        assert_eq!(chart.get(&cx, async || Ok(article(2))).await.unwrap()[0].id, 1);
        clock.advance(FRESH_FOR);
        assert_eq!(chart.get(&cx, away).await.unwrap()[0].id, 1);
        assert_eq!(chart.get(&cx, async || Ok(article(2))).await.unwrap()[0].id, 2);
    }

    #[tokio::test]
    async fn one_makes_it_and_the_others_have_the_last() {
        let clock = Arc::new(ManualClock::at(Timestamp::from_micros(0)));
        let runtime = Runtime::new(clock.clone(), Arc::new(SystemRandom));
        let cx = Context::new(&runtime);
        let chart = Chart::default();
        chart.get(&cx, async || Ok(article(1))).await.unwrap();
        clock.advance(FRESH_FOR);
        let nested = chart
            .get(&cx, async || {
                // While it is being made somebody else asks.
                let seen = chart.get(&cx, async || Ok(article(9))).await?;
                assert_eq!(seen[0].id, 1);
                Ok(article(2))
            })
            .await;
        assert_eq!(nested.unwrap()[0].id, 2);
    }
}
