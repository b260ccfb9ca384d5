use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use mosaic_core::{ManualClock, SeededRandom};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::{AccessClaims, KeyRing, RefreshClaims, TokenIssuer};

const NOW: i64 = 1_800_000_000;

fn policy() -> TokenPolicy {
    TokenPolicy {
        issuer: "mosaic".into(),
        audience: "platform".into(),
        access_ttl: Duration::from_secs(1800),
        refresh_ttl: Duration::from_secs(7 * 86_400),
    }
}

struct World {
    clock: Arc<ManualClock>,
    issuer: TokenIssuer,
    verifier: TokenVerifier,
    pem: Secret<String>,
}

fn world() -> World {
    let clock = Arc::new(ManualClock::at(Timestamp::from_secs(NOW)));
    let runtime = Runtime::new(clock.clone(), Arc::new(SeededRandom::new(1)));
    let mut ring = KeyRing::new(Duration::ZERO);
    let pem = KeyRing::generate(&runtime);
    ring.add("k1", Timestamp::EPOCH, &pem).unwrap();
    let verifier = TokenVerifier::new(&runtime, policy());
    verifier.set_keys(PublicKeys::from_jwks(&ring.jwks()).unwrap());
    World {
        clock,
        issuer: TokenIssuer::new(ring, policy(), runtime),
        verifier,
        pem,
    }
}

fn claims() -> AccessClaims {
    AccessClaims {
        sub: "42".into(),
        ssid: "s1".into(),
        roles: vec!["admin".into()],
    }
}

/// Signs whatever header and claims an attacker, or a careless colleague, might think of.
fn forge(pem: &Secret<String>, header: &Value, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let message = format!("{}.{}", part(header), part(claims));
    let key = jsonwebtoken::EncodingKey::from_ed_pem(pem.expose().as_bytes()).unwrap();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, jsonwebtoken::Algorithm::EdDSA).unwrap();
    format!("{message}.{signature}")
}

fn good_header() -> Value {
    json!({"alg": "EdDSA", "typ": "at+jwt", "kid": "k1"})
}

fn good_claims() -> Value {
    json!({"iss": "mosaic", "aud": "platform", "iat": NOW, "exp": NOW + 60, "sub": "42", "ssid": "s1"})
}

fn with(mut value: Value, field: &str, new: Value) -> Value {
    value[field] = new;
    value
}

#[test]
fn a_good_token_says_who() {
    let world = world();
    let (token, expires) = world.issuer.access(claims()).unwrap();
    assert_eq!(expires, Timestamp::from_secs(NOW + 1800));
    for _ in 0..2 {
        let identity = world.verifier.authenticate(&token).unwrap();
        assert_eq!((identity.account.get(), identity.session.as_str()), (42, "s1"));
        assert_eq!(identity.roles, ["admin"]);
    }
    let forged = forge(&world.pem, &good_header(), &good_claims());
    assert!(
        world.verifier.authenticate(&forged).is_ok(),
        "the forge of the tests below makes good tokens"
    );
}

/// Tokens whose signature, or the key that it asks for, is not what it should be.
fn forgeries(world: &World) -> Vec<(&'static str, String)> {
    let sign = |header: Value| forge(&world.pem, &header, &good_claims());
    let stranger = KeyRing::generate(&Runtime::system());
    let strange = |header: Value| forge(&stranger, &header, &good_claims());
    vec![
        ("none", unsigned("none")),
        ("nOnE", unsigned("nOnE")),
        ("empty signature", unsigned("EdDSA")),
        ("public key as secret", public_key_as_secret(world)),
        (
            "kid is a path",
            sign(with(good_header(), "kid", json!("../../etc/passwd"))),
        ),
        ("kid is SQL", sign(with(good_header(), "kid", json!("k1' OR '1'='1")))),
        ("no kid", sign(with(good_header(), "kid", Value::Null))),
        ("wrong typ", sign(with(good_header(), "typ", json!("JWT")))),
        ("foreign key", strange(good_header())),
        (
            "foreign key in the header",
            strange(with(good_header(), "jwk", json!({"kty": "OKP"}))),
        ),
        ("jku", strange(with(good_header(), "jku", json!("https://evil.test")))),
    ]
}

/// Tokens of ours that do not say what an access token says.
fn misstatements(world: &World) -> Vec<(&'static str, String)> {
    let sign = |field: &str, value: Value| forge(&world.pem, &good_header(), &with(good_claims(), field, value));
    let refresh = RefreshClaims {
        sub: "42".into(),
        ssid: "s1".into(),
        generation: 0,
    };
    vec![
        ("refresh token", world.issuer.refresh(refresh).unwrap().0),
        ("wrong iss", sign("iss", json!("evil"))),
        ("wrong aud", sign("aud", json!("other"))),
        ("no aud", sign("aud", Value::Null)),
        ("no exp", sign("exp", Value::Null)),
        ("sub is no account", sign("sub", json!("root"))),
        ("expired beyond leeway", sign("exp", json!(NOW - 61))),
        ("issued beyond leeway", sign("iat", json!(NOW + 61))),
        ("not before beyond leeway", sign("nbf", json!(NOW + 61))),
    ]
}

fn unsigned(alg: &str) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    format!(
        "{}.{}.",
        part(&with(good_header(), "alg", json!(alg))),
        part(&good_claims())
    )
}

/// The public key as an HMAC secret, the classic confusion.
fn public_key_as_secret(world: &World) -> String {
    let jwks: Value = serde_json::from_str(&world.issuer.ring().jwks()).unwrap();
    let public = URL_SAFE_NO_PAD.decode(jwks["keys"][0]["x"].as_str().unwrap()).unwrap();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    header.typ = Some("at+jwt".into());
    header.kid = Some("k1".into());
    jsonwebtoken::encode(
        &header,
        &good_claims(),
        &jsonwebtoken::EncodingKey::from_secret(&public),
    )
    .unwrap()
}

#[test]
fn no_bad_token_passes() {
    let world = world();
    let garbage = ["111", "a.b.c", "", "....", "ä.ö.ü"].map(|text| ("garbage", text.to_owned()));
    let long = [("64 KB", "a".repeat(64 * 1024))];
    for (what, token) in forgeries(&world)
        .into_iter()
        .chain(misstatements(&world))
        .chain(garbage)
        .chain(long)
    {
        let error = world.verifier.authenticate(&token).map(drop).expect_err(what);
        assert_eq!(error.code(), Code::Unauthenticated, "{what}");
    }
    for (field, value) in [("exp", NOW - 59), ("iat", NOW + 59), ("nbf", NOW + 59)] {
        let token = forge(&world.pem, &good_header(), &with(good_claims(), field, json!(value)));
        assert!(world.verifier.authenticate(&token).is_ok(), "{field} within the leeway");
    }
}

#[test]
fn what_was_verified_by_keys_that_are_gone_is_not_remembered() {
    let world = world();
    let (token, _) = world.issuer.access(claims()).unwrap();
    let now = Timestamp::from_secs(NOW);
    let before = world.verifier.keys.load_full();
    let known = world.verifier.verify(&token, &before, now).unwrap();
    world.verifier.set_keys(PublicKeys::default());
    world.verifier.remember(&token, known, &before, now);
    assert!(world.verifier.authenticate(&token).is_err());
}

#[test]
fn a_remembered_token_still_ends() {
    let world = world();
    let (token, _) = world.issuer.access(claims()).unwrap();
    world.verifier.authenticate(&token).unwrap();
    world.clock.advance(Duration::from_secs(1800 + 60));
    assert!(world.verifier.authenticate(&token).is_ok());
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(
        world.verifier.authenticate(&token).unwrap_err().reason(),
        "TOKEN_EXPIRED"
    );
}

#[test]
fn a_revocation_is_seen_at_once_and_only_where_it_belongs() {
    let world = world();
    let (ours, _) = world.issuer.access(claims()).unwrap();
    let (other, _) = world
        .issuer
        .access(AccessClaims {
            ssid: "s2".into(),
            ..claims()
        })
        .unwrap();
    world.verifier.authenticate(&ours).unwrap();
    let revocations = world.verifier.revocations().clone();
    revocations.revoke_session("s1", Timestamp::from_secs(NOW));
    assert_eq!(
        world.verifier.authenticate(&ours).unwrap_err().reason(),
        "TOKEN_REVOKED"
    );
    assert!(world.verifier.authenticate(&other).is_ok());
    revocations.revoke_account(AccountId::try_from(42).unwrap(), Timestamp::from_secs(NOW));
    assert!(world.verifier.authenticate(&other).is_err());
    world.clock.advance(Duration::from_secs(1));
    let (fresh, _) = world
        .issuer
        .access(AccessClaims {
            ssid: "s3".into(),
            ..claims()
        })
        .unwrap();
    assert!(world.verifier.authenticate(&fresh).is_ok());
    // What could still be used is never forgotten.
    revocations.prune(Timestamp::from_secs(NOW + 1860), policy().access_ttl);
    assert!(world.verifier.authenticate(&ours).is_err());
    revocations.prune(Timestamp::from_secs(NOW + 10_000), policy().access_ttl);
    assert_eq!(format!("{revocations:?}").matches("s1").count(), 0);
}

#[test]
fn rotation_signs_nobody_out() {
    let world = world();
    let (old, _) = world.issuer.access(claims()).unwrap();
    let mut ring = world.issuer.ring().clone();
    ring.add("k2", Timestamp::from_secs(NOW), &KeyRing::generate(&Runtime::system()))
        .unwrap();
    world.verifier.set_keys(PublicKeys::from_jwks(&ring.jwks()).unwrap());
    let runtime = Runtime::new(world.clock.clone(), Arc::new(SeededRandom::new(2)));
    let (new, _) = TokenIssuer::new(ring, policy(), runtime).access(claims()).unwrap();
    assert!(world.verifier.authenticate(&old).is_ok() && world.verifier.authenticate(&new).is_ok());
    assert!(jsonwebtoken::decode_header(&new).unwrap().kid.as_deref() == Some("k2"));
}

/// Keys of other systems: RS256 signs, RS512 of the same key is accepted, HS256 with its public half is not.
#[test]
fn rsa_keys_of_others_are_good_keys() {
    let world = world();
    let pem = Secret::new(include_str!("rsa-for-tests.pem").to_owned());
    let mut ring = KeyRing::new(Duration::ZERO);
    ring.add("rsa", Timestamp::EPOCH, &pem).unwrap();
    world.verifier.set_keys(PublicKeys::from_jwks(&ring.jwks()).unwrap());
    let runtime = Runtime::new(world.clock.clone(), Arc::new(SeededRandom::new(2)));
    let (token, _) = TokenIssuer::new(ring, policy(), runtime).access(claims()).unwrap();
    assert!(jsonwebtoken::decode_header(&token).unwrap().alg == jsonwebtoken::Algorithm::RS256);
    assert!(world.verifier.authenticate(&token).is_ok());
    let key = jsonwebtoken::EncodingKey::from_rsa_pem(pem.expose().as_bytes()).unwrap();
    let sign = |algorithm| {
        let mut header = jsonwebtoken::Header::new(algorithm);
        header.typ = Some("at+jwt".into());
        header.kid = Some("rsa".into());
        jsonwebtoken::encode(&header, &good_claims(), &key).unwrap()
    };
    assert!(
        world
            .verifier
            .authenticate(&sign(jsonwebtoken::Algorithm::RS512))
            .is_ok()
    );
    assert!(
        world
            .verifier
            .authenticate(&sign(jsonwebtoken::Algorithm::PS256))
            .is_err()
    );
}

#[test]
fn without_keys_nobody_is_judged() {
    let verifier = TokenVerifier::new(&Runtime::system(), policy());
    assert_eq!(verifier.authenticate("a.b.c").unwrap_err().code(), Code::Unavailable);
}

proptest! {
    #[test]
    fn any_flipped_byte_is_refused(position in 0usize..1000, flip in 1u8..=255) {
        let world = world();
        let (token, _) = world.issuer.access(claims()).unwrap();
        let mut bytes = token.clone().into_bytes();
        let position = position % bytes.len();
        bytes[position] ^= flip;
        if let Ok(changed) = String::from_utf8(bytes) {
            prop_assert!(world.verifier.authenticate(&changed).is_err(), "{changed}");
        }
    }
}
