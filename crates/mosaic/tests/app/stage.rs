//! The application under test: a front, a back, an edge, and somebody who sees what becomes of their work.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt as _;
use mosaic::auth::{AccessClaims, KeyRing, PublicKeys, TokenIssuer, TokenPolicy};
use mosaic::config::Live;
use mosaic::registry::Address;
use mosaic::rpc::{Channel, ChannelOptions, Client, Connect, Routing, Streaming};
use mosaic::sql::sea_orm::{ConnectionTrait as _, Statement};
use mosaic::sql::{Database, Migration, Schema, into_error};
use mosaic::{App, Context, Error, Module, Result, Runtime, Secret, StopSignal, Timestamp, Trace, async_trait};
use mosaic_stage::back::v1::*;
use mosaic_stage::front::v1::*;
use mosaic_testing::{Shape, TestApp, TestAppBuilder, until};

/// Front and back in a process each.
pub(crate) const APART: Shape = Shape::Apart(&[&["edge", "front"], &["back"]]);

/// What became of the work of one mark.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) n_begun: usize,
    pub(crate) n_done: usize,
    pub(crate) n_dropped: usize,
}

/// Sees what becomes of work; shared by all processes of a test.
#[derive(Clone, Default)]
pub(crate) struct Witness {
    seen: Arc<Mutex<HashMap<String, Seen>>>,
    /// Keeps a line for each mark that was begun, for those who look after the process has died.
    file: Option<Arc<File>>,
}

impl Witness {
    fn note(&self, mark: &str, change: impl FnOnce(&mut Seen)) {
        change(self.seen.lock().unwrap().entry(mark.to_owned()).or_default());
    }

    pub(crate) fn seen(&self, mark: &str) -> Seen {
        self.seen.lock().unwrap().get(mark).copied().unwrap_or_default()
    }

    /// Waits until the work of `mark` has been seen as `want` says.
    pub(crate) async fn until(&self, mark: &'static str, want: impl Fn(Seen) -> bool) {
        until(mark, Duration::from_secs(5), || async { want(self.seen(mark)) }).await;
    }

    fn begin(&self, mark: &str) -> Work {
        if let Some(file) = &self.file {
            // In one piece, so that lines of two threads do not mix.
            (&**file).write_all(format!("{mark}\n").as_bytes()).unwrap();
        }
        self.note(mark, |seen| seen.n_begun += 1);
        Work {
            witness: self.clone(),
            mark: mark.to_owned(),
            is_done: false,
        }
    }
}

/// Work that is either done or dropped.
struct Work {
    witness: Witness,
    mark: String,
    is_done: bool,
}

impl Work {
    fn done(mut self) {
        self.is_done = true;
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        let is_done = self.is_done;
        self.witness.note(&self.mark, |seen| match is_done {
            true => seen.n_done += 1,
            false => seen.n_dropped += 1,
        });
    }
}

mosaic::config! {
    /// The front.
    struct FrontConfig in "front" {
        /// What it says.
        greeting: Live<String> = "hello",
        /// What it does not say.
        password: Option<Secret<String>> = "",
    }
}

struct Frontman {
    config: FrontConfig,
    back: BackClient,
}

#[async_trait]
impl Front for Frontman {
    async fn ask(&self, cx: &Context, request: ActRequest) -> Result<ActReply> {
        assert_ne!(request.act, "panic in front", "hidden text of {}", request.mark);
        self.back.act(cx, request).await
    }

    async fn ask_again(&self, cx: &Context, request: ActRequest) -> Result<ActReply> {
        self.back.act_again(cx, request).await
    }

    async fn tell(&self, _: &Context, (): ()) -> Result<Told> {
        let greeting = self.config.greeting.get().to_string();
        tracing::info!(password = ?self.config.password, "told");
        Ok(Told { greeting })
    }

    async fn rarely(&self, _: &Context, (): ()) -> Result<()> {
        Ok(())
    }
    async fn anybody(&self, _: &Context, (): ()) -> Result<()> {
        Ok(())
    }
    async fn perhaps(&self, _: &Context, (): ()) -> Result<()> {
        Ok(())
    }
    async fn somebody(&self, _: &Context, (): ()) -> Result<()> {
        Ok(())
    }
    async fn admin(&self, _: &Context, (): ()) -> Result<()> {
        Ok(())
    }
    async fn inside(&self, _: &Context, (): ()) -> Result<()> {
        Ok(())
    }
}

struct Backman {
    front: FrontClient,
    database: Database,
    witness: Witness,
    name: Arc<str>,
}

impl Backman {
    async fn perform(&self, cx: &Context, request: ActRequest) -> Result<ActReply> {
        let work = self.witness.begin(&request.mark);
        let reply = ActReply {
            by: self.name.to_string(),
            remaining_ms: cx.remaining().map_or(0, |left| left.as_millis() as u32),
            count: 0,
        };
        let reply = match request.act.as_str() {
            "panic" => panic!("hidden text of {}", request.mark),
            "fail" => return Err(Error::internal(format!("hidden text of {}", request.mark))),
            "fail at" if request.by == *self.name => return Err(Error::internal("told to")),
            "slow at" if request.by == *self.name => {
                tokio::time::sleep(Duration::from_millis(request.ms.into()) * 10).await;
                reply
            }
            "refuse" => return Err(Error::unavailable("REFUSED", "told to")),
            "wait" => std::future::pending().await,
            _ if request.hops > 0 => {
                tokio::time::sleep(Duration::from_millis(request.ms.into())).await;
                let hops = request.hops - 1;
                self.front.ask(cx, ActRequest { hops, ..request }).await?
            }
            _ => {
                tokio::time::sleep(Duration::from_millis(request.ms.into())).await;
                reply
            }
        };
        work.done();
        Ok(reply)
    }
}

#[async_trait]
impl Back for Backman {
    async fn act(&self, cx: &Context, request: ActRequest) -> Result<ActReply> {
        self.perform(cx, request).await
    }

    async fn act_again(&self, cx: &Context, request: ActRequest) -> Result<ActReply> {
        self.perform(cx, request).await
    }

    async fn act_soon(&self, cx: &Context, request: ActRequest) -> Result<ActReply> {
        self.perform(cx, request).await
    }

    /// One item, then what was asked for: `panic`, `fail`, `wait`; or `hops` items with `ms` between them.
    async fn watch(&self, _: &Context, request: ActRequest) -> Result<Streaming<ActReply>> {
        let start = (self.witness.begin(&request.mark), 0);
        let by = self.name.to_string();
        let items = futures::stream::unfold(Some(start), move |state| {
            let (request, by) = (request.clone(), by.clone());
            async move {
                let (work, count) = state?;
                match request.act.as_str() {
                    "panic" if count > 0 => panic!("hidden text of {}", request.mark),
                    "fail" if count > 0 => {
                        let error = Error::internal(format!("hidden text of {}", request.mark));
                        return Some((Err(error), None));
                    }
                    "wait" if count > 0 => std::future::pending().await,
                    "" if count >= request.hops => {
                        work.done();
                        return None;
                    }
                    _ => tokio::time::sleep(Duration::from_millis(request.ms.into())).await,
                }
                let item = ActReply {
                    by,
                    count,
                    ..ActReply::default()
                };
                Some((Ok(item), Some((work, count + 1))))
            }
        });
        Ok(items.boxed())
    }

    async fn keep(&self, _: &Context, request: KeepRequest) -> Result<KeepReply> {
        let connection = self.database.connection();
        let backend = self.database.backend();
        let insert =
            Statement::from_sql_and_values(backend, "INSERT INTO kept (text) VALUES (?)", [request.text.into()]);
        connection.execute_raw(insert).await.map_err(into_error)?;
        let count = Statement::from_string(backend, "SELECT COUNT(*) FROM kept");
        let rows = connection.query_all_raw(count).await.map_err(into_error)?;
        let n_kept: i64 = rows[0].try_get_by_index(0).map_err(into_error)?;
        Ok(KeepReply { n_kept: n_kept as u32 })
    }
}

const MIGRATIONS: &[Migration] = &[Migration {
    name: "0001_create_kept",
    up: |schema: &mut Schema| {
        use mosaic::sql::sea_orm::sea_query::{ColumnDef, Table};
        schema.run(
            Table::create()
                .table("kept")
                .col(ColumnDef::new("text").string_len(64).not_null()),
        );
    },
}];

async fn edge(m: &mut Module) -> Result<()> {
    m.routes(front_routes(m.client()));
    m.routes(back_routes(m.client()));
    Ok(())
}

async fn front(m: &mut Module) -> Result<()> {
    let config = m.config()?;
    let back = m.client();
    m.serve(FrontServer::new(Arc::new(Frontman { config, back })));
    Ok(())
}

async fn back(m: &mut Module, witness: Witness) -> Result<()> {
    let backman = Backman {
        front: m.client(),
        database: m.database(MIGRATIONS).await?,
        witness: witness.clone(),
        // Differs between the instances of one application.
        name: m.data().display().to_string().into(),
    };
    m.serve(BackServer::new(Arc::new(backman)));
    let stop = m.background().stop_signal();
    m.background().spawn("willing", willing(stop, witness.begin("willing")));
    Ok(())
}

/// Ends a moment after it was told to.
async fn willing(mut stop: StopSignal, work: Work) {
    stop.stopped().await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    work.done();
}

/// The application, its witness and the keys that sign its tokens.
pub(crate) struct Stage {
    pub(crate) witness: Witness,
    ring: KeyRing,
}

impl Stage {
    pub(crate) fn new() -> Self {
        let mut ring = KeyRing::new(Duration::ZERO);
        let pem = KeyRing::generate(&Runtime::system());
        ring.add("1", Timestamp::from_secs(0), &pem).unwrap();
        Self {
            witness: Witness::default(),
            ring,
        }
    }

    /// As [`Stage::new`]; writes what is begun to `file`.
    pub(crate) fn recording(file: &Path) -> Self {
        let mut stage = Self::new();
        let file = File::options().create(true).append(true).open(file).unwrap();
        stage.witness.file = Some(Arc::new(file));
        stage
    }

    /// Returns the application; the caller comes before the one it calls.
    pub(crate) fn app(&self) -> App {
        let (witness, ring, deaf) = (self.witness.clone(), self.ring.clone(), self.witness.clone());
        App::new("stage")
            .module("edge", edge)
            .module("front", front)
            .module("back", async move |m: &mut Module| back(m, witness.clone()).await)
            .module("deaf", async move |m: &mut Module| {
                let work = deaf.begin("deaf");
                m.background().spawn("deaf", async move {
                    std::future::pending::<()>().await;
                    work.done();
                });
                Ok(())
            })
            .everywhere("keys", async move |m: &mut Module| {
                m.verifier().set_keys(PublicKeys::from_jwks(&ring.jwks()).unwrap());
                Ok(())
            })
    }

    pub(crate) fn builder(&self, shape: Shape) -> TestAppBuilder {
        let run = match shape {
            Shape::Together | Shape::Strict => "edge,front,back",
            Shape::Apart(_) => return TestApp::builder(self.app()).shape(shape),
        };
        TestApp::builder(self.app()).shape(shape).set("run", run)
    }

    pub(crate) async fn start(&self, shape: Shape) -> TestApp {
        self.builder(shape).start().await
    }

    /// Returns a token of `account`.
    pub(crate) fn token(&self, account: i64, roles: &[&str]) -> String {
        let policy = TokenPolicy {
            issuer: "mosaic".into(),
            audience: "mosaic-platform".into(),
            access_ttl: Duration::from_secs(1800),
            refresh_ttl: Duration::from_secs(3600),
        };
        let claims = AccessClaims {
            sub: account.to_string(),
            ssid: "s".into(),
            roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        };
        TokenIssuer::new(self.ring.clone(), policy, Runtime::system())
            .access(claims)
            .unwrap()
            .0
    }
}

pub(crate) fn act(act: &str, mark: &str) -> ActRequest {
    ActRequest {
        act: act.to_owned(),
        mark: mark.to_owned(),
        ..ActRequest::default()
    }
}

/// Returns a context with a trace of its own, and its id.
pub(crate) fn traced() -> (Context, String) {
    let trace = Trace::start(&Runtime::system());
    (
        Context::resume(&Runtime::system(), trace),
        trace.request_id().as_str().to_owned(),
    )
}

/// Returns a client that is no service of the platform, of the process with number `position`.
pub(crate) fn stranger<C: Connect>(app: &TestApp, position: usize) -> C {
    stranger_at(app.processes()[position].addresses().grpc)
}

/// Returns a client that is no service of the platform, of the process that listens there.
pub(crate) fn stranger_at<C: Connect>(address: SocketAddr) -> C {
    let address = Address::try_from(address).unwrap();
    let (runtime, options) = (Runtime::system(), ChannelOptions::default());
    let channel = Channel::listed(&runtime, &[address], C::SERVICE.name, options, Routing::default());
    C::from_client(Client::remote(C::SERVICE, channel, "stranger"))
}

/// Returns the error lines of a trace.
pub(crate) fn error_lines(trace_id: &str) -> Vec<String> {
    let log = mosaic_testing::log();
    let of_trace = log
        .lines()
        .filter(|line| line.contains(trace_id) && line.contains("\"level\":\"ERROR\""));
    of_trace.map(str::to_owned).collect()
}
