//! The port.

use std::time::Duration;

use async_trait::async_trait;
use mosaic_core::Result;

use super::RedisEngine;
use super::args::Args;
use crate::engine::{
    Claim, Claimed, Command, Commanded, Engine, Enqueued, Flow, Hold, Lease, Page, Promoted, QueueStatus, Report,
    Schedule, Schedules, Seen, Step, no_such_task,
};
use crate::id::{QueueName, TaskId};
use crate::model::{self, Record, State};
use crate::new_task::{NewTask, check_payload};

#[async_trait]
impl Engine for RedisEngine {
    async fn enqueue(&self, tasks: &[NewTask]) -> Result<Vec<Enqueued>> {
        Ok(self.add(tasks, None).await?.unwrap_or_default())
    }

    async fn claim(&self, claim: &Claim) -> Result<Vec<Claimed>> {
        self.give_out(claim).await
    }

    async fn extend(&self, leases: &[Lease], lease: Duration) -> Result<Vec<Hold>> {
        self.keep(leases, lease).await
    }

    async fn finish(&self, reports: &[Report]) -> Result<Vec<bool>> {
        self.settle(reports).await
    }

    async fn promote(&self, limit: usize) -> Result<Promoted> {
        self.let_go(limit).await
    }

    async fn expire(&self, limit: usize) -> Result<usize> {
        self.lose(limit).await
    }

    async fn purge(&self, limit: usize) -> Result<usize> {
        self.delete_old(limit).await
    }

    async fn command(&self, id: TaskId, command: Command) -> Result<()> {
        self.change(&[id], |draft| {
            draft.get(id).ok_or_else(no_such_task)?;
            Ok(draft.happen(id, &command.event())?)
        })
        .await
    }

    async fn command_all(&self, page: &Page, command: Command) -> Result<Commanded> {
        let ids = self.page(page).await?;
        let n_done = self.change(&ids, |draft| {
            let is_there = |id: &&TaskId| draft.get(**id).is_some();
            let there: Vec<&TaskId> = ids.iter().filter(is_there).collect();
            let done = there
                .into_iter()
                .filter(|id| draft.happen(**id, &command.event()).is_ok());
            Ok(done.count())
        });
        Ok(Commanded {
            n_done: n_done.await?,
            last: ids.last().copied(),
        })
    }

    async fn set_payload(&self, id: TaskId, payload: &[u8]) -> Result<()> {
        check_payload(payload)?;
        self.change(&[id], |draft| {
            model::may_change(draft.get(id).ok_or_else(no_such_task)?)?;
            draft.set_payload(id, payload);
            Ok(())
        })
        .await
    }

    async fn set_flow(&self, queue: &QueueName, flow: Flow) -> Result<()> {
        let mut args = Args::new();
        args.text(match flow {
            Flow::Paused => "pause",
            Flow::Running => "resume",
        });
        args.text(queue.as_str());
        self.manage(args).await?;
        Ok(())
    }

    async fn queues(&self) -> Result<Vec<QueueStatus>> {
        self.statuses(None).await
    }

    async fn counts(&self, queue: &QueueName) -> Result<Vec<(State, u64)>> {
        let mut statuses = self.statuses(Some(queue)).await?;
        Ok(statuses.pop().map_or_else(Vec::new, |status| status.counts))
    }

    async fn list(&self, page: &Page) -> Result<Vec<Record>> {
        self.records(page).await
    }

    async fn look(&self, id: TaskId) -> Result<Option<Seen>> {
        self.see(id).await
    }

    async fn declare(&self, owner: &str, schedules: &[Schedule]) -> Result<()> {
        let mut args = Args::new();
        args.text("declare").text(owner).show(schedules.len());
        for schedule in schedules {
            args.text(&schedule.name).text(&schedule.rule);
            args.show(schedule.next_at.as_micros());
        }
        self.manage(args).await?;
        Ok(())
    }

    async fn schedules(&self, owner: &str) -> Result<Schedules> {
        let mut args = Args::new();
        args.text("schedules");
        let mut all = self.manage(args).await?;
        all.schedules.retain(|schedule| schedule.owner == owner);
        Ok(all)
    }

    async fn step(&self, step: &Step) -> Result<bool> {
        Ok(self.add(&step.tasks, Some(step)).await?.is_some())
    }

    async fn listen(&self, ring: &(dyn Fn() + Send + Sync)) {
        self.hear(ring).await;
    }
}
