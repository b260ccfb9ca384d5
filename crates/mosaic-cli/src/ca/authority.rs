//! A key that signs certificates, and the certificates that it signs.
//!
//! Nothing here touches a file or a clock. The name of a CA is made from its public key, so that the key alone is enough to
//! sign, and a bundle of several is told apart. Keys are ECDSA on P-256, which every TLS stack speaks.

use std::net::IpAddr;
use std::time::{Duration, UNIX_EPOCH};

use mosaic_core::{Timestamp, hex};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use sha2::{Digest as _, Sha256};

use super::{CaError, ServiceName};

/// Clocks differ; a certificate is good a little before it is made.
const BACKDATED: Duration = Duration::from_secs(5 * 60);

/// See the module documentation.
#[derive(Debug)]
pub struct Authority {
    key: KeyPair,
}

/// Whom a certificate is for.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Services that the process runs.
    pub services: Vec<ServiceName>,
    /// Host names, for clients that look at them.
    pub dns: Vec<String>,
    /// Addresses, for clients that look at them.
    pub ips: Vec<IpAddr>,
}

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Issued {
    /// The certificate.
    pub certificate: String,
    /// Its private key.
    pub key: String,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued").finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new key.
    ///
    /// # Errors
    /// [`CaError::Crypto`] if the system has no randomness.
    pub fn generate() -> Result<Self, CaError> {
        Ok(Self {
            key: KeyPair::generate()?,
        })
    }

    /// Reads a key that [`Authority::key`] has given.
    ///
    /// # Errors
    /// [`CaError::Crypto`] if it is none.
    pub fn from_key(pem: &str) -> Result<Self, CaError> {
        Ok(Self {
            key: KeyPair::from_pem(pem)?,
        })
    }

    /// Returns the private key as PEM.
    pub fn key(&self) -> String {
        self.key.serialize_pem()
    }

    /// Returns the public key as it stands in certificates.
    pub(crate) fn public_key(&self) -> &[u8] {
        self.key.public_key_raw()
    }

    /// Returns the certificate of the CA itself, good from `now` to `ends`.
    ///
    /// # Errors
    /// [`CaError::Crypto`].
    pub fn certificate(&self, now: Timestamp, ends: Timestamp) -> Result<String, CaError> {
        let params = self.params(now, ends);
        Ok(params.self_signed(&self.key)?.pem())
    }

    /// Returns a certificate with which those who believe in us believe in `other`.
    ///
    /// # Errors
    /// [`CaError::Crypto`].
    pub fn vouch_for(&self, other: &Self, now: Timestamp, ends: Timestamp) -> Result<String, CaError> {
        let ours = self.params(now, ends);
        let issuer = Issuer::from_params(&ours, &self.key);
        Ok(other.params(now, ends).signed_by(&other.key, &issuer)?.pem())
    }

    /// Issues a certificate with a new key, good from a little before `now` to `ends`, for both ends of a connection.
    ///
    /// # Errors
    /// [`CaError::Crypto`] for names that are none.
    pub fn issue(&self, subject: &Subject, now: Timestamp, ends: Timestamp) -> Result<Issued, CaError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        if let Some(first) = subject.services.first() {
            params.distinguished_name.push(DnType::CommonName, first.as_str());
        }
        (params.not_before, params.not_after) = (system_time(now.minus(BACKDATED)).into(), system_time(ends).into());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        for service in &subject.services {
            params.subject_alt_names.push(SanType::URI(service.uri().try_into()?));
        }
        for host in &subject.dns {
            params
                .subject_alt_names
                .push(SanType::DnsName(host.as_str().try_into()?));
        }
        params
            .subject_alt_names
            .extend(subject.ips.iter().copied().map(SanType::IpAddress));
        let key = KeyPair::generate()?;
        let ours = self.params(now, ends);
        let certificate = params.signed_by(&key, &Issuer::from_params(&ours, &self.key))?;
        Ok(Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }

    fn params(&self, now: Timestamp, ends: Timestamp) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        let id = hex(&Sha256::digest(self.public_key())[..8]);
        params
            .distinguished_name
            .push(DnType::CommonName, format!("Mosaic CA {id}"));
        (params.not_before, params.not_after) = (system_time(now.minus(BACKDATED)).into(), system_time(ends).into());
        // One below: the next CA, while the key is replaced.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params
    }
}

fn system_time(at: Timestamp) -> std::time::SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(at.as_secs()).unwrap_or_default())
}
