//! Two releases side by side: the contract of the next one has a field and a method more, and they call each other.
//!
//! The stage's contract is both: a caller of the next release knows more of it than it has, one of the release before less.

use std::time::Duration;

use mosaic::registry::Address;
use mosaic::rpc::{Channel, ChannelOptions, Client, Routing};
use mosaic::{Access, Check, Code, Envelope, MethodDescriptor, Runtime, ServiceDescriptor, Shape, Violations};
use mosaic_stage::back::v1::Back;
use mosaic_testing::TestApp;

use crate::stage::{Stage, traced};

/// `ActRequest` of the next release.
#[derive(Clone, PartialEq, mosaic::prost::Message)]
#[prost(prost_path = "::mosaic::prost")]
struct NextRequest {
    #[prost(string, tag = "2")]
    mark: String,
    #[prost(string, tag = "90")]
    added: String,
}

/// `ActReply` of the next release.
#[derive(Clone, PartialEq, mosaic::prost::Message)]
#[prost(prost_path = "::mosaic::prost")]
struct NextReply {
    #[prost(string, tag = "1")]
    by: String,
    #[prost(string, optional, tag = "90")]
    added: Option<String>,
}

/// `ActReply` of the release before, which had not yet said how much time was left.
#[derive(Clone, PartialEq, mosaic::prost::Message)]
#[prost(prost_path = "::mosaic::prost")]
struct FormerReply {
    #[prost(string, tag = "1")]
    by: String,
}

impl Check for NextRequest {
    fn check(&self, _: &mut Violations) {}
}

const fn method(name: &'static str, path: &'static str, index: usize) -> MethodDescriptor {
    MethodDescriptor {
        service: "back.v1.Back",
        name,
        path,
        index,
        shape: Shape::Unary,
        access: Access::Public,
        idempotent: true,
        timeout: Duration::from_secs(5),
        rate: None,
        envelope: Envelope::Plain,
        ok_message: "",
        bare: false,
        http: &[],
    }
}

static NEXT: ServiceDescriptor = ServiceDescriptor {
    name: "back.v1.Back",
    methods: &[
        method("ActAgain", "/back.v1.Back/ActAgain", 0),
        method("ActAnew", "/back.v1.Back/ActAnew", 1),
    ],
    file_descriptor_set: &[],
    openapi: "",
    sensitive: &[],
};

async fn call<R: mosaic::prost::Message + Default + 'static>(app: &TestApp, position: usize) -> mosaic::Result<R> {
    let address = Address::try_from(app.processes()[0].addresses().grpc).unwrap();
    let (runtime, options) = (Runtime::system(), ChannelOptions::default());
    let channel = Channel::listed(&runtime, &[address], NEXT.name, options, Routing::default());
    let client = Client::<dyn Back>::remote(&NEXT, channel, "stranger");
    let request = NextRequest {
        mark: "versions".to_owned(),
        added: "nobody knows this yet".to_owned(),
    };
    client
        .unary(&NEXT.methods[position], &traced().0, request, |_, _, _| {
            Box::pin(async { unreachable!("it is elsewhere") })
        })
        .await
}

#[tokio::test]
async fn fields_that_the_other_release_does_not_know_are_passed_over() {
    let stage = Stage::new();
    let app = stage.start(mosaic_testing::Shape::Apart(&[&["back"]])).await;
    let reply: NextReply = call(&app, 0).await.expect("an answer of the release before");
    assert!(!reply.by.is_empty() && reply.added.is_none());
    let reply: FormerReply = call(&app, 0).await.expect("an answer of the next release");
    assert!(!reply.by.is_empty());
    assert_eq!(stage.witness.seen("versions").n_done, 2);
    app.stop().await;
}

#[tokio::test]
async fn a_method_that_the_other_release_does_not_have_is_unimplemented_and_no_fault_of_it() {
    let stage = Stage::new();
    let app = stage.start(mosaic_testing::Shape::Apart(&[&["back"]])).await;
    for _ in 0..20 {
        let error = call::<NextReply>(&app, 1).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{error:?}");
    }
    // Neither the breaker nor the choice of instances takes it for one that fails.
    assert!(call::<NextReply>(&app, 0).await.is_ok());
    app.stop().await;
}
