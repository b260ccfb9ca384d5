//! Every case on every engine, and in every shape on the embedded one.

use mosaic_testing::{Shape, engine_url};

use crate::support::Plan;
use crate::{folders, likes, reads};

macro_rules! on_every_engine {
    ($($module:ident::$case:ident),* $(,)?) => {
        mod sqlite {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    $module::$case(Plan::embedded()).await;
                }
            )*
        }
        mod postgres_and_redis {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let Some(redis) = engine_url("MOSAIC_TEST_REDIS") else { return };
                    if let Some(plan) = Plan::on("MOSAIC_TEST_POSTGRES").await {
                        $module::$case(plan.set("cache.url", &redis)).await;
                    }
                }
            )*
        }
        mod mysql {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    if let Some(plan) = Plan::on("MOSAIC_TEST_MYSQL").await {
                        $module::$case(plan).await;
                    }
                }
            )*
        }
    };
}

on_every_engine!(
    likes::who_likes_twice_is_counted_once,
    likes::who_likes_much_sees_it,
    likes::a_hundred_at_once_are_counted_exactly,
    likes::toggled_at_random_the_counters_are_the_rows,
    likes::two_processes_count_together,
    likes::a_like_is_told_with_the_number,
    folders::what_is_collected_moves_between_folders,
    folders::folders_are_their_owners,
    reads::reads_are_counted_and_remembered,
    reads::what_comes_twice_is_counted_once,
);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strict() {
    likes::who_likes_twice_is_counted_once(Plan::embedded().shape(Shape::Strict)).await;
    folders::what_is_collected_moves_between_folders(Plan::embedded().shape(Shape::Strict)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn apart() {
    const APART: Shape = Shape::Apart(&[&["content"], &["interaction"]]);
    likes::a_hundred_at_once_are_counted_exactly(Plan::embedded().shape(APART)).await;
    reads::reads_are_counted_and_remembered(Plan::embedded().shape(APART)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_cache_only_slows() {
    let plan = || Plan::embedded().set("cache.url", "redis://127.0.0.1:1");
    likes::who_likes_twice_is_counted_once(plan()).await;
    likes::toggled_at_random_the_counters_are_the_rows(plan()).await;
}
