//! Makes keys and signs tokens with them. It shares no code with what verifies.

use std::sync::OnceLock;

use ring::hmac;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
};
use serde_json::{Value, json};

/// A key that tests of this repository use, and nothing else ever may: RSA cannot be made quickly.
const RSA: &[u8] = include_bytes!("rsa_test_key.pk8");
const RSA_PUBLIC: &str = include_str!("rsa_test_key.pub.pem");

/// What stands before the point of a public key: its algorithm (RFC 5480, RFC 8410).
const EC_HEAD: &[u8] =
    b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00";
const ED_HEAD: &[u8] = b"\x30\x2a\x30\x05\x06\x03\x2b\x65\x70\x03\x21\x00";

/// Somebody who signs tokens.
#[derive(Clone)]
pub(super) enum Signer {
    Secret(Vec<u8>),
    /// PKCS #8, as are the others.
    Rsa(Vec<u8>),
    Ec(Vec<u8>),
    Ed(Vec<u8>),
}

fn new_ec() -> Vec<u8> {
    let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new()).expect("a key");
    key.as_ref().to_vec()
}

fn new_ed() -> Vec<u8> {
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("a key").as_ref().to_vec()
}

impl Signer {
    pub(super) fn secret() -> Self {
        Self::Secret(super::SECRET.as_bytes().to_vec())
    }

    pub(super) fn rsa() -> Self {
        Self::Rsa(RSA.to_vec())
    }

    pub(super) fn ec() -> Self {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        Self::Ec(KEY.get_or_init(new_ec).clone())
    }

    pub(super) fn ed() -> Self {
        static KEY: OnceLock<Vec<u8>> = OnceLock::new();
        Self::Ed(KEY.get_or_init(new_ed).clone())
    }

    pub(super) fn all() -> [Self; 4] {
        [Self::secret(), Self::rsa(), Self::ec(), Self::ed()]
    }

    /// Another key of this algorithm; of RSA there is only one, whose signature is broken instead.
    pub(super) fn stranger(alg: &str) -> Self {
        match alg {
            "HS256" => Self::Secret(b"another secret, which nobody knows".to_vec()),
            "ES256" => Self::Ec(new_ec()),
            "EdDSA" => Self::Ed(new_ed()),
            _ => Self::Rsa(Vec::new()),
        }
    }

    pub(super) fn alg(&self) -> &'static str {
        match self {
            Self::Secret(_) => "HS256",
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
            Self::Ed(_) => "EdDSA",
        }
    }

    pub(super) fn token(&self, claims: &Value) -> String {
        self.token_with(&json!({"alg": self.alg(), "typ": "JWT"}), claims)
    }

    pub(super) fn token_with(&self, header: &Value, claims: &Value) -> String {
        let message = unsigned(header, claims);
        let message = message.trim_end_matches('.');
        format!("{message}.{}", base64url(&self.sign(message.as_bytes())))
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Self::Rsa(none) if none.is_empty() => vec![7; 256],
            Self::Rsa(key) => {
                let key = RsaKeyPair::from_pkcs8(key).expect("a key");
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("a signature");
                signature
            }
            Self::Ec(key) => ec_pair(key).sign(&random, message).expect("a signature").as_ref().to_vec(),
            Self::Ed(key) => Ed25519KeyPair::from_pkcs8(key).expect("a key").sign(message).as_ref().to_vec(),
        }
    }

    /// The public key as a key set has it, with `more` put over it.
    pub(super) fn jwk(&self, more: Value) -> Value {
        let mut jwk = match self {
            Self::Secret(secret) => json!({"kty": "oct", "k": base64url(secret)}),
            Self::Rsa(key) => {
                let key = RsaKeyPair::from_pkcs8(key).expect("a key");
                let PublicKeyComponents { n, e } = PublicKeyComponents::<Vec<u8>>::from(key.public());
                // As some write it.
                json!({"kty": "RSA", "n": base64url(&[&[0], n.as_slice()].concat()), "e": base64url(&e)})
            }
            Self::Ec(key) => {
                let point = ec_pair(key).public_key().as_ref().to_vec();
                let (x, y) = (base64url(&point[1..33]), base64url(&point[33..]));
                json!({"kty": "EC", "crv": "P-256", "x": x, "y": y})
            }
            Self::Ed(key) => {
                let point = Ed25519KeyPair::from_pkcs8(key).expect("a key").public_key().as_ref().to_vec();
                json!({"kty": "OKP", "crv": "Ed25519", "x": base64url(&point)})
            }
        };
        for (name, value) in more.as_object().expect("an object") {
            jwk[name] = value.clone();
        }
        jwk
    }

    pub(super) fn public_pem(&self) -> String {
        match self {
            Self::Secret(_) => String::new(),
            Self::Rsa(_) => RSA_PUBLIC.to_owned(),
            _ => pem("PUBLIC", &self.public_der()),
        }
    }

    pub(super) fn public_der(&self) -> Vec<u8> {
        match self {
            Self::Secret(_) => Vec::new(),
            Self::Rsa(key) => RsaKeyPair::from_pkcs8(key).expect("a key").public().as_ref().to_vec(),
            Self::Ec(key) => [EC_HEAD, ec_pair(key).public_key().as_ref()].concat(),
            Self::Ed(key) => [ED_HEAD, Ed25519KeyPair::from_pkcs8(key).expect("a key").public_key().as_ref()].concat(),
        }
    }

    pub(super) fn private_pem(&self) -> String {
        match self {
            Self::Secret(_) => String::new(),
            Self::Rsa(key) | Self::Ec(key) | Self::Ed(key) => pem("PRIVATE", key),
        }
    }
}

fn ec_pair(key: &[u8]) -> EcdsaKeyPair {
    EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key, &SystemRandom::new()).expect("a key")
}

/// Header and claims with an empty signature.
pub(super) fn unsigned(header: &Value, claims: &Value) -> String {
    let part = |value: &Value| base64url(value.to_string().as_bytes());
    format!("{}.{}.", part(header), part(claims))
}

fn pem(kind: &str, der: &[u8]) -> String {
    let text = base64url(der).replace('-', "+").replace('_', "/");
    let text = format!("{text}{}", "=".repeat((4 - text.len() % 4) % 4));
    format!("-----BEGIN {kind} KEY-----\n{text}\n-----END {kind} KEY-----\n")
}

pub(super) fn base64url(bytes: &[u8]) -> String {
    const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let group = |chunk: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, at| bits << 8 | u32::from(chunk.get(at).copied().unwrap_or(0)));
        let letters = (0..=chunk.len()).map(move |at| LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
        letters.map(char::from).collect::<String>()
    };
    bytes.chunks(3).map(group).collect()
}
