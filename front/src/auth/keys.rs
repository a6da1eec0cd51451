//! The keys of one entry of the configuration, as they are now.
//!
//! A key is for one algorithm, which the configuration names: what a token or a key set says of it can only rule a key
//! out. Reading the files of a start is done here; what changes later comes from [`super::refresh`].

use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;

use super::AuthError;
use super::refresh::Source;
use super::token::{self, Token};
use crate::config::{KeySource, LEAST_SECRET, TokenAlg, TokenKey, Tokens};
use crate::telemetry::TokenFault as Fault;

/// Signatures computed for one token with one key set: a token without a `kid` is tried with as many keys.
const MOST_TRIES: usize = 8;
/// An uncompressed point on P-256; a point of Ed25519; the shortest encoded RSA key of 2048 bits.
const POINT: usize = 65;
const ED_POINT: usize = 32;
const LEAST_RSA: usize = 266;
/// Bytes of the shortest modulus that is taken.
const LEAST_MODULUS: usize = 256;
/// A file with one key is not larger.
const MOST_FILE: u64 = 64 * 1024;

/// One key.
pub(super) struct Key {
    kid: Option<String>,
    key: DecodingKey,
}

/// One entry of the configuration.
pub(super) struct KeySet {
    pub(super) name: String,
    pub(super) alg: Algorithm,
    validation: Validation,
    keys: RwLock<Arc<[Key]>>,
    /// Where newer ones come from.
    pub(super) source: Option<Source>,
}

impl KeySet {
    /// Reads what is there at the start.
    pub(super) fn open(key: &TokenKey, limits: &Tokens) -> Result<Self, AuthError> {
        let alg = match key.alg {
            TokenAlg::Hs256 => Algorithm::HS256,
            TokenAlg::Rs256 => Algorithm::RS256,
            TokenAlg::Es256 => Algorithm::ES256,
            TokenAlg::EdDsa => Algorithm::EdDSA,
        };
        let wrong = |message: String| AuthError { name: key.name.clone(), message };
        let keys = match &key.source {
            KeySource::Secret(secret) => vec![Key::without_id(DecodingKey::from_secret(secret.expose().as_bytes()))],
            KeySource::SecretFile(path) => vec![Key::without_id(secret(&read(path).map_err(wrong)?).map_err(wrong)?)],
            KeySource::PublicKeyFile(path) => {
                vec![Key::without_id(public_key(&read(path).map_err(wrong)?, alg).map_err(wrong)?)]
            }
            KeySource::JwksFile(path) => {
                let bytes = read_up_to(path, limits.jwks_bytes as u64).map_err(wrong)?;
                key_set(&bytes, alg, limits.jwks_keys).map_err(wrong)?
            }
            KeySource::JwksUrl(_) => Vec::new(),
        };
        Ok(Self {
            name: key.name.clone(),
            alg,
            validation: validation(alg, key),
            keys: RwLock::new(keys.into()),
            source: Source::of(&key.source, limits),
        })
    }

    /// The keys at this moment.
    fn now(&self) -> Arc<[Key]> {
        Arc::clone(&self.keys.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Takes newer keys.
    pub(super) fn replace(&self, keys: Vec<Key>) {
        *self.keys.write().unwrap_or_else(PoisonError::into_inner) = keys.into();
    }

    /// True where newer keys might verify what these do not: the token names one that is not there.
    pub(super) fn may_be_stale(&self, header: &Header) -> bool {
        let keys = self.now();
        let unknown = header.kid.is_some() && !keys.iter().any(|key| key.kid == header.kid);
        self.source.is_some() && self.alg == header.alg && (unknown || keys.is_empty())
    }

    /// Verifies a token with the keys that fit its header.
    pub(super) fn verify(&self, text: &str, header: &Header, limits: &Tokens, now: f64) -> Result<Token, Fault> {
        let mut fault = Fault::Signature;
        if header.alg != self.alg {
            return Err(fault);
        }
        for key in self.now().iter().filter(|key| key.fits(header)).take(MOST_TRIES) {
            match token::verify(text, &key.key, &self.validation, limits, now) {
                Err(Fault::Signature) => {}
                Err(other) => fault = other,
                good => return good,
            }
        }
        Err(fault)
    }
}

impl Key {
    fn without_id(key: DecodingKey) -> Self {
        Self { kid: None, key }
    }

    /// A token that names a key is for that one; where either has no name, only the signature can tell.
    fn fits(&self, header: &Header) -> bool {
        self.kid.is_none() || header.kid.is_none() || self.kid == header.kid
    }
}

/// Everything but the times.
fn validation(alg: Algorithm, key: &TokenKey) -> Validation {
    let mut validation = Validation::new(alg);
    let mut required = Vec::new();
    validation.validate_exp = false;
    validation.validate_aud = !key.audience.is_empty();
    if let Some(issuer) = &key.issuer {
        validation.set_issuer(&[issuer]);
        required.push("iss");
    }
    if !key.audience.is_empty() {
        validation.set_audience(&key.audience);
        required.push("aud");
    }
    validation.set_required_spec_claims(&required);
    validation
}

fn read(path: &Path) -> Result<Vec<u8>, String> {
    read_up_to(path, MOST_FILE)
}

pub(super) fn read_up_to(path: &Path, most: u64) -> Result<Vec<u8>, String> {
    let read = || {
        let mut bytes = Vec::new();
        let file = std::fs::File::open(path)?;
        std::io::Read::read_to_end(&mut std::io::Read::take(file, most.saturating_add(1)), &mut bytes)?;
        std::io::Result::Ok(bytes)
    };
    match read() {
        Ok(bytes) if bytes.len() as u64 > most => Err(format!("{} has more than {most} bytes", path.display())),
        Ok(bytes) => Ok(bytes),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn secret(bytes: &[u8]) -> Result<DecodingKey, String> {
    let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
    let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
    if bytes.len() < LEAST_SECRET {
        return Err(format!("its secret has to have at least {LEAST_SECRET} bytes"));
    }
    Ok(DecodingKey::from_secret(bytes))
}

/// A public key, and no other: of a private one or of a certificate the library would read the wrong part.
fn public_key(pem: &[u8], alg: Algorithm) -> Result<DecodingKey, String> {
    let expected = || format!("expected a public key for {alg:?} as PEM (-----BEGIN PUBLIC KEY-----)");
    let text = String::from_utf8_lossy(pem);
    if !text.contains("-----BEGIN PUBLIC KEY-----") && !text.contains("-----BEGIN RSA PUBLIC KEY-----") {
        return Err(expected());
    }
    let (key, fits): (_, fn(usize) -> bool) = match alg {
        Algorithm::RS256 => (DecodingKey::from_rsa_pem(pem), |bytes| bytes >= LEAST_RSA),
        Algorithm::ES256 => (DecodingKey::from_ec_pem(pem), |bytes| bytes == POINT),
        _ => (DecodingKey::from_ed_pem(pem), |bytes| bytes == ED_POINT),
    };
    let key = key.map_err(|_| expected())?;
    if key.try_get_as_bytes().is_ok_and(|bytes| fits(bytes.len())) { Ok(key) } else { Err(expected()) }
}

/// A key set, RFC 7517. One key that cannot be read does not spoil the others.
#[derive(Deserialize)]
struct Jwks {
    keys: Vec<serde_json::Value>,
}

/// The keys of a set that are for `alg`.
pub(super) fn key_set(json: &[u8], alg: Algorithm, most: usize) -> Result<Vec<Key>, String> {
    let set: Jwks = serde_json::from_slice(json).map_err(|_| "it is no key set (JWKS)".to_owned())?;
    if set.keys.len() > most {
        return Err(format!("its key set has more than {most} keys"));
    }
    let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
    Ok(keys.filter(|key| is_for(key, alg)).filter_map(key_of).collect())
}

/// True where a key may verify signatures of this algorithm, by all that it says of itself.
fn is_for(key: &Jwk, alg: Algorithm) -> bool {
    let named = key.common.key_algorithm.is_none_or(|named| named == KeyAlgorithm::from(alg));
    let signs = key.common.public_key_use.as_ref().is_none_or(|usage| *usage == PublicKeyUse::Signature);
    let verifies = key.common.key_operations.as_ref().is_none_or(|all| all.contains(&KeyOperations::Verify));
    let kind = match (&key.algorithm, alg) {
        (AlgorithmParameters::RSA(_), Algorithm::RS256) => true,
        (AlgorithmParameters::EllipticCurve(key), Algorithm::ES256) => key.curve == EllipticCurve::P256,
        (AlgorithmParameters::OctetKeyPair(key), Algorithm::EdDSA) => key.curve == EllipticCurve::Ed25519,
        _ => false,
    };
    named && signs && verifies && kind
}

fn key_of(jwk: Jwk) -> Option<Key> {
    use jsonwebtoken::DecodingKeyKind::{RsaModulusExponent, SecretOrDer};
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    let fits = match key.kind() {
        RsaModulusExponent { n, .. } => n.len() >= LEAST_MODULUS,
        SecretOrDer(point) => matches!(point.len(), POINT | ED_POINT),
    };
    fits.then_some(Key { kid: jwk.common.key_id, key })
}
