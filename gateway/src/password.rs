//! Passwords: hashed by Argon2id (RFC 9106) into PHC strings, off the async threads and a few at a time.

use std::{sync::Arc, time::Duration};

use argon2::{
    Argon2,
    password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash},
};
use lmao_ports::{Entropy, Secret};
use tokio::sync::Semaphore;

use crate::error::ApiError;

/// Bytes of a password, at least.
pub(crate) const MIN_BYTES: usize = 8;
/// Bytes of a password, at most.
pub(crate) const MAX_BYTES: usize = 1024;
/// How long a login waits for its turn.
const TURN: Duration = Duration::from_secs(5);

/// Hashes and verifies, a few at a time: each takes some 19 MiB and tens of milliseconds.
#[derive(Debug)]
pub(crate) struct Passwords {
    turns: Arc<Semaphore>,
    /// Of a password that nobody has: an unknown name costs as much time as a wrong password.
    nobody: String,
}

impl Passwords {
    pub(crate) async fn new(entropy: &dyn Entropy) -> Result<Self, ApiError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let turns = Arc::new(Semaphore::new(cores.clamp(1, 4)));
        let mut unknown = [0; 32];
        entropy.fill(&mut unknown);
        let nobody = hash(turns.clone(), unknown.to_vec(), salt(entropy)).await?;
        Ok(Self { turns, nobody })
    }

    /// The PHC string of a password, as the vault keeps it.
    pub(crate) async fn hash(&self, password: &str, entropy: &dyn Entropy) -> Result<Secret, ApiError> {
        check(password)?;
        let phc = hash(self.turns.clone(), password.as_bytes().to_vec(), salt(entropy)).await?;
        Ok(Secret(phc.into_bytes()))
    }

    /// Whether this is the password behind `known`; as slow when there is none.
    pub(crate) async fn verify(&self, password: &str, known: Option<&Secret>) -> Result<bool, ApiError> {
        let phc = match known {
            Some(secret) => String::from_utf8(secret.0.clone()).unwrap_or_else(|_| self.nobody.clone()),
            None => self.nobody.clone(),
        };
        let exists = known.is_some();
        let password = password.as_bytes().to_vec();
        in_turn(self.turns.clone(), move || {
            let fits =
                PasswordHash::new(&phc).is_ok_and(|phc| Argon2::default().verify_password(&password, &phc).is_ok());
            Ok(fits && exists)
        })
        .await
    }
}

fn check(password: &str) -> Result<(), ApiError> {
    if (MIN_BYTES..=MAX_BYTES).contains(&password.len()) {
        return Ok(());
    }
    let text = format!("a password has {MIN_BYTES} to {MAX_BYTES} bytes; this one has {}", password.len());
    Err(ApiError::unprocessable("bad_password", text))
}

fn salt(entropy: &dyn Entropy) -> [u8; 16] {
    let mut salt = [0; 16];
    entropy.fill(&mut salt);
    salt
}

async fn hash(turns: Arc<Semaphore>, password: Vec<u8>, salt: [u8; 16]) -> Result<String, ApiError> {
    in_turn(turns, move || {
        Argon2::default()
            .hash_password_with_salt(&password, &salt)
            .map(|phc: PasswordHash| phc.to_string())
            .map_err(|error| ApiError::internal(format!("the password could not be hashed: {error}")))
    })
    .await
}

async fn in_turn<T: Send + 'static>(
    turns: Arc<Semaphore>,
    work: impl FnOnce() -> Result<T, ApiError> + Send + 'static,
) -> Result<T, ApiError> {
    let busy = || ApiError::passing("overloaded", "too many logins wait; try again in a moment", TURN);
    let permit = tokio::time::timeout(TURN, turns.acquire_owned()).await.map_err(|_| busy())?.map_err(|_| busy())?;
    let done = tokio::task::spawn_blocking(move || {
        let _permit = permit;
        work()
    });
    done.await.map_err(|error| ApiError::internal(format!("password hashing ended early: {error}")))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Sevens;

    impl Entropy for Sevens {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(7);
        }
    }

    #[tokio::test]
    async fn only_the_password_fits() {
        let passwords = Passwords::new(&Sevens).await.unwrap();
        let secret = passwords.hash("correct horse", &Sevens).await.unwrap();
        assert!(secret.0.starts_with(b"$argon2id$"));
        assert!(passwords.verify("correct horse", Some(&secret)).await.unwrap());
        assert!(!passwords.verify("correct horsf", Some(&secret)).await.unwrap());
        // Not even the one that stands in for nobody.
        let unknown = String::from_utf8(vec![7; 32]).unwrap();
        assert!(!passwords.verify(&unknown, None).await.unwrap());
    }

    #[tokio::test]
    async fn passwords_have_a_length() {
        let passwords = Passwords::new(&Sevens).await.unwrap();
        for bad in ["", "1234567", &"x".repeat(MAX_BYTES + 1)] {
            assert_eq!(passwords.hash(bad, &Sevens).await.unwrap_err().reason, "bad_password");
        }
    }
}
