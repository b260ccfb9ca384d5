use std::sync::Arc;
use std::time::Duration;

use mosaic_core::{
    Access, AccountId, Caller, Code, Context, DEFAULT_TIMEOUT, Envelope, Identity, MethodDescriptor, Runtime, Secret,
    ServiceDescriptor, Shape,
};

use mosaic_core::Result;

use super::*;

const fn method(index: usize, access: Access) -> MethodDescriptor {
    MethodDescriptor {
        service: "test.v1.Test",
        name: "Call",
        path: "/test.v1.Test/Call",
        index,
        shape: Shape::Unary,
        access,
        idempotent: false,
        timeout: DEFAULT_TIMEOUT,
        rate: None,
        envelope: Envelope::Plain,
        ok_message: "",
        bare: false,
        http: &[],
    }
}

static METHODS: [MethodDescriptor; 5] = [
    method(0, Access::Public),
    method(1, Access::Optional),
    method(2, Access::SignedIn),
    method(3, Access::Role("admin")),
    method(4, Access::Internal),
];
static SERVICE: ServiceDescriptor = ServiceDescriptor {
    name: "test.v1.Test",
    methods: &METHODS,
    file_descriptor_set: &[],
    openapi: "",
    sensitive: &[],
};

fn cx() -> Context {
    Context::new(&Runtime::system())
}

fn signed_in(roles: &[&str]) -> Context {
    let identity = Identity {
        account: AccountId::try_from(7).unwrap(),
        session: "s".into(),
        roles: roles.iter().map(|role| (*role).to_owned()).collect(),
        token: Secret::new(String::new()),
    };
    cx().with_caller(Caller::Account(Arc::new(identity)))
}

#[test]
fn who_may_enter_what() {
    let callers = [
        cx(),
        signed_in(&[]),
        signed_in(&["admin"]),
        cx().with_service(Some("edge".into())),
    ];
    let (ok, who, no, hidden) = (
        None,
        Some(Code::Unauthenticated),
        Some(Code::PermissionDenied),
        Some(Code::NotFound),
    );
    let table = [
        [ok, ok, ok, ok],
        [ok, ok, ok, ok],
        [who, ok, ok, who],
        [who, no, ok, who],
        [hidden, hidden, hidden, ok],
    ];
    for (method, row) in METHODS.iter().zip(table) {
        let got = callers
            .each_ref()
            .map(|caller| check_access(method, caller).err().map(|error| error.code()));
        assert_eq!(got, row, "{:?}", method.access);
    }
}

#[tokio::test]
async fn a_panic_costs_one_call() {
    let guard = Guard::new(&SERVICE, Side::Server);
    let outcome: Result<()> = guard.run(&METHODS[0], &cx(), async { panic!("secret detail") }).await;
    let error = outcome.unwrap_err();
    assert_eq!((error.code(), error.message()), (Code::Internal, "internal error"));
    assert_eq!(error.cause_chain(), "panic: secret detail");
    assert!(guard.run(&METHODS[0], &cx(), async { Ok(1) }).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn work_is_dropped_at_its_deadline() {
    let guard = Guard::new(&SERVICE, Side::Server);
    let cx = cx().with_timeout(Duration::from_millis(50));
    let outcome: Result<()> = guard.run(&METHODS[0], &cx, std::future::pending()).await;
    assert_eq!(outcome.unwrap_err().code(), Code::DeadlineExceeded);
}
