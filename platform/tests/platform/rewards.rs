//! A reader pays an author: from the code to the books.

use std::time::Duration;

use mosaic::Context;
use mosaic_api::ledger::v1::{Account, GetBalanceRequest, LedgerClient};
use mosaic_testing::{Shape, TestApp, until};
use serde_json::json;

use crate::support::{User, content_user, failure, in_every_shape, publish, start};

in_every_shape!(a_reward_reaches_its_author);

const PATIENCE: Duration = Duration::from_secs(20);
