//! The service that is called over every distance, and processes that serve and call it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use mosaic::auth::{AccessClaims, KeyRing, PublicKeys, TokenIssuer};
use mosaic::config::Layers;
use mosaic::telemetry::{TelemetryConfig, init_to};
use mosaic::{
    App, AuthConfig, Caller, Context, Identity, Module, Origin, Process, Runtime, Secret, Trace, async_trait,
};
use tempfile::TempDir;

use crate::contract::bench::v1::{Echo, EchoClient, EchoServer, SayReply, SayRequest};
use crate::report::Result;

pub(crate) struct Service;

#[async_trait]
impl Echo for Service {
    async fn say(&self, _: &Context, request: SayRequest) -> mosaic::Result<SayReply> {
        Ok(answer(request))
    }
}

/// What both sides of every comparison answer.
pub(crate) fn answer(request: SayRequest) -> SayReply {
    SayReply {
        text: request.text,
        number: request.number,
    }
}

pub(crate) fn request() -> SayRequest {
    SayRequest {
        text: "what is said comes back".to_owned(),
        number: 42,
        tags: vec!["one".to_owned(), "two".to_owned()],
    }
}

/// Sets up metrics and a log at `info` as a process has them; lines are formatted and thrown away.
pub(crate) fn telemetry() -> Result<()> {
    let config = Layers::default().settings().read::<TelemetryConfig>();
    init_to(&config.ok_or("telemetry has defaults")?, None, std::io::sink);
    Ok(())
}

/// Somebody signed in, and the keys that prove it.
pub(crate) struct Account {
    keys: PublicKeys,
    token: String,
}

impl Account {
    pub(crate) fn sign_in() -> Result<Self> {
        let runtime = Runtime::system();
        let mut ring = KeyRing::new(Duration::ZERO);
        ring.add("bench", runtime.now(), &KeyRing::generate(&runtime))?;
        let keys = PublicKeys::from_jwks(&ring.jwks())?;
        let policy = Layers::default().settings().read::<AuthConfig>();
        let issuer = TokenIssuer::new(ring, policy.ok_or("tokens have defaults")?.policy(), runtime);
        let claims = AccessClaims {
            sub: "1234567".to_owned(),
            ssid: "0123456789abcdef".to_owned(),
            roles: Vec::new(),
        };
        let (token, _) = issuer.access(claims)?;
        Ok(Self { keys, token })
    }

    /// Returns the context of a request of theirs as the edge makes it.
    pub(crate) fn context(&self) -> Result<Context> {
        let identity = Identity {
            account: "1234567".parse()?,
            session: "0123456789abcdef".to_owned(),
            roles: Vec::new(),
            token: Secret::new(self.token.clone()),
        };
        Ok(stranger().with_caller(Caller::Account(Arc::new(identity))))
    }
}

/// Returns the context of a request without a token as the edge makes it.
pub(crate) fn stranger() -> Context {
    let origin = Origin {
        ip: Some([127, 0, 0, 1].into()),
        user_agent: Some("bench".into()),
    };
    // Longer than any measurement.
    Context::new(&Runtime::system())
        .with_origin(origin)
        .with_timeout(Duration::from_secs(3600))
}

/// Returns `cx` as part of a trace of its own: every request has another one.
pub(crate) fn next(cx: &Context) -> Context {
    static N_TRACES: AtomicU64 = AtomicU64::new(1);
    let n = N_TRACES
        .fetch_add(1, Ordering::Relaxed)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let trace = Trace {
        trace_id: (u128::from(n) << 64) | u128::from(!n),
        span_id: n,
        sampled: true,
    };
    let fresh = Context::resume(cx.runtime(), trace).with_caller(cx.caller().clone());
    fresh
        .with_origin(cx.origin().clone())
        .with_timeout(Duration::from_secs(30))
}

/// A process with its own data directory.
pub(crate) struct Running {
    pub(crate) process: Process,
    _data: TempDir,
}

impl Running {
    pub(crate) fn client(&self) -> EchoClient {
        self.process.directory().client("bench")
    }
}

/// Starts a process that runs `module`: `echo` serves [`Echo`], `caller` has to call it elsewhere.
pub(crate) async fn start(account: &Account, module: &str, settings: &[(&str, String)]) -> Result<Running> {
    let keys = account.keys.clone();
    let install = move |m: &mut Module| {
        m.verifier().set_keys(keys.clone());
        m.serve(EchoServer::new(Arc::new(Service)));
        std::future::ready(Ok(()))
    };
    let app = App::new("bench")
        .module("echo", install)
        .module("caller", async |_: &mut Module| Ok(()));
    let data = TempDir::new()?;
    let mut layers = Layers::default()
        .set("data", data.path().display().to_string())
        .set("run", module)
        // A benchmark uses all of the processor, which is what shedding is there to refuse.
        .set("guard.shed", "off")
        .set("rpc.peer_key", "0123456789abcdef0123456789abcdef");
    for key in ["http", "grpc", "admin"] {
        layers = layers.set(key, "127.0.0.1:0");
    }
    for (key, value) in settings {
        layers = layers.set(key, value.clone());
    }
    let process = app.start(&Runtime::system(), layers).await?;
    Ok(Running { process, _data: data })
}
