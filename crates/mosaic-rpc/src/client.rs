//! The client behind every generated client.

use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;
use mosaic_core::{Check, Code, Context, Error, MethodDescriptor, Result, ServiceDescriptor};
use mosaic_guard::{Guard, Side};
use prost::Message;
use tonic::codegen::http::uri::PathAndQuery;

use crate::peer::PeerToken;
use crate::unsent::{self, Unsent};
use crate::{BoxFuture, Channel, Directory, Served, Streaming, error_from_status, metadata};

/// A generated client.
pub trait Connect: Clone + Send + Sync + 'static {
    /// The generated trait, as an object.
    type Port: ?Sized + Send + Sync + 'static;
    /// What the contract says of the service.
    const SERVICE: &'static ServiceDescriptor;
    /// Wraps the client.
    fn from_client(client: Client<Self::Port>) -> Self;
}

/// Where calls go.
#[derive(Debug, Clone)]
pub(crate) enum Binding<P: ?Sized> {
    Local(Served<P>),
    Strict(Served<P>),
    Remote(Channel),
}

/// Calls one service, wherever it is. Cheap to clone.
pub struct Client<P: ?Sized> {
    shared: Arc<Shared<P>>,
}

struct Shared<P: ?Sized> {
    service: &'static ServiceDescriptor,
    caller: Arc<str>,
    directory: Option<Directory>,
    binding: OnceLock<Binding<P>>,
    guard: Guard,
    peer: Option<PeerToken>,
}

impl<P: ?Sized + Send + Sync + 'static> Client<P> {
    /// Makes a client that finds its service at the first call.
    pub(crate) fn late(directory: Directory, service: &'static ServiceDescriptor, caller: Arc<str>) -> Self {
        let peer = directory.peers().map(|key| PeerToken::new(key.clone(), caller.clone()));
        Self::new(service, caller, Some(directory), OnceLock::new(), peer)
    }

    /// Makes a client of an implementation in this process.
    pub fn local(served: Served<P>, caller: &str) -> Self {
        Self::bound(served.service(), caller, Binding::Local(served))
    }

    /// Makes a client of an implementation in this process that encodes and decodes every message.
    pub fn strict(served: Served<P>, caller: &str) -> Self {
        Self::bound(served.service(), caller, Binding::Strict(served))
    }

    /// Makes a client of instances elsewhere, which proves nothing of the caller but what its token says.
    pub fn remote(service: &'static ServiceDescriptor, channel: Channel, caller: &str) -> Self {
        Self::bound(service, caller, Binding::Remote(channel))
    }

    fn bound(service: &'static ServiceDescriptor, caller: &str, binding: Binding<P>) -> Self {
        Self::new(service, caller.into(), None, OnceLock::from(binding), None)
    }

    fn new(
        service: &'static ServiceDescriptor,
        caller: Arc<str>,
        directory: Option<Directory>,
        binding: OnceLock<Binding<P>>,
        peer: Option<PeerToken>,
    ) -> Self {
        let guard = Guard::new(service, Side::Client);
        Self {
            shared: Arc::new(Shared {
                service,
                caller,
                directory,
                binding,
                guard,
                peer,
            }),
        }
    }

    /// Calls a unary method; `call` is how to call it on an implementation in this process.
    ///
    /// # Errors
    /// Those of the method; `Unavailable` if nobody can be reached.
    pub async fn unary<Q, R>(
        &self,
        method: &'static MethodDescriptor,
        cx: &Context,
        request: Q,
        call: impl for<'a> FnOnce(&'a P, &'a Context, Q) -> BoxFuture<'a, Result<R>>,
    ) -> Result<R>
    where
        Q: Message + Default + Check + Clone + 'static,
        R: Message + Default + 'static,
    {
        let cx = self.stamp(cx);
        match self.binding()? {
            Binding::Local(served) => served.enter(method, cx, request, call).await,
            Binding::Strict(served) => {
                let reply = served.enter(method, cx, recode(&request)?, call).await?;
                recode(&reply)
            }
            Binding::Remote(channel) => {
                let cx = cx.with_timeout(method.timeout);
                let work = self.send(channel, &cx, request, move |mut grpc, request| async move {
                    let reply = grpc.unary(request, path(method), codec()).await?;
                    Ok(reply.into_inner())
                });
                self.shared.guard.run(method, &cx, work).await
            }
        }
    }

    /// Calls a server-streaming method.
    ///
    /// # Errors
    /// Those of the method before its first reply; later ones come as items.
    pub async fn streaming<Q, R>(
        &self,
        method: &'static MethodDescriptor,
        cx: &Context,
        request: Q,
        call: impl for<'a> FnOnce(&'a P, &'a Context, Q) -> BoxFuture<'a, Result<Streaming<R>>>,
    ) -> Result<Streaming<R>>
    where
        Q: Message + Default + Check + Clone + 'static,
        R: Message + Default + 'static,
    {
        let cx = self.stamp(cx);
        match self.binding()? {
            Binding::Local(served) => served.enter_streaming(method, cx, request, call).await,
            Binding::Strict(served) => {
                let items = served.enter_streaming(method, cx, recode(&request)?, call).await?;
                Ok(Box::pin(items.map(|item| item.and_then(|item| recode(&item)))))
            }
            Binding::Remote(channel) => {
                let work = self.send(channel, &cx, request, move |mut grpc, request| async move {
                    let reply = grpc.server_streaming(request, path(method), codec()).await?;
                    Ok(reply.into_inner())
                });
                let items: tonic::Streaming<R> = self.shared.guard.run(method, &cx, work).await?;
                Ok(Box::pin(
                    items.map(|item| item.map_err(|status| error_from_status(&status))),
                ))
            }
        }
    }

    fn stamp(&self, cx: &Context) -> Context {
        cx.clone().with_service(Some(self.shared.caller.clone()))
    }

    fn binding(&self) -> Result<&Binding<P>> {
        let shared = &*self.shared;
        if let Some(binding) = shared.binding.get() {
            return Ok(binding);
        }
        let Some(directory) = &shared.directory else {
            return Err(Error::internal("a client without a directory is made with its binding"));
        };
        let found = directory.find(shared.service)?;
        Ok(shared.binding.get_or_init(|| found))
    }

    /// Sends a request with `call`, to the next instance if the connection to one cannot be made.
    async fn send<Q, T, F>(
        &self,
        channel: &Channel,
        cx: &Context,
        request: Q,
        call: impl Fn(Grpc, tonic::Request<Q>) -> F,
    ) -> Result<T>
    where
        Q: Message + Default + Clone,
        F: Future<Output = Result<T, tonic::Status>>,
    {
        let mut last = None;
        for instance in channel.in_turn() {
            // A connection that its server has just ended is made anew once, before the next instance has its turn.
            for _ in 0..2 {
                let mut grpc = grpc(instance.clone());
                let outcome = match grpc.ready().await {
                    Ok(()) => call(grpc, self.outgoing(cx, request.clone())).await,
                    Err(error) => Err(tonic::Status::from_error(error.into())),
                };
                let status = match outcome {
                    Ok(reply) => return Ok(reply),
                    Err(status) => status,
                };
                let unsent = unsent::why(&status).ok_or_else(|| error_from_status(&status))?;
                last = Some(status);
                if unsent == Unsent::NotConnected {
                    break;
                }
            }
        }
        let error = Error::unavailable("SERVICE_UNREACHABLE", "the service cannot be reached");
        Err(match last {
            Some(status) => error.caused_by(status),
            None => error,
        })
    }

    fn outgoing<Q>(&self, cx: &Context, message: Q) -> tonic::Request<Q> {
        let mut request = tonic::Request::new(message);
        metadata::write(cx, request.metadata_mut());
        if let Some(token) = self.shared.peer.as_ref().and_then(|peer| peer.get(cx.runtime())) {
            request.metadata_mut().insert(metadata::PEER, token);
        }
        if let Some(remaining) = cx.remaining() {
            metadata::write_timeout(&mut request, remaining);
        }
        request
    }
}

type Grpc = tonic::client::Grpc<tonic::transport::Channel>;

fn grpc(channel: tonic::transport::Channel) -> Grpc {
    Grpc::new(channel)
        .max_decoding_message_size(crate::server::MESSAGE_BYTES_MAX)
        .max_encoding_message_size(crate::server::MESSAGE_BYTES_MAX)
}

fn codec<Q, R>() -> tonic_prost::ProstCodec<Q, R> {
    tonic_prost::ProstCodec::default()
}

fn path(method: &'static MethodDescriptor) -> PathAndQuery {
    PathAndQuery::from_static(method.path)
}

/// Sends a message through encode and decode.
fn recode<M: Message + Default>(message: &M) -> Result<M> {
    let lost = |error| Error::new(Code::Internal, "INTERNAL", "internal error").caused_by(error);
    M::decode(message.encode_to_vec().as_slice()).map_err(lost)
}

impl<P: ?Sized> Clone for Client<P> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<P: ?Sized> std::fmt::Debug for Client<P> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("service", &self.shared.service.name)
            .field("caller", &self.shared.caller)
            .finish_non_exhaustive()
    }
}
