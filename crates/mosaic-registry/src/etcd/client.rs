//! The few calls of etcd that a registry needs, over whichever member answers.
//!
//! Written by hand on tonic's untyped client: six calls, against a generated client of forty. Every call has a time
//! limit, and one that failed drops its connection, so that a connection that died without a word (a firewall, a
//! container that was paused) costs one call. The next call goes to the next member.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tokio::sync::watch;
use tokio_stream::wrappers::ReceiverStream;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::{AsciiMetadataValue, MetadataValue};
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use super::connect::channel;
use super::wire::{
    AuthenticateRequest, AuthenticateResponse, LeaseGrantRequest, LeaseGrantResponse, LeaseKeepAliveRequest,
    LeaseKeepAliveResponse, LeaseRevokeRequest, LeaseRevokeResponse, PutRequest, PutResponse, RangeRequest,
    RangeResponse, WatchRequest, WatchResponse,
};
use mosaic_core::lock;

use crate::Address;
use crate::location::Login;
use crate::tls::Tls;

/// Longest wait for an answer.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// A service with ten thousand instances of a kilobyte.
const ANSWER_MAX: usize = 16 << 20;

/// The members of an etcd cluster.
pub(crate) struct Client {
    members: Vec<Member>,
    /// Position of the member that is asked.
    current: AtomicUsize,
    tls: Option<Tls>,
    login: Option<Login>,
    token: Mutex<Option<AsciiMetadataValue>>,
    /// Has the last conversation failed for want of a member?
    is_away: AtomicBool,
    /// How often it has answered again after that.
    returns: watch::Sender<u64>,
}

struct Member {
    address: Address,
    channel: Mutex<Option<Channel>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let members: Vec<&Address> = self.members.iter().map(|member| &member.address).collect();
        f.debug_struct("Client")
            .field("members", &members)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Makes a client of `members`, of which there is at least one.
    pub(crate) fn new(members: Vec<Address>, tls: Option<Tls>, login: Option<Login>) -> Self {
        let member = |address| Member {
            address,
            channel: Mutex::new(None),
        };
        Self {
            members: members.into_iter().map(member).collect(),
            current: AtomicUsize::new(0),
            tls,
            login,
            token: Mutex::new(None),
            is_away: AtomicBool::new(false),
            returns: watch::Sender::new(0),
        }
    }

    /// Returns what tells, from now on, that etcd has answered somebody of this process after it was away.
    ///
    /// All who wait ask at once then: else one task would register a process that does not know yet whom it can call.
    pub(crate) fn returns(&self) -> watch::Receiver<u64> {
        self.returns.subscribe()
    }

    pub(crate) async fn range(&self, request: RangeRequest) -> Result<RangeResponse, Status> {
        self.call("/etcdserverpb.KV/Range", request).await
    }

    pub(crate) async fn put(&self, request: PutRequest) -> Result<(), Status> {
        let done: Result<PutResponse, Status> = self.call("/etcdserverpb.KV/Put", request).await;
        done.map(drop)
    }

    /// Returns the number of a new lease.
    pub(crate) async fn grant(&self, ttl: Duration) -> Result<i64, Status> {
        let request = LeaseGrantRequest {
            ttl: ttl.as_secs() as i64,
            id: 0,
        };
        let granted: LeaseGrantResponse = self.call("/etcdserverpb.Lease/LeaseGrant", request).await?;
        Ok(granted.id)
    }

    /// Prolongs a lease; returns whether it is still there.
    ///
    /// A stream of its own for each: a long-lived one would have to be watched over, this one has a time limit.
    pub(crate) async fn keep_alive(&self, lease: i64) -> Result<bool, Status> {
        let request = tokio_stream::once(LeaseKeepAliveRequest { id: lease });
        let answer = self.stream("/etcdserverpb.Lease/LeaseKeepAlive", request, async |mut answers| {
            let answer: Option<LeaseKeepAliveResponse> = answers.message().await?;
            answer.ok_or_else(|| Status::unavailable("no answer about the lease"))
        });
        Ok(answer.await?.ttl > 0)
    }

    /// Ends a lease and removes all that is bound to it; one that has ended already is as good.
    pub(crate) async fn revoke(&self, lease: i64) -> Result<(), Status> {
        let request = LeaseRevokeRequest { id: lease };
        let revoked: Result<LeaseRevokeResponse, Status> = self.call("/etcdserverpb.Lease/LeaseRevoke", request).await;
        match revoked {
            Err(status) if status.code() != Code::NotFound => Err(status),
            _ => Ok(()),
        }
    }

    /// Opens a stream of changes; what is sent to `requests` asks for them.
    pub(crate) async fn watch(
        &self,
        requests: mpsc::Receiver<WatchRequest>,
    ) -> Result<Streaming<WatchResponse>, Status> {
        let requests = ReceiverStream::new(requests);
        self.stream("/etcdserverpb.Watch/Watch", requests, async |answers| Ok(answers))
            .await
    }

    async fn call<Q, A>(&self, path: &'static str, message: Q) -> Result<A, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.within_time(async |channel| {
            let request = self.request(&channel, message).await?;
            unary(channel, path, request).await
        })
        .await
    }

    async fn stream<Q, A, T>(
        &self,
        path: &'static str,
        messages: impl tokio_stream::Stream<Item = Q> + Send + 'static,
        begin: impl AsyncFnOnce(Streaming<A>) -> Result<T, Status>,
    ) -> Result<T, Status>
    where
        Q: Message + Send + Sync + 'static,
        A: Message + Default + Send + Sync + 'static,
    {
        self.within_time(async |channel| {
            let request = self.request(&channel, messages).await?;
            let mut grpc = ready(channel).await?;
            let codec = ProstCodec::<Q, A>::default();
            begin(
                grpc.streaming(request, PathAndQuery::from_static(path), codec)
                    .await?
                    .into_inner(),
            )
            .await
        })
        .await
    }

    /// Speaks to the current member, and leaves it if it fails.
    async fn within_time<T>(&self, speak: impl AsyncFnOnce(Channel) -> Result<T, Status>) -> Result<T, Status> {
        let position = self.current.load(Ordering::Relaxed);
        let member = &self.members[position];
        let channel = lock(&member.channel)
            .get_or_insert_with(|| channel(&member.address, self.tls.as_ref()))
            .clone();
        let spoken = match tokio::time::timeout(CALL_TIMEOUT, speak(channel)).await {
            Ok(spoken) => spoken,
            Err(_) => Err(Status::deadline_exceeded("etcd did not answer in time")),
        };
        let Err(status) = &spoken else {
            if self.is_away.swap(false, Ordering::Relaxed) {
                self.returns
                    .send_modify(|n_returns| *n_returns = n_returns.wrapping_add(1));
            }
            return spoken;
        };
        // A token may have ended; the next call gets another.
        *lock(&self.token) = None;
        if is_fault_of_member(status.code()) {
            self.is_away.store(true, Ordering::Relaxed);
            *lock(&member.channel) = None;
            let next = (position + 1) % self.members.len();
            let _ = self
                .current
                .compare_exchange(position, next, Ordering::Relaxed, Ordering::Relaxed);
        }
        spoken
    }

    /// Adds who we are, and that a member without a leader is to say so instead of staying silent.
    async fn request<M>(&self, channel: &Channel, message: M) -> Result<Request<M>, Status> {
        let token = self.token(channel).await?;
        let mut request = Request::new(message);
        let metadata = request.metadata_mut();
        metadata.insert("hasleader", MetadataValue::from_static("true"));
        if let Some(token) = token {
            metadata.insert("token", token);
        }
        Ok(request)
    }

    async fn token(&self, channel: &Channel) -> Result<Option<AsciiMetadataValue>, Status> {
        let Some(login) = &self.login else {
            return Ok(None);
        };
        let known = lock(&self.token).clone();
        if known.is_some() {
            return Ok(known);
        }
        let message = AuthenticateRequest {
            name: login.name.clone(),
            password: login.password.expose().clone(),
        };
        let request = Request::new(message);
        let answer: AuthenticateResponse = unary(channel.clone(), "/etcdserverpb.Auth/Authenticate", request).await?;
        let token: AsciiMetadataValue = answer
            .token
            .parse()
            .map_err(|_| Status::internal("etcd gave a token that fits into no header"))?;
        Ok(lock(&self.token).insert(token).clone().into())
    }
}

/// Could another member do better?
fn is_fault_of_member(code: Code) -> bool {
    !matches!(
        code,
        Code::NotFound
            | Code::InvalidArgument
            | Code::FailedPrecondition
            | Code::PermissionDenied
            | Code::Unauthenticated
    )
}

async fn ready(channel: Channel) -> Result<Grpc<Channel>, Status> {
    let mut grpc = Grpc::new(channel).max_decoding_message_size(ANSWER_MAX);
    grpc.ready()
        .await
        .map_err(|error| Status::unavailable(format!("etcd cannot be reached: {error}")))?;
    Ok(grpc)
}

async fn unary<Q, A>(channel: Channel, path: &'static str, request: Request<Q>) -> Result<A, Status>
where
    Q: Message + Send + Sync + 'static,
    A: Message + Default + Send + Sync + 'static,
{
    let mut grpc = ready(channel).await?;
    let answer = grpc
        .unary(request, PathAndQuery::from_static(path), ProstCodec::<Q, A>::default())
        .await?;
    Ok(answer.into_inner())
}
