//! Collections and their folders.

use mosaic::Code;
use mosaic_api::interaction::v1::{
    CreateFolderRequest, Cursor, DeleteFolderRequest, ListCollectedIdsRequest, ListCollectedRequest,
    ListFoldersRequest, RenameFolderRequest,
};

use crate::support::{ARTICLE, Bench, Plan};

impl Bench {
    async fn create(&self, account_id: i64, name: &str) -> mosaic::Result<i64> {
        let request = CreateFolderRequest {
            account_id: self.who(account_id),
            biz: ARTICLE.to_owned(),
            name: name.to_owned(),
        };
        Ok(self.client.create_folder(&self.cx, request).await?.id)
    }

    async fn rename(&self, account_id: i64, folder_id: i64, name: &str) -> mosaic::Result<()> {
        let request = RenameFolderRequest {
            account_id: self.who(account_id),
            folder_id,
            name: name.to_owned(),
        };
        self.client.rename_folder(&self.cx, request).await
    }

    async fn delete(&self, account_id: i64, folder_id: i64) -> mosaic::Result<()> {
        let account_id = self.who(account_id);
        let request = DeleteFolderRequest { account_id, folder_id };
        self.client.delete_folder(&self.cx, request).await
    }

    async fn names(&self, account_id: i64) -> Vec<String> {
        let request = ListFoldersRequest {
            account_id: self.who(account_id),
            biz: ARTICLE.to_owned(),
        };
        let listed = self.client.list_folders(&self.cx, request).await.unwrap();
        listed.folders.into_iter().map(|folder| folder.name).collect()
    }

    async fn collected(&self, account_id: i64, folder_id: i64) -> Vec<i64> {
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let request = ListCollectedRequest {
                account_id: self.who(account_id),
                biz: ARTICLE.to_owned(),
                folder_id,
                before,
                limit: 2,
            };
            let page = self.client.list_collected(&self.cx, request).await.unwrap().entries;
            let Some(last) = page.last() else { return all };
            before = Some(Cursor {
                at_us: last.at_us,
                biz_id: last.biz_id,
            });
            all.extend(page.iter().map(|entry| entry.biz_id - self.id(0)));
        }
    }
}

pub(crate) async fn what_is_collected_moves_between_folders(plan: Plan) {
    let bench = plan.start().await;
    let folder = bench.create(1, "später 👋").await.unwrap();
    for item in [1, 2, 3] {
        bench.collect(item, 1, Some(0)).await.unwrap();
    }
    bench.collect(3, 2, Some(0)).await.unwrap();
    assert_eq!(bench.collected(1, 0).await, [3, 2, 1], "last collected first");
    bench.collect(2, 1, Some(folder)).await.unwrap();
    bench.collect(2, 1, Some(folder)).await.unwrap();
    assert_eq!(
        (bench.collected(1, 0).await, bench.collected(1, folder).await),
        (vec![3, 1], vec![2])
    );
    let state = bench.get(2, 1).await;
    assert_eq!((state.collects, state.collected, state.liked), (1, true, false));

    bench.delete(1, folder).await.unwrap();
    let mut left = bench.collected(1, 0).await;
    left.sort_unstable();
    assert_eq!(left, [1, 2, 3], "what was in it is in the default folder");
    assert_eq!(bench.get(2, 1).await.collects, 1);
    bench.collect(3, 1, None).await.unwrap();
    bench.collect(3, 1, None).await.unwrap();
    assert_eq!(bench.get(3, 1).await.collects, 1, "the other's");
    let ids = ListCollectedIdsRequest {
        account_id: bench.who(1),
        biz: ARTICLE.to_owned(),
        limit: 1000,
    };
    let mut ids = bench.client.list_collected_ids(&bench.cx, ids).await.unwrap().biz_ids;
    ids.sort_unstable();
    assert_eq!(ids, [bench.id(1), bench.id(2)]);
    bench.check_counters(&[1, 2, 3]).await;
    bench.stop().await;
}

pub(crate) async fn folders_are_their_owners(plan: Plan) {
    #[track_caller]
    fn check<T: std::fmt::Debug>(result: mosaic::Result<T>, code: Code, reason: &str) {
        let error = result.unwrap_err();
        assert_eq!((error.code(), error.reason()), (code, reason));
    }
    let bench = plan.start().await;
    let (mine, other) = (bench.create(1, "a").await.unwrap(), bench.create(1, "A").await.unwrap());
    bench.create(2, "a").await.unwrap();
    check(bench.create(1, "a").await, Code::AlreadyExists, "FOLDER_EXISTS");
    check(bench.rename(1, other, "a").await, Code::AlreadyExists, "FOLDER_EXISTS");
    bench.rename(1, mine, "b").await.unwrap();
    bench.rename(1, mine, "b").await.unwrap();
    assert_eq!(bench.names(1).await, ["b", "A"]);

    let (missing, reason) = (Code::NotFound, "FOLDER_NOT_FOUND");
    check(bench.rename(2, mine, "x").await, missing, reason);
    check(bench.delete(2, mine).await, missing, reason);
    check(bench.collect(1, 2, Some(mine)).await, missing, reason);
    check(bench.collect(1, 1, Some(mine + 7)).await, missing, reason);
    assert!(!bench.get(1, 2).await.collected);
    bench.collect(1, 1, Some(mine)).await.unwrap();
    // One that is not possible does not undo what others of its batch, or the same person, asked for.
    let (good, bad, later) = futures::join!(
        bench.collect(2, 1, Some(mine)),
        bench.collect(2, 1, Some(mine + 7)),
        bench.like(2, 1, true)
    );
    good.unwrap();
    check(bad, missing, reason);
    later.unwrap();
    assert_eq!(bench.collected(1, mine).await, [2, 1]);

    bench.delete(1, mine).await.unwrap();
    check(bench.delete(1, mine).await, missing, reason);
    check(bench.collect(1, 1, Some(mine)).await, missing, reason);
    assert_eq!(
        (bench.names(1).await, bench.names(2).await),
        (vec!["A".to_owned()], vec!["a".to_owned()])
    );
    let many = (0..110).map(|n| format!("folder {n}")).collect::<Vec<_>>();
    let made = futures::future::join_all(many.iter().map(|name| bench.create(1, name))).await;
    let (made, refused): (Vec<_>, Vec<_>) = made.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), bench.names(1).await.len()), (99, 100));
    refused
        .into_iter()
        .for_each(|refused| check(refused, Code::FailedPrecondition, "FOLDERS_TOO_MANY"));
    bench.stop().await;
}
