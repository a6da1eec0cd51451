//! Makes tokens (JWT) and key sets, with keys of the test, by ring alone: it shares no code with what verifies them.

use std::time::{SystemTime, UNIX_EPOCH};

use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value as Json, json};

/// Somebody who signs tokens with a key of Ed25519.
#[derive(Debug)]
pub struct Signer {
    kid: String,
    key: Ed25519KeyPair,
}

impl Signer {
    /// A new key of this name.
    pub fn new(kid: &str) -> Self {
        let key = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key");
        Self { kid: kid.to_owned(), key: Ed25519KeyPair::from_pkcs8(key.as_ref()).expect("the key just made") }
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Json) -> String {
        let message = message(&json!({"alg": "EdDSA", "kid": self.kid}), claims);
        format!("{message}.{}", encode_base64url(self.key.sign(message.as_bytes()).as_ref()))
    }

    /// The public key as a key set has it.
    pub fn jwk(&self) -> Json {
        let x = encode_base64url(self.key.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": self.kid, "x": x})
    }
}

/// A token signed with a secret (HS256).
pub fn token(secret: &str, claims: &Json) -> String {
    let message = message(&json!({"alg": "HS256", "typ": "JWT"}), claims);
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", encode_base64url(signature.as_ref()))
}

/// A key set of these keys.
pub fn jwks(signers: &[&Signer]) -> String {
    json!({"keys": signers.iter().map(|signer| signer.jwk()).collect::<Vec<_>>()}).to_string()
}

/// The time in so many seconds, as claims have it.
pub fn in_seconds(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs() + seconds
}

fn message(header: &Json, claims: &Json) -> String {
    let part = |json: &Json| encode_base64url(json.to_string().as_bytes());
    format!("{}.{}", part(header), part(claims))
}

fn encode_base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        let letters = (0..=chunk.len()).map(move |at| LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
        letters.map(char::from).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_7515() {
        assert_eq!(encode_base64url(&[3, 236, 255, 224, 193]), "A-z_4ME");
        for (bytes, text) in [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v")] {
            assert_eq!(encode_base64url(bytes.as_bytes()), text);
        }
    }
}
