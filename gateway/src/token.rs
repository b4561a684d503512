//! Access tokens: JSON Web Tokens (RFC 7519), HS256 and nothing else. Knows no user beyond an id and a role.

use std::time::Duration;

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use lmao_events::{Timestamp, user::Role};
use lmao_ports::Entropy;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::error::ApiError;

/// How long an access token is good for.
pub(crate) const LIFETIME: Duration = Duration::from_secs(30 * 60);
/// The only kind of token that opens routes.
const ACCESS: &str = "access";

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Caller {
    /// The account.
    pub(crate) id: Uuid,
    /// What it may do.
    pub(crate) role: Role,
    /// When its token ends.
    pub(crate) expires: Timestamp,
}

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    sub: Uuid,
    role: Role,
    #[serde(rename = "type")]
    kind: String,
    iat: u64,
    exp: u64,
    jti: Uuid,
}

/// Signs and verifies tokens with one key.
pub(crate) struct Tokens {
    signing: EncodingKey,
    verifying: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens(…)")
    }
}

impl Tokens {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // Time comes from our clock, below.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        Self { signing: EncodingKey::from_secret(key), verifying: DecodingKey::from_secret(key), validation }
    }

    pub(crate) fn mint(
        &self,
        user: Uuid,
        role: Role,
        now: Timestamp,
        entropy: &dyn Entropy,
    ) -> Result<String, ApiError> {
        let issued = seconds(now);
        let claims = Claims {
            sub: user,
            role,
            kind: ACCESS.to_owned(),
            iat: issued,
            exp: issued + LIFETIME.as_secs(),
            jti: entropy.id(now),
        };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
            .map_err(|error| ApiError::internal(format!("no token could be signed: {error}")))
    }

    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<Caller, ApiError> {
        let invalid = || ApiError::unauthorized("invalid_token", "this token is not one of ours; log in for another");
        let claims =
            jsonwebtoken::decode::<Claims>(token, &self.verifying, &self.validation).map_err(|_| invalid())?.claims;
        if claims.kind != ACCESS {
            return Err(invalid());
        }
        if claims.exp <= seconds(now) {
            return Err(ApiError::unauthorized("token_expired", "this token has expired; log in for another"));
        }
        let expires = Timestamp(i64::try_from(claims.exp.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
        Ok(Caller { id: claims.sub, role: claims.role, expires })
    }
}

fn seconds(time: Timestamp) -> u64 {
    u64::try_from(time.0 / 1_000_000).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Zeros;

    impl Entropy for Zeros {
        fn fill(&self, bytes: &mut [u8]) {
            bytes.fill(0);
        }
    }

    const NOW: Timestamp = Timestamp(1_800_000_000_000_000);

    fn claims(kind: &str) -> Claims {
        let exp = seconds(NOW) + 60;
        Claims { sub: Uuid::from_u128(1), role: Role::Admin, kind: kind.to_owned(), iat: 0, exp, jti: Uuid::nil() }
    }

    fn reason(tokens: &Tokens, token: &str, now: Timestamp) -> String {
        tokens.verify(token, now).unwrap_err().reason.into_owned()
    }

    #[test]
    fn a_token_is_good_for_half_an_hour() {
        let tokens = Tokens::new(&[7; 32]);
        let token = tokens.mint(Uuid::from_u128(1), Role::User, NOW, &Zeros).unwrap();
        let caller = tokens.verify(&token, NOW).unwrap();
        assert_eq!((caller.id, caller.role), (Uuid::from_u128(1), Role::User));
        let last = NOW.after(LIFETIME - Duration::from_secs(1));
        assert!(tokens.verify(&token, last).is_ok());
        assert_eq!(reason(&tokens, &token, NOW.after(LIFETIME)), "token_expired");
    }

    #[test]
    fn forged_tokens_open_nothing() {
        let tokens = Tokens::new(&[7; 32]);
        let good = tokens.mint(Uuid::from_u128(1), Role::User, NOW, &Zeros).unwrap();
        let other = Tokens::new(&[8; 32]).mint(Uuid::from_u128(1), Role::Admin, NOW, &Zeros).unwrap();
        let hs512 = jsonwebtoken::encode(&Header::new(Algorithm::HS512), &claims(ACCESS), &tokens.signing).unwrap();
        let refresh =
            jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims("refresh"), &tokens.signing).unwrap();
        // {"alg":"none","typ":"JWT"} and the payload of a good token.
        let payload = good.split('.').nth(1).unwrap();
        let none = format!("eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0.{payload}.");
        let unsigned = good.rsplit_once('.').unwrap().0.to_owned() + ".";
        for forged in [other, hs512, refresh, none, unsigned, String::new(), "a.b.c".to_owned()] {
            assert_eq!(reason(&tokens, &forged, NOW), "invalid_token", "{forged}");
        }
    }
}
