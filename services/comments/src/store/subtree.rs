//! What hangs below a comment, and its removal.
//!
//! Found with a recursive query, a stride of levels at a time, so the work is that of the subtree and the queries are few.
//! One query for all levels would be cut off silently by MariaDB at `max_recursive_iterations` and refused by MySQL at
//! `cte_max_recursion_depth`, 1000 both unless somebody raised them. Cascading foreign keys end at 15 levels in InnoDB. A path
//! in each row would grow with the depth beyond what may be indexed, and a closure table with its square.
//!
//! The caller holds the lock of the item, so nothing comes or goes in between.

use mosaic::Result;
use mosaic::sql::sea_orm::entity::prelude::*;
use mosaic::sql::sea_orm::sea_query::{CommonTableExpression, ExprTrait as _, Query, UnionType, WithClause};
use mosaic::sql::{Transaction, into_error};

use super::comment;
use crate::model::CommentId;

/// Levels that one query goes down: below what any engine allows.
const STRIDE: i32 = 500;
/// Ids that one statement names.
const CHUNK: usize = 500;

/// Returns the ids of all comments below `top`.
pub(super) async fn below(tx: &Transaction, top: CommentId) -> Result<Vec<i64>> {
    let mut found = Vec::new();
    let mut ends = vec![top.get()];
    while !ends.is_empty() {
        let next = ends.split_off(ends.len().saturating_sub(CHUNK));
        for (id, depth) in stride(tx, next).await? {
            found.push(id);
            if depth == STRIDE {
                ends.push(id);
            }
        }
    }
    Ok(found)
}

/// Deletes the comments `ids`.
pub(super) async fn delete(tx: &Transaction, ids: &[i64]) -> Result<()> {
    for chunk in ids.chunks(CHUNK) {
        let rows = comment::Entity::delete_many().filter(comment::Column::Id.is_in(chunk.iter().copied()));
        rows.exec(tx).await.map_err(into_error)?;
    }
    Ok(())
}

/// Returns what hangs at most [`STRIDE`] levels below `parents`, with how deep it hangs.
async fn stride(tx: &Transaction, parents: Vec<i64>) -> Result<Vec<(i64, i32)>> {
    let children = Query::select()
        .column("id")
        .expr(Expr::cust("1"))
        .from("comment")
        .and_where(Expr::col("parent_id").is_in(parents))
        .to_owned();
    let deeper = Query::select()
        .column(("comment", "id"))
        .expr(Expr::cust("below.depth + 1"))
        .from("comment")
        .inner_join("below", Expr::col(("comment", "parent_id")).equals(("below", "id")))
        .and_where(Expr::cust(format!("below.depth < {STRIDE}")))
        .to_owned();
    let below = CommonTableExpression::new()
        .query(children.clone().union(UnionType::All, deeper).to_owned())
        .columns(["id", "depth"])
        .table_name("below")
        .to_owned();
    let query = Query::select()
        .columns(["id", "depth"])
        .from("below")
        .to_owned()
        .with(WithClause::new().recursive(true).cte(below).to_owned());
    let rows = tx.query_all(&query).await.map_err(into_error)?;
    rows.iter()
        .map(|row| Ok((row.try_get("", "id")?, row.try_get("", "depth")?)))
        .collect::<std::result::Result<_, DbErr>>()
        .map_err(into_error)
}
