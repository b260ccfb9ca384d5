//! The same call with tonic alone: what one writes for a message without a guard.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use mosaic::StopSignal;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::http::{Request, Response};
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tonic_prost::ProstCodec;

use crate::contract::bench::v1::{SayReply, SayRequest};
use crate::echo::answer;
use crate::report::Result;

const PATH: &str = "/bench.bare.v1.Echo/Say";

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

#[derive(Clone)]
struct EchoServer;

impl NamedService for EchoServer {
    const NAME: &'static str = "bench.bare.v1.Echo";
}

impl tower::Service<Request<Body>> for EchoServer {
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Boxed<std::result::Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::result::Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = Grpc::new(ProstCodec::<SayReply, SayRequest>::default());
            Ok(grpc.unary(Say, request).await)
        })
    }
}

struct Say;

impl UnaryService<SayRequest> for Say {
    type Response = SayReply;
    type Future = Boxed<std::result::Result<tonic::Response<SayReply>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<SayRequest>) -> Self::Future {
        Box::pin(async move { Ok(tonic::Response::new(answer(request.into_inner()))) })
    }
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, mut stop: StopSignal) {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let served = Server::builder()
        .add_service(EchoServer)
        .serve_with_incoming_shutdown(incoming, async move { stop.stopped().await });
    // A listener that fails shows as calls that fail.
    let _ = served.await;
}

/// Opens a connection as [`mosaic::rpc::Channel`] does.
pub(crate) fn connect(address: SocketAddr) -> Result<Channel> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?;
    Ok(endpoint
        .tcp_nodelay(true)
        .connect_timeout(Duration::from_secs(2))
        .connect_lazy())
}

pub(crate) async fn say(channel: Channel, request: SayRequest) -> Result<SayReply> {
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await?;
    let codec = ProstCodec::<SayRequest, SayReply>::default();
    let reply = grpc
        .unary(tonic::Request::new(request), PathAndQuery::from_static(PATH), codec)
        .await?;
    Ok(reply.into_inner())
}
