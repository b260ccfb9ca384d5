//! The client behind every generated client.

use std::borrow::Cow;
use std::sync::{Arc, OnceLock};

use futures::StreamExt as _;
use http::HeaderMap;
use mosaic_core::{Check, Code, Context, Error, MethodDescriptor, Result, ServiceDescriptor, Striped};
use mosaic_guard::{Outgoing, Rules};
use prost::Message;

use crate::channel::Tried;
use crate::peer::PeerToken;
use crate::{BoxFuture, Channel, Directory, Served, Streaming, error_from_status, frames, metadata};

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
#[derive(Debug)]
pub(crate) enum Binding<P: ?Sized> {
    Local(Served<P>),
    Strict(Served<P>),
    Remote(Channel),
}

impl<P: ?Sized> Clone for Binding<P> {
    fn clone(&self) -> Self {
        match self {
            Self::Local(served) => Self::Local(served.clone()),
            Self::Strict(served) => Self::Strict(served.clone()),
            Self::Remote(channel) => Self::Remote(channel.clone()),
        }
    }
}

/// Calls one service, wherever it is. Cheap to clone.
pub struct Client<P: ?Sized> {
    shared: Arc<Shared<P>>,
}

struct Shared<P: ?Sized> {
    service: &'static ServiceDescriptor,
    /// Every call has it: of each thread its own, so that they do not count on one another's.
    caller: Striped<Arc<str>>,
    directory: Option<Directory>,
    binding: OnceLock<Binding<P>>,
    outgoing: Outgoing,
    peer: Option<PeerToken>,
}

impl<P: ?Sized + Send + Sync + 'static> Client<P> {
    /// Makes a client that finds its service at the first call.
    pub(crate) fn late(directory: Directory, service: &'static ServiceDescriptor, caller: &str) -> Self {
        let peer = directory.peers().map(|key| PeerToken::new(key.clone(), caller.into()));
        let rules = directory.rules().clone();
        Self::new(service, caller, Some(directory), OnceLock::new(), peer, rules)
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
        Self::new(service, caller, None, OnceLock::from(binding), None, Rules::default())
    }

    fn new(
        service: &'static ServiceDescriptor,
        caller: &str,
        directory: Option<Directory>,
        binding: OnceLock<Binding<P>>,
        peer: Option<PeerToken>,
        rules: Rules,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                service,
                caller: Striped::new(|| Arc::from(caller)),
                directory,
                binding,
                outgoing: Outgoing::new(service, rules),
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
        let stamped = self.stamp(cx);
        let route = self.route()?;
        match &*route {
            Binding::Local(served) => {
                let work = || served.enter(method, stamped, request, call);
                self.shared.outgoing.call_local(method, cx, work).await
            }
            Binding::Strict(served) => {
                let request = recode(&request)?;
                let work = || served.enter(method, stamped, request, call);
                recode(&self.shared.outgoing.call_local(method, cx, work).await?)
            }
            // Boxed: the way over the wire takes kilobytes, which calls within the process would carry about.
            Binding::Remote(channel) => Box::pin(self.unary_remote(channel, method, stamped, request)).await,
        }
    }

    async fn unary_remote<Q: Message, R: Message + Default>(
        &self,
        channel: &Channel,
        method: &'static MethodDescriptor,
        cx: Context,
        request: Q,
    ) -> Result<R> {
        let cx = cx.with_timeout(method.timeout);
        let message = frames::encode(&request).map_err(|status| error_from_status(&status))?;
        let tried = Tried::default();
        let attempt = |cx: Context, _| {
            let (message, tried) = (&message, &tried);
            async move {
                channel
                    .unary(&cx, method.path, || self.headers(&cx), message, tried)
                    .await
            }
        };
        self.shared.outgoing.call(method, &cx, attempt).await
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
        let stamped = self.stamp(cx);
        let route = self.route()?;
        match &*route {
            Binding::Local(served) => {
                let work = || served.enter_streaming(method, stamped, request, call);
                self.shared.outgoing.call_local(method, cx, work).await
            }
            Binding::Strict(served) => {
                let request = recode(&request)?;
                let work = || served.enter_streaming(method, stamped, request, call);
                let items = self.shared.outgoing.call_local(method, cx, work).await?;
                Ok(Box::pin(items.map(|item| item.and_then(|item| recode(&item)))))
            }
            Binding::Remote(channel) => Box::pin(self.streaming_remote(channel, method, stamped, request)).await,
        }
    }

    async fn streaming_remote<Q: Message, R: Message + Default + 'static>(
        &self,
        channel: &Channel,
        method: &'static MethodDescriptor,
        cx: Context,
        request: Q,
    ) -> Result<Streaming<R>> {
        let cx = cx.with_timeout(method.timeout);
        let message = frames::encode(&request).map_err(|status| error_from_status(&status))?;
        let tried = Tried::default();
        let attempt = |cx: Context, _| {
            let (message, tried) = (&message, &tried);
            async move {
                channel
                    .streaming(&cx, method.path, || self.headers(&cx), message, tried)
                    .await
            }
        };
        self.shared.outgoing.call(method, &cx, attempt).await
    }

    fn stamp(&self, cx: &Context) -> Context {
        cx.clone().with_service(Some(self.shared.caller.own().clone()))
    }

    /// Returns where this call goes.
    fn route(&self) -> Result<Cow<'_, Binding<P>>> {
        let binding = self.binding()?;
        if let (Binding::Local(_) | Binding::Strict(_), Some(directory)) = (binding, &self.shared.directory)
            && let Some(channel) = directory.split(self.shared.service)
        {
            return Ok(Cow::Owned(Binding::Remote(channel)));
        }
        Ok(Cow::Borrowed(binding))
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

    /// Returns what the next process must know of the call, as it is now.
    fn headers(&self, cx: &Context) -> HeaderMap {
        let mut headers = metadata::write(cx);
        if let Some(token) = self.shared.peer.as_ref().and_then(|peer| peer.get(cx.runtime())) {
            headers.insert(metadata::PEER, token);
        }
        headers
    }
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
            .field("caller", self.shared.caller.own())
            .finish_non_exhaustive()
    }
}
