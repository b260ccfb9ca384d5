//! Who has just registered is welcomed.
//!
//! The event says who, not where to: the handler, which is in a transaction, only enqueues a task, and the task asks
//! identity for an address. So the event is done with at once, and an identity that is down delays a welcome and no event.

use std::sync::Arc;
use std::time::Duration;

use mosaic::events::HandleIn;
use mosaic::sql::Transaction;
use mosaic::tasks::{Options, Task, TaskContext};
use mosaic::{AccountId, Context, Module, Result, Transactions};
use mosaic_api::events::UserRegistered;
use mosaic_api::identity::v1::{CredentialKind, GetCredentialsRequest, IdentityClient};
use mosaic_api::messaging::v1::{Channel, Messaging as _, SendRequest};
use serde::{Deserialize, Serialize};

use crate::service::Service;

/// Name of the template at the providers.
const TEMPLATE: &str = "welcome";
/// A welcome of last week is none.
const GOOD_FOR: Duration = Duration::from_secs(24 * 3600);

/// Wires the consumer and its task up.
pub(crate) fn install(m: &mut Module, service: &Arc<Service>) -> Result<()> {
    let needs = Needs {
        service: service.clone(),
        identity: m.client(),
    };
    m.on_task::<SendWelcome>(Arc::new(needs))?;
    let transactions = m.transactions()?;
    m.on_event("messaging.welcome", Arc::new(Welcome { transactions }))
}

/// Handles registrations.
struct Welcome {
    transactions: Transactions,
}

impl HandleIn<UserRegistered> for Welcome {
    async fn handle(&self, cx: &Context, event: UserRegistered, tx: &Transaction) -> Result<()> {
        let task = SendWelcome { account: event.account };
        let options = Options {
            deadline: Some(cx.runtime().now().plus(GOOD_FOR)),
            ..Options::default()
        };
        self.transactions.within(tx).enqueue_with(cx, &task, options).await?;
        Ok(())
    }
}

struct Needs {
    service: Arc<Service>,
    identity: IdentityClient,
}

/// Welcomes one person.
#[derive(Serialize, Deserialize)]
struct SendWelcome {
    account: AccountId,
}

impl Task for SendWelcome {
    const NAME: &'static str = "messaging.send_welcome";
    type Needs = Needs;
    type Output = ();

    async fn run(self, needs: &Needs, cx: &TaskContext) -> Result<()> {
        let request = GetCredentialsRequest {
            account_id: self.account.get(),
        };
        let found = needs.identity.get_credentials(cx, request).await?;
        let address = found.credentials.iter().find_map(|credential| {
            let channel = match credential.kind() {
                CredentialKind::Mobile => Channel::Sms,
                CredentialKind::Email => Channel::Email,
                CredentialKind::WechatOpen => Channel::Wechat,
                _ => return None,
            };
            Some((channel, credential.identifier.clone()))
        });
        let deadline = cx.task().deadline;
        let left = deadline.map_or(GOOD_FOR, |deadline| deadline.since(cx.runtime().now()));
        // Whoever has left meanwhile, or has only a name, is not welcomed.
        let Some((channel, to)) = address else { return Ok(()) };
        let message = SendRequest {
            channel: channel.into(),
            to,
            template: TEMPLATE.to_owned(),
            args: Default::default(),
            good_for_s: u32::try_from(left.as_secs()).unwrap_or(u32::MAX),
        };
        needs.service.send(cx, message).await
    }
}
