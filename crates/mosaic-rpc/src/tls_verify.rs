//! Whose certificate is believed, and for what.
//!
//! The chain, the times and the purpose of a certificate are checked by rustls, as everywhere. What is ours is the name: a
//! service and not a host, since addresses come from registries that may be wrong, late or lied to, and pass from one
//! service to another. A certificate of the right CA for another service is as good as none.

use std::sync::Arc;

use mosaic_core::{Runtime, Timestamp};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::time_provider::TimeProvider;
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, RootCertStore, SignatureScheme};

/// What the names of services begin with (the SPIFFE ID standard, section 2).
const PREFIX: &str = "spiffe://mosaic/";

/// Returns the cryptography of every handshake.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns the services that `certificate` names, in its order.
pub(crate) fn services(certificate: &CertificateDer<'_>) -> Arc<[Arc<str>]> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else {
        return Arc::default();
    };
    let names = certificate.valid_uri_names();
    names
        .filter_map(|uri| uri.strip_prefix(PREFIX))
        .filter(|service| !service.is_empty() && !service.contains('/'))
        .map(Arc::from)
        .collect()
}

/// Why a certificate without a service is refused.
pub(crate) fn unnamed() -> Error {
    Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)
}

pub(crate) fn unix_time(at: Timestamp) -> UnixTime {
    let seconds = u64::try_from(at.as_secs()).unwrap_or_default();
    UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds))
}

/// Returns when `certificate`, which is good at `now`, ends.
pub(crate) fn end_of(
    certificate: &CertificateDer<'_>,
    between: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: Timestamp,
) -> Timestamp {
    let Ok(parsed) = webpki::EndEntityCert::try_from(certificate) else {
        return now;
    };
    // Asked for a time when it has ended, the verifier says when it did.
    let late = UnixTime::since_unix_epoch(std::time::Duration::from_secs(1 << 40));
    let algorithms = provider().signature_verification_algorithms.all;
    let usage = webpki::KeyUsage::server_auth();
    match parsed.verify_for_usage(algorithms, &roots.roots, between, late, usage, None, None) {
        Err(webpki::Error::CertExpired { not_after, .. }) => {
            Timestamp::from_secs(i64::try_from(not_after.as_secs()).unwrap_or(i64::MAX))
        }
        _ => now,
    }
}

/// The clock of the runtime, for validity.
#[derive(Debug)]
pub(crate) struct RuntimeClock(pub(crate) Runtime);

impl TimeProvider for RuntimeClock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(unix_time(self.0.now()))
    }
}

/// Believes servers that are one service.
#[derive(Debug)]
pub(crate) struct ServiceCallee {
    service: String,
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
}

impl ServiceCallee {
    pub(crate) fn new(service: &str, roots: Arc<RootCertStore>) -> Self {
        Self {
            service: service.to_owned(),
            roots,
            provider: provider(),
        }
    }

    /// Checks the chain, the times, the purpose and the name.
    pub(crate) fn verify(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), Error> {
        let algorithms = self.provider.signature_verification_algorithms.all;
        let parsed = ParsedCertificate::try_from(certificate)?;
        verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, between, now, algorithms)?;
        if services(certificate).iter().any(|name| **name == *self.service) {
            Ok(())
        } else {
            Err(Error::InvalidCertificate(CertificateError::NotValidForName))
        }
    }
}

impl ServerCertVerifier for ServiceCallee {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verify(certificate, between, now)?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken here".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Believes clients that are some service.
#[derive(Debug)]
pub(crate) struct ServiceCaller {
    chain: Arc<dyn ClientCertVerifier>,
}

impl ServiceCaller {
    /// Makes the verifier; fails if there are no roots.
    pub(crate) fn new(roots: Arc<RootCertStore>) -> Result<Self, String> {
        let chain = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
        Ok(Self {
            chain: chain.map_err(|error| error.to_string())?,
        })
    }
}

impl ClientCertVerifier for ServiceCaller {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.chain.verify_client_cert(certificate, between, now)?;
        if services(certificate).is_empty() {
            Err(unnamed())
        } else {
            Ok(verified)
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use rcgen::{
        BasicConstraints, CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType,
    };

    use super::*;

    const BEGINS: u64 = 1_800_000_000;
    const ENDS: u64 = BEGINS + 1000;

    fn ca() -> (CertificateParams, KeyPair) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        (params, KeyPair::generate().unwrap())
    }

    fn roots(ca: &(CertificateParams, KeyPair)) -> Arc<RootCertStore> {
        let mut roots = RootCertStore::empty();
        roots.add(ca.0.self_signed(&ca.1).unwrap().der().clone()).unwrap();
        Arc::new(roots)
    }

    fn leaf(
        ca: &(CertificateParams, KeyPair),
        uris: &[&str],
        purposes: &[ExtendedKeyUsagePurpose],
    ) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.not_before = (UNIX_EPOCH + Duration::from_secs(BEGINS)).into();
        params.not_after = (UNIX_EPOCH + Duration::from_secs(ENDS)).into();
        params.extended_key_usages = purposes.to_vec();
        let names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap()));
        params.subject_alt_names = names.collect();
        let issuer = Issuer::from_params(&ca.0, &ca.1);
        params
            .signed_by(&KeyPair::generate().unwrap(), &issuer)
            .unwrap()
            .der()
            .clone()
    }

    const BOTH: [ExtendedKeyUsagePurpose; 2] =
        [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];

    /// Who is believed at the moment `now`: as the callee `users`, and as a caller.
    fn believed(leaf: &CertificateDer<'_>, roots: &Arc<RootCertStore>, now: u64) -> (bool, bool) {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now));
        let callee = ServiceCallee::new("users", roots.clone()).verify(leaf, &[], now);
        let caller = ServiceCaller::new(roots.clone()).unwrap();
        (callee.is_ok(), caller.verify_client_cert(leaf, &[], now).is_ok())
    }

    #[test]
    fn chain_times_purpose_and_name_must_all_be_right() {
        let (ours, other) = (ca(), ca());
        let roots = roots(&ours);
        let users = ["spiffe://mosaic/users"];
        let good = leaf(&ours, &users, &BOTH);
        let now = BEGINS + 500;
        assert_eq!(believed(&good, &roots, now), (true, true));
        assert_eq!(believed(&good, &roots, BEGINS - 1), (false, false), "not yet");
        assert_eq!(believed(&good, &roots, ENDS + 1), (false, false), "not any more");
        assert_eq!(
            believed(&leaf(&other, &users, &BOTH), &roots, now),
            (false, false),
            "another CA"
        );
        assert_eq!(
            believed(&leaf(&ours, &users, &BOTH[..1]), &roots, now),
            (true, false),
            "for servers"
        );
        assert_eq!(
            believed(&leaf(&ours, &users, &BOTH[1..]), &roots, now),
            (false, true),
            "for clients"
        );
        for (uris, want) in [
            (&["spiffe://mosaic/order"][..], (false, true)),
            (&["spiffe://mosaic/order", "spiffe://mosaic/users"], (true, true)),
            (&["spiffe://mosaic/users2"], (false, true)),
            (&["spiffe://mosaic/users/2"], (false, false)),
            (&["spiffe://other/users"], (false, false)),
            (&["https://mosaic/users"], (false, false)),
            (&[], (false, false)),
        ] {
            assert_eq!(believed(&leaf(&ours, uris, &BOTH), &roots, now), want, "{uris:?}");
        }
    }

    #[test]
    fn a_certificate_says_its_services_and_its_end() {
        let ours = ca();
        let leaf = leaf(&ours, &["spiffe://mosaic/b", "https://x/a", "spiffe://mosaic/a"], &BOTH);
        assert!(services(&leaf).iter().map(AsRef::as_ref).eq(["b", "a"]));
        let now = Timestamp::from_secs(i64::try_from(BEGINS).unwrap());
        let end = end_of(&leaf, &[], &roots(&ours), now);
        assert_eq!(end, Timestamp::from_secs(i64::try_from(ENDS).unwrap()));
    }
}
