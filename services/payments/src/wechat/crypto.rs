//! Signatures and the envelope of WeChat Pay API v3: `WECHATPAY2-SHA256-RSA2048` and `AEAD_AES_256_GCM`.
//!
//! Signatures are RSASSA-PKCS1-v1_5 with SHA-256. The crate `rsa` has RUSTSEC-2023-0071 (Marvin): who measures the time of
//! many private-key operations precisely may learn the key. Verifying uses no private key; signing is of texts that we
//! choose, seen over the network only by WeChat Pay itself, and blinded.

use std::sync::Arc;

use aes_gcm::aead::{Aead as _, KeyInit as _, Payload};
use aes_gcm::{Aes256Gcm, Nonce};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mosaic::{Error, Result, Runtime, Secret};
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, DecodePublicKey as _};
use rsa::rand_core::{CryptoRng, Error as RandError, RngCore};
use rsa::{Pkcs1v15Sign, RsaPrivateKey, RsaPublicKey};
use sha2::{Digest as _, Sha256};

/// Bytes of the API v3 key.
const API_KEY_LEN: usize = 32;
/// Bytes of the nonce of a sealed resource.
const NONCE_LEN: usize = 12;

/// A private key that signs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct SigningKey(Arc<RsaPrivateKey>);

impl SigningKey {
    /// Reads PEM, PKCS#8 or PKCS#1.
    ///
    /// # Errors
    /// `InvalidArgument` for what is no such key.
    pub(crate) fn from_pem(pem: &str) -> Result<Self> {
        let key = RsaPrivateKey::from_pkcs8_pem(pem).or_else(|_| RsaPrivateKey::from_pkcs1_pem(pem));
        // The cause may quote the key.
        let key = key.map_err(|_| Error::invalid_argument("KEY_INVALID", "is no RSA private key in PEM"))?;
        Ok(Self(Arc::new(key)))
    }

    /// Makes a key of 2048 bits; takes a good part of a second.
    pub(crate) fn generate(runtime: &Runtime) -> Self {
        let key = RsaPrivateKey::new(&mut RuntimeRandom(runtime), 2048);
        Self(Arc::new(key.expect("2048 bits are enough for two primes")))
    }

    pub(crate) fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(Arc::new(self.0.to_public_key()))
    }

    /// Returns the signature of `message` as Base64.
    pub(crate) fn sign(&self, runtime: &Runtime, message: &[u8]) -> Result<String> {
        let digest = Sha256::digest(message);
        let scheme = Pkcs1v15Sign::new::<Sha256>();
        let signature = self.0.sign_with_rng(&mut RuntimeRandom(runtime), scheme, &digest);
        Ok(STANDARD.encode(signature.map_err(Error::internal)?))
    }
}

/// A public key that verifies. Cheap to clone.
#[derive(Clone)]
pub(crate) struct VerifyingKey(Arc<RsaPublicKey>);

impl VerifyingKey {
    /// Reads PEM (SPKI).
    ///
    /// # Errors
    /// `InvalidArgument` for what is no such key.
    pub(crate) fn from_pem(pem: &str) -> Result<Self> {
        let key = RsaPublicKey::from_public_key_pem(pem)
            .map_err(|_| Error::invalid_argument("KEY_INVALID", "is no RSA public key in PEM"))?;
        Ok(Self(Arc::new(key)))
    }

    /// Is `signature` (Base64) that of `message`?
    pub(crate) fn is_valid(&self, message: &[u8], signature: &str) -> bool {
        let Ok(signature) = STANDARD.decode(signature) else {
            return false;
        };
        let digest = Sha256::digest(message);
        self.0
            .verify(Pkcs1v15Sign::new::<Sha256>(), &digest, &signature)
            .is_ok()
    }
}

/// The symmetric key of notifications.
#[derive(Clone)]
pub(crate) struct ApiKey(Secret<Vec<u8>>);

impl ApiKey {
    /// Takes 32 bytes.
    ///
    /// # Errors
    /// `InvalidArgument` for another length.
    pub(crate) fn new(key: Vec<u8>) -> Result<Self> {
        if key.len() == API_KEY_LEN {
            Ok(Self(Secret::new(key)))
        } else {
            Err(Error::invalid_argument("KEY_INVALID", "must have 32 bytes"))
        }
    }

    /// Opens what was sealed; `None` if key, nonce, associated data or cipher text are others.
    pub(crate) fn open(&self, nonce: &str, associated: &str, ciphertext: &str) -> Option<Vec<u8>> {
        let nonce: [u8; NONCE_LEN] = nonce.as_bytes().try_into().ok()?;
        let msg = STANDARD.decode(ciphertext).ok()?;
        let payload = Payload {
            msg: &msg,
            aad: associated.as_bytes(),
        };
        self.cipher().decrypt(&Nonce::from(nonce), payload).ok()
    }

    /// Seals `plain`, as WeChat Pay does.
    pub(crate) fn seal(&self, nonce: &str, associated: &str, plain: &[u8]) -> Result<String> {
        let nonce: [u8; NONCE_LEN] = nonce
            .as_bytes()
            .try_into()
            .map_err(|_| Error::internal("a nonce has 12 bytes"))?;
        let payload = Payload {
            msg: plain,
            aad: associated.as_bytes(),
        };
        let sealed = self.cipher().encrypt(&Nonce::from(nonce), payload);
        Ok(STANDARD.encode(sealed.map_err(|_| Error::internal("a notification cannot be sealed"))?))
    }

    fn cipher(&self) -> Aes256Gcm {
        Aes256Gcm::new_from_slice(self.0.expose()).expect("the length was checked when the key was made")
    }
}

/// What a request's signature covers.
pub(crate) fn request_text(method: &str, target: &str, timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{method}\n{target}\n{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    text
}

/// What the signature of an answer or a notification covers.
pub(crate) fn answer_text(timestamp: &str, nonce: &str, body: &[u8]) -> Vec<u8> {
    let mut text = format!("{timestamp}\n{nonce}\n").into_bytes();
    text.extend_from_slice(body);
    text.push(b'\n');
    text
}

/// Randomness for blinding, and for keys.
struct RuntimeRandom<'a>(&'a Runtime);

impl CryptoRng for RuntimeRandom<'_> {}

impl RngCore for RuntimeRandom<'_> {
    fn next_u32(&mut self) -> u32 {
        u32::from_le_bytes(self.0.random_bytes())
    }

    fn next_u64(&mut self) -> u64 {
        self.0.random_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(32) {
            chunk.copy_from_slice(&self.0.random_bytes::<32>()[..chunk.len()]);
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), RandError> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 16 of McGrew and Viega, "The Galois/Counter Mode of Operation": AES-256, 96-bit nonce, associated data.
    #[test]
    fn what_is_sealed_is_aes_256_gcm() {
        let bytes = |hex: &str| -> Vec<u8> {
            let pairs = hex.as_bytes().chunks(2).map(|pair| std::str::from_utf8(pair).unwrap());
            pairs.map(|pair| u8::from_str_radix(pair, 16).unwrap()).collect()
        };
        let key = bytes("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308");
        let plain = bytes(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525\
             b16aedf5aa0de657ba637b39",
        );
        let cipher = bytes(
            "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838\
             c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        );
        let payload = Payload {
            msg: &plain,
            aad: &bytes("feedfacedeadbeeffeedfacedeadbeefabaddad2"),
        };
        let nonce: [u8; NONCE_LEN] = bytes("cafebabefacedbaddecaf888").try_into().unwrap();
        let sealed = ApiKey::new(key)
            .unwrap()
            .cipher()
            .encrypt(&Nonce::from(nonce), payload)
            .unwrap();
        assert_eq!(sealed, cipher);
    }

    #[test]
    fn what_is_sealed_opens_with_everything_right_and_not_otherwise() {
        let key = ApiKey::new(vec![7; 32]).unwrap();
        let sealed = key.seal("0123456789ab", "transaction", b"plain").unwrap();
        assert_eq!(key.open("0123456789ab", "transaction", &sealed).unwrap(), b"plain");
        let other = ApiKey::new(vec![8; 32]).unwrap();
        assert!(other.open("0123456789ab", "transaction", &sealed).is_none());
        for (nonce, associated, sealed) in [
            ("0123456789ac", "transaction", sealed.as_str()),
            ("short", "transaction", &sealed),
            ("0123456789ab", "refund", &sealed),
            ("0123456789ab", "transaction", "%%%"),
            ("0123456789ab", "transaction", ""),
        ] {
            assert!(key.open(nonce, associated, sealed).is_none(), "{nonce} {associated}");
        }
        assert!(ApiKey::new(vec![7; 31]).is_err());
    }

    /// RSASSA-PKCS1-v1_5 has no randomness: RFC 8017, section 8.2.
    #[test]
    fn a_signature_is_good_for_its_text_and_its_key() {
        let runtime = Runtime::system();
        let (ours, other) = (SigningKey::generate(&runtime), SigningKey::generate(&runtime));
        let text = request_text("GET", "/v3/x", "1", "n", b"");
        assert_eq!(text, b"GET\n/v3/x\n1\nn\n\n");
        let signature = ours.sign(&runtime, &text).unwrap();
        assert_eq!(signature, ours.sign(&runtime, &text).unwrap(), "blinding does not show");
        assert!(ours.verifying_key().is_valid(&text, &signature));
        assert!(!other.verifying_key().is_valid(&text, &signature));
        assert!(!ours.verifying_key().is_valid(b"GET", &signature));
        assert!(!ours.verifying_key().is_valid(&text, ""));
        assert_eq!(answer_text("1", "n", b"{}"), b"1\nn\n{}\n");
    }
}
