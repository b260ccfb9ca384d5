//! Who calls, until when, and as part of what: the one thing that every call carries.
//!
//! A [`Context`] is made at a border (the edge from an HTTP request, the gRPC server from metadata, a task runner from
//! a stored task) and passed on by reference. Nothing else is ambient. What a client says of itself (account, service)
//! is never believed: [`Caller`] and [`Context::service`] are set only by code that has verified a signature.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{AccountId, Error, Result, Runtime, Secret, put_hex};

/// Who stands behind a call.
#[derive(Debug, Clone, Default)]
pub enum Caller {
    /// Nobody that we know.
    #[default]
    Anonymous,
    /// The holder of a verified access token.
    Account(Arc<Identity>),
}

/// What a verified access token says.
#[derive(Debug, Clone)]
pub struct Identity {
    /// The account.
    pub account: AccountId,
    /// The session that the token belongs to (ssid).
    pub session: String,
    /// Roles granted.
    pub roles: Vec<String>,
    /// The token itself: travels with calls to other processes, which verify it again.
    pub token: Secret<String>,
}

/// Trace identity as of W3C Trace Context; the trace id is also the request id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// Names the whole request, in every process.
    pub trace_id: u128,
    /// Names this part of it.
    pub span_id: u64,
    /// Is the trace recorded?
    pub sampled: bool,
}

impl Trace {
    /// Starts a new trace.
    pub fn start(runtime: &Runtime) -> Self {
        let [high, low, span_id] = runtime.trace_bits();
        let trace_id = (u128::from(high) << 64) | u128::from(low);
        // Zero means "none" in the standard.
        Self {
            trace_id: trace_id.max(1),
            span_id: span_id.max(1),
            sampled: true,
        }
    }

    /// Reads a `traceparent` header; `None` if it is not one of version 00.
    pub fn parse(traceparent: &str) -> Option<Self> {
        let bytes: &[u8; Self::TRACEPARENT_LEN] = traceparent.as_bytes().try_into().ok()?;
        let is_parted = bytes.starts_with(b"00-") && bytes[35] == b'-' && bytes[52] == b'-';
        let (trace_id, span_id, flags) = (digits(&bytes[3..35])?, digits(&bytes[36..52])?, digits(&bytes[53..])?);
        let is_named = trace_id != 0 && span_id != 0;
        (is_parted && is_named).then_some(Self {
            trace_id,
            span_id: span_id as u64,
            sampled: flags & 1 == 1,
        })
    }

    /// Bytes of a `traceparent` header.
    pub const TRACEPARENT_LEN: usize = 55;

    /// Returns the `traceparent` header.
    pub fn traceparent(self) -> TraceText<{ Self::TRACEPARENT_LEN }> {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        put_hex(&mut text[3..35], self.trace_id.to_be_bytes());
        put_hex(&mut text[36..52], self.span_id.to_be_bytes());
        text[54] += u8::from(self.sampled);
        TraceText(text)
    }

    /// Returns the request id that people quote: the trace id in hexadecimal.
    pub fn request_id(self) -> TraceText<32> {
        let mut text = [0; 32];
        put_hex(&mut text, self.trace_id.to_be_bytes());
        TraceText(text)
    }
}

/// What a trace is called, in digits and dashes; without a block of memory for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceText<const LEN: usize>([u8; LEN]);

impl<const LEN: usize> TraceText<LEN> {
    /// Returns the text.
    pub fn as_str(&self) -> &str {
        // Digits and dashes are text.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

/// Reads lower-case hexadecimal digits, at most 32 of them.
fn digits(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0, |number, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(number << 4 | u128::from(digit))
    })
}

/// Where an outside request came from; for limits and for binding sessions, never for authorisation.
#[derive(Debug, Clone, Default)]
pub struct Origin {
    /// Address of the client, as far as trusted proxies tell.
    pub ip: Option<IpAddr>,
    /// `User-Agent` of the client.
    pub user_agent: Option<Arc<str>>,
}

/// See the module documentation. Cheap to clone: each call has one of its own, and what all calls of a request have in common is shared
/// by them, so that requests on other threads are not disturbed by the counting of references.
#[derive(Debug, Clone)]
pub struct Context {
    request: Arc<Request>,
    service: Option<Arc<str>>,
    deadline: Option<Instant>,
    is_degraded: bool,
    is_retried: bool,
}

/// What all calls of a request have in common.
#[derive(Debug, Clone)]
struct Request {
    runtime: Runtime,
    caller: Caller,
    origin: Origin,
    trace: Trace,
    idempotency_key: Option<Arc<str>>,
}

impl Context {
    /// Makes the context of a new, anonymous request without a deadline.
    pub fn new(runtime: &Runtime) -> Self {
        Self::resume(runtime, Trace::start(runtime))
    }

    /// Makes the context of a request that is part of an existing trace.
    pub fn resume(runtime: &Runtime, trace: Trace) -> Self {
        Self {
            request: Arc::new(Request {
                runtime: runtime.clone(),
                caller: Caller::Anonymous,
                origin: Origin::default(),
                trace,
                idempotency_key: None,
            }),
            service: None,
            deadline: None,
            is_degraded: false,
            is_retried: false,
        }
    }

    /// Returns what is to be set, which nobody else has yet or which is copied.
    fn request(&mut self) -> &mut Request {
        Arc::make_mut(&mut self.request)
    }

    /// Returns this context with a verified caller.
    #[must_use]
    pub fn with_caller(mut self, caller: Caller) -> Self {
        self.request().caller = caller;
        self
    }

    /// Returns this context as that of a call made by the service `name`, which the one who calls this has verified.
    #[must_use]
    pub fn with_service(mut self, name: Option<Arc<str>>) -> Self {
        self.service = name;
        self
    }

    /// Returns this context with the client's address and agent.
    #[must_use]
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.request().origin = origin;
        self
    }

    /// Returns this context with the key that names the request's effect.
    #[must_use]
    pub fn with_idempotency_key(mut self, key: Option<Arc<str>>) -> Self {
        self.request().idempotency_key = key;
        self
    }

    /// Returns this context with the mark of a platform that is short of something: handlers may take a cheaper path.
    #[must_use]
    pub fn with_degraded(mut self, is_degraded: bool) -> Self {
        self.is_degraded = is_degraded;
        self
    }

    /// Returns this context as that of a repeated attempt, below which nothing is repeated again.
    #[must_use]
    pub fn with_retried(mut self, is_retried: bool) -> Self {
        self.is_retried = is_retried;
        self
    }

    /// Returns this context ending in `timeout`, or earlier if it did already.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        let ours = self.request.runtime.instant() + timeout;
        self.deadline = Some(self.deadline.map_or(ours, |theirs| theirs.min(ours)));
        self
    }

    /// Returns clock, randomness and ids.
    pub fn runtime(&self) -> &Runtime {
        &self.request.runtime
    }

    /// Returns who calls.
    pub fn caller(&self) -> &Caller {
        &self.request.caller
    }

    /// Returns the verified identity, if there is one.
    pub fn identity(&self) -> Option<&Arc<Identity>> {
        match &self.request.caller {
            Caller::Anonymous => None,
            Caller::Account(identity) => Some(identity),
        }
    }

    /// Returns the account that calls.
    ///
    /// # Errors
    /// `Unauthenticated` if nobody is signed in.
    pub fn account(&self) -> Result<AccountId> {
        let identity = self.identity();
        identity
            .map(|identity| identity.account)
            .ok_or_else(|| Error::unauthenticated("TOKEN_MISSING", "sign in first"))
    }

    /// Returns the service of the platform that calls, if one does.
    pub fn service(&self) -> Option<&Arc<str>> {
        self.service.as_ref()
    }

    /// Returns where the outside request came from.
    pub fn origin(&self) -> &Origin {
        &self.request.origin
    }

    /// Returns when work on this request is to end.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline
    }

    /// Returns the time left, `None` without a deadline, zero when it has passed.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline
            .map(|deadline| deadline.saturating_duration_since(self.runtime().instant()))
    }

    /// Returns the trace identity.
    pub fn trace(&self) -> Trace {
        self.request.trace
    }

    /// Returns the key that names the request's effect, where the caller gave one.
    pub fn idempotency_key(&self) -> Option<&Arc<str>> {
        self.request.idempotency_key.as_ref()
    }

    /// Is the platform short of something? Set by the guard when load is high, and by callers; says nothing is wrong yet.
    pub fn degraded(&self) -> bool {
        self.is_degraded
    }

    /// Is this work part of an attempt that some caller has already repeated? Then nobody below repeats again.
    pub fn is_retried(&self) -> bool {
        self.is_retried
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_only_shrinks() {
        let cx = Context::new(&Runtime::system()).with_timeout(Duration::from_secs(1));
        let first = cx.deadline();
        assert_eq!(cx.clone().with_timeout(Duration::from_secs(60)).deadline(), first);
        assert!(cx.with_timeout(Duration::from_millis(1)).deadline() < first);
    }

    #[test]
    fn no_two_traces_have_a_name_in_common() {
        let (one, other) = (Runtime::system(), Runtime::system());
        let traces: Vec<_> = [&one, &other]
            .iter()
            .flat_map(|runtime| (0..1000).map(|_| Trace::start(runtime)))
            .collect();
        let trace_ids: std::collections::HashSet<_> = traces.iter().map(|trace| trace.trace_id).collect();
        let span_ids: std::collections::HashSet<_> = traces.iter().map(|trace| trace.span_id).collect();
        assert_eq!((trace_ids.len(), span_ids.len()), (2000, 2000));
    }

    #[test]
    fn a_traceparent_survives_print_and_parse() {
        let trace = Trace::start(&Runtime::system());
        assert_eq!(Trace::parse(trace.traceparent().as_str()), Some(trace));
    }

    #[test]
    fn what_is_no_traceparent_is_none() {
        for bad in [
            "",
            "00",
            "00-00000000000000000000000000000000-0000000000000001-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-x",
        ] {
            assert_eq!(Trace::parse(bad), None, "{bad}");
        }
    }
}
