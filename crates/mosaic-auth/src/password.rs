//! Password hashes: Argon2id for ours, bcrypt and other Argon2id parameters accepted from elsewhere.
//!
//! A hash costs 19 MiB and tens of milliseconds on purpose (OWASP's minimum: m = 19 MiB, t = 2, p = 1). Unbounded, that
//! makes the login a way to exhaust the machine, so at most one hash per core runs and the others wait. Unknown users
//! cost the same as known ones: [`Passwords::verify_nothing`] hashes against a dummy.

use std::sync::Arc;

use argon2::Argon2;
use mosaic_core::{Error, Result, Runtime, Secret};
use password_hash::phc::PasswordHash;
use password_hash::{PasswordHasher as _, PasswordVerifier as _};
use tokio::sync::Semaphore;

/// What a check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PasswordCheck {
    /// Right, and the hash is as we make them today.
    Right,
    /// Right, and the hash is to be made anew: it is bcrypt's, or weaker than ours.
    RightButOld,
    /// Wrong.
    Wrong,
}

/// Makes and checks hashes, at most one per core at a time. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Passwords {
    runtime: Runtime,
    slots: Arc<Semaphore>,
    dummy: Arc<str>,
}

impl Passwords {
    /// Makes the hasher of a process; costs one hash, for the dummy.
    pub fn new(runtime: &Runtime) -> Self {
        let n_cores = std::thread::available_parallelism().map_or(1, usize::from);
        let dummy = hash(b"a password that nobody has", &runtime.random_bytes()).unwrap_or_default();
        Self {
            runtime: runtime.clone(),
            slots: Arc::new(Semaphore::new(n_cores)),
            dummy: dummy.into(),
        }
    }

    /// Returns the hash of `password` as a PHC string.
    ///
    /// # Errors
    /// `Internal` if the hash cannot be made.
    pub async fn hash(&self, password: Secret<String>) -> Result<String> {
        let salt = self.runtime.random_bytes::<16>();
        self.in_slot(move || hash(password.expose().as_bytes(), &salt)).await?
    }

    /// Checks `password` against `stored`, a PHC string or a bcrypt hash.
    ///
    /// # Errors
    /// `Internal` if `stored` is neither.
    pub async fn verify(&self, password: Secret<String>, stored: &str) -> Result<PasswordCheck> {
        let stored = stored.to_owned();
        self.in_slot(move || verify(password.expose(), &stored)).await?
    }

    /// Costs as much as [`Passwords::verify`] and is never right: for users that do not exist.
    ///
    /// # Errors
    /// `Internal` if the process ends.
    pub async fn verify_nothing(&self, password: Secret<String>) -> Result<()> {
        self.verify(password, &self.dummy.clone()).await.map(drop)
    }

    async fn in_slot<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let slot = self.slots.clone().acquire_owned().await.map_err(Error::internal)?;
        metrics::counter!("mosaic_password_hashes_total").increment(1);
        let outcome = tokio::task::spawn_blocking(move || {
            // Held by the work: a caller that gives up must not let more hashes run than there are cores.
            let _slot = slot;
            work()
        });
        outcome.await.map_err(Error::internal)
    }
}

fn hash(password: &[u8], salt: &[u8; 16]) -> Result<String> {
    let hash: PasswordHash = Argon2::default()
        .hash_password_with_salt(password, salt)
        .map_err(broken)?;
    Ok(hash.to_string())
}

fn verify(password: &str, stored: &str) -> Result<PasswordCheck> {
    if stored.starts_with("$2") {
        // bcrypt reads 72 bytes; systems that used it cut the rest off, and so must we to accept their users.
        let right = bcrypt::verify(password, stored).map_err(Error::internal)?;
        return Ok(if right {
            PasswordCheck::RightButOld
        } else {
            PasswordCheck::Wrong
        });
    }
    let parsed = PasswordHash::new(stored).map_err(broken)?;
    match Argon2::default().verify_password(password.as_bytes(), &parsed) {
        Ok(()) if is_current(&parsed) => Ok(PasswordCheck::Right),
        Ok(()) => Ok(PasswordCheck::RightButOld),
        Err(password_hash::Error::PasswordInvalid) => Ok(PasswordCheck::Wrong),
        Err(error) => Err(broken(error)),
    }
}

fn is_current(hash: &PasswordHash) -> bool {
    let ours = argon2::Params::default();
    let theirs = argon2::Params::try_from(hash);
    hash.algorithm.as_str() == "argon2id"
        && theirs.is_ok_and(|theirs| theirs.m_cost() >= ours.m_cost() && theirs.t_cost() >= ours.t_cost())
}

fn broken(error: impl std::fmt::Display) -> Error {
    Error::internal(format!("password hash: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(text: &str) -> Secret<String> {
        Secret::new(text.to_owned())
    }

    #[tokio::test]
    async fn right_and_wrong() {
        let passwords = Passwords::new(&Runtime::system());
        let long = "🔑".repeat(32);
        for password in ["hunter2!", long.as_str()] {
            let hash = passwords.hash(secret(password)).await.unwrap();
            assert!(hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{hash}");
            assert_eq!(
                passwords.verify(secret(password), &hash).await.unwrap(),
                PasswordCheck::Right
            );
            let shorter = &password[..password.len() - 4];
            assert_eq!(
                passwords.verify(secret(shorter), &hash).await.unwrap(),
                PasswordCheck::Wrong
            );
        }
        passwords
            .verify_nothing(secret("a password that nobody has"))
            .await
            .unwrap();
    }

    #[tokio::test]
    async fn hashes_of_other_systems_are_accepted_and_old() {
        let passwords = Passwords::new(&Runtime::system());
        let bcrypt = bcrypt::hash("hello#world123", 4).unwrap();
        let params = argon2::Params::new(8 * 1024, 1, 1, None).unwrap();
        let weak = Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let weak: PasswordHash = weak.hash_password_with_salt(b"hello#world123", &[7; 16]).unwrap();
        for stored in [bcrypt, weak.to_string()] {
            let right = passwords.verify(secret("hello#world123"), &stored).await.unwrap();
            assert_eq!(right, PasswordCheck::RightButOld, "{stored}");
            assert_eq!(
                passwords.verify(secret("hello#world124"), &stored).await.unwrap(),
                PasswordCheck::Wrong
            );
        }
    }

    #[tokio::test]
    async fn a_broken_hash_is_an_error_not_a_match() {
        let passwords = Passwords::new(&Runtime::system());
        for stored in [
            "",
            "plain",
            "$argon2id$",
            "$2b$",
            "$2b$99$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        ] {
            assert!(passwords.verify(secret("plain"), stored).await.is_err(), "{stored}");
        }
    }
}
