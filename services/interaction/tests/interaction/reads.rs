//! Reads and the history of who read what.

use std::time::Duration;

use mosaic_api::interaction::v1::{Cursor, GetManyRequest, ListHistoryRequest, ListLikedRequest};
use mosaic_testing::until;

use crate::support::{ARTICLE, Bench, Plan};

const TEN_SECONDS: Duration = Duration::from_secs(10);

impl Bench {
    async fn history(&self, account_id: i64) -> Vec<(i64, i64)> {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let request = ListHistoryRequest {
                account_id: self.who(account_id),
                biz: ARTICLE.to_owned(),
                before,
                limit: 2,
            };
            let page = self.client.list_history(&self.cx, request).await.unwrap().entries;
            let Some(last) = page.last() else { return all };
            before = Some(Cursor {
                at_us: last.at_us,
                biz_id: last.biz_id,
            });
            all.extend(page.iter().map(|entry| (entry.biz_id - self.id(0), entry.at_us)));
        }
    }
}

pub(crate) async fn reads_are_counted_and_remembered(plan: Plan) {
    let bench = plan.start().await;
    assert_eq!(bench.get(1, 0).await.reads, 0, "cached before the first");
    for n in 0..1000 {
        bench.read(n % 4 + 1, None, n);
    }
    for (item, at) in [(1, 10), (2, 20), (3, 30), (4, 30), (1, 40), (2, 5)] {
        bench.read(item, Some(7), at);
    }
    until("reads are counted", TEN_SECONDS, || async {
        let reads = [
            bench.get(1, 0).await,
            bench.get(2, 0).await,
            bench.get(3, 0).await,
            bench.get(4, 0).await,
        ];
        reads.map(|state| state.reads) == [252, 252, 251, 251]
    })
    .await;
    until("reads are remembered", TEN_SECONDS, || async {
        bench.history(7).await == [(1, 40), (4, 30), (3, 30), (2, 20)]
    })
    .await;
    // Late, and in a batch of its own: it was read since. Behind it, in the same partition, one that shows.
    bench.read(1, Some(7), 3);
    bench.read(1, Some(8), 50);
    until("what is late is handled", TEN_SECONDS, || async {
        bench.history(8).await == [(1, 50)]
    })
    .await;
    assert_eq!(bench.history(7).await[0], (1, 40));
    until("and counted", TEN_SECONDS, || async {
        bench.get(1, 0).await.reads == 254
    })
    .await;
    states_come_in_the_order_asked(&bench).await;
    bench.stop().await;
}

async fn states_come_in_the_order_asked(bench: &Bench) {
    bench.like(2, 7, true).await.unwrap();
    bench.like(4, 7, true).await.unwrap();
    let many = GetManyRequest {
        biz: ARTICLE.to_owned(),
        biz_ids: vec![bench.id(4), bench.id(9), bench.id(2), bench.id(4)],
        account_id: bench.who(7),
    };
    let many = bench.client.get_many(&bench.cx, many).await.unwrap().items;
    let shown = many
        .iter()
        .map(|state| (state.biz_id - bench.id(0), state.reads, state.likes, state.liked));
    assert_eq!(
        Vec::from_iter(shown),
        [
            (4, 251, 1, true),
            (9, 0, 0, false),
            (2, 252, 1, true),
            (4, 251, 1, true)
        ],
        "in their order"
    );
    let liked = ListLikedRequest {
        account_id: bench.who(7),
        biz: ARTICLE.to_owned(),
        limit: 1000,
    };
    let liked = bench.client.list_liked(&bench.cx, liked).await.unwrap().biz_ids;
    assert_eq!(liked, [bench.id(4), bench.id(2)], "last liked first");
}

pub(crate) async fn what_comes_twice_is_counted_once(plan: Plan) {
    let bench = plan.start().await;
    bench.read_repeated(1, 7, 5).await;
    bench.read_repeated(1, 8, 5).await;
    // Behind them, in the same partition: when it is counted, they are done with.
    bench.read_repeated(1, 9, 1).await;
    until("the last is counted", TEN_SECONDS, || async {
        !bench.history(9).await.is_empty() && bench.get(1, 0).await.reads >= 3
    })
    .await;
    assert_eq!(bench.get(1, 0).await.reads, 3);
    assert_eq!(bench.history(7).await.len(), 1);
    bench.stop().await;
}
