//! The composition root: every module of the platform, and which of them make a process is configuration.

mod dev;
mod edge;

use mosaic::{Addresses, App};

/// Returns the platform.
pub fn app() -> App {
    App::new("platform")
        .module("edge", edge::install)
        .module("identity", identity::install)
        .module("users", users::install)
        .module("messaging", messaging::install)
        .module("blobs", blobs::install)
        .module("interaction", interaction::install)
        .module("ranking", ranking::install)
        .module("comments", comments::install)
        .module("relations", relations::install)
        .module("feed", feed::install)
        .module("search", search::install)
        .module("payments", payments::install)
        .module("ledger", ledger::install)
        .module("rewards", rewards::install)
        .module("homestay", homestay::install)
        .module("content", content::install)
        .everywhere("identity_watch", identity::follow)
        .commands::<rewards::RewardsCommands>("rewards")
        .banner(banner)
}

/// What a person reads after `./dev up`.
fn banner(addresses: &Addresses) -> String {
    let Addresses { http, grpc, admin } = addresses;
    let mut text = format!("\n  gRPC   {grpc}\n  admin  http://{admin}  (/healthz /readyz /metrics)\n");
    if let Some(http) = http {
        text = format!(
            "\n  HTTP   http://{http}  (API to read and try: http://{http}/docs){text}
Try:
  curl -s http://{http}/usercenter/v1/user/register -H 'content-type: application/json' -d '{{\"mobile\":\"13800138000\",\"password\":\"correct horse\"}}'
  curl -s http://{http}/usercenter/v1/user/login -H 'content-type: application/json' -d '{{\"mobile\":\"13800138000\",\"password\":\"correct horse\"}}'
  curl -s http://{http}/usercenter/v1/user/detail -H 'content-type: application/json' -H \"authorization: Bearer $TOKEN\" -d '{{}}'
"
        );
    }
    text
}
