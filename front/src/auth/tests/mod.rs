//! Tokens of every algorithm, made with keys of the test, and all that must not be taken for one.

mod rights;
mod signer;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use super::token::head;
use super::*;
use signer::Signer;

const SECRET: &str = "a secret of a test, 32 bytes long";
/// A moment, in seconds since 1970.
const NOW: f64 = 1_800_000_000.0;

/// A folder of its own, gone at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("tempest-auth-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    fn with(self, name: &str, bytes: impl AsRef<[u8]>) -> Self {
        std::fs::write(self.0.join(name), bytes).expect("a file");
        self
    }

    /// What is made of `[[channels.key]]` with these lines.
    fn open(&self, lines: &str) -> Result<Auth, AuthError> {
        self.open_all(&format!("[[channels.key]]\nname = \"k\"\n{lines}"))
    }

    fn open_all(&self, text: &str) -> Result<Auth, AuthError> {
        let config = Config::from_toml(text, &self.0).unwrap_or_else(|problems| panic!("{problems}"));
        Auth::open(&Arc::new(config), None, &Arc::new(Metrics::new()))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn with_secret(more: &str) -> Auth {
    Folder::new().open(&format!("alg = \"HS256\"\nsecret = \"{SECRET}\"\n{more}")).expect("good keys")
}

fn with_jwks(alg: &str, keys: &Value) -> Auth {
    let folder = Folder::new().with("keys.json", json!({"keys": keys}).to_string());
    folder.open(&format!("alg = \"{alg}\"\njwks_file = \"keys.json\"")).expect("good keys")
}

/// What becomes of a token at [`NOW`].
fn verified(auth: &Auth, text: &str) -> Result<Token, Fault> {
    verified_at(auth, text, NOW)
}

fn verified_at(auth: &Auth, text: &str, now: f64) -> Result<Token, Fault> {
    let limits = &auth.config.channels.tokens;
    let header = head(text, limits)?;
    auth.keys[0].verify(text, &header, limits, now)
}

#[track_caller]
fn refused(auth: &Auth, text: &str) -> Fault {
    verified(auth, text).map(|_| ()).expect_err("a token that is not good")
}

fn claims() -> Value {
    json!({"sub": "ann", "exp": NOW + 60.0, "tempest": {"subscribe": ["orders.*"], "publish": ["chat"], "patterns": ["a.*"]}})
}

#[test]
fn every_algorithm_with_every_kind_of_key() {
    for signer in Signer::all() {
        let alg = signer.alg();
        let folder = Folder::new()
            .with("secret", format!("{SECRET}\n"))
            .with("key.pem", signer.public_pem())
            .with("keys.json", json!({"keys": [signer.jwk(json!({}))]}).to_string());
        let sources = match signer {
            Signer::Secret(_) => vec![format!("secret = \"{SECRET}\""), "secret_file = \"secret\"".to_owned()],
            _ => vec!["public_key_file = \"key.pem\"".to_owned(), "jwks_file = \"keys.json\"".to_owned()],
        };
        for source in sources {
            let auth = folder.open(&format!("alg = \"{alg}\"\n{source}")).expect("good keys");
            let text = signer.token(&claims());
            let token = verified(&auth, &text).unwrap_or_else(|fault| panic!("{alg} by {source}: {fault:?}"));
            assert_eq!(token.user.as_deref(), Some("ann"));
            assert!(token.grants.subscribe[0].matches("orders.1") && token.grants.publish[0].matches("chat"));
            assert_eq!(token.grants.patterns, ["a.*"]);
            for other in Signer::all().iter().filter(|other| other.alg() != alg) {
                assert_eq!(refused(&auth, &other.token(&claims())), Fault::Signature, "{alg}, {}", other.alg());
            }
            let stranger = Signer::stranger(alg).token(&claims());
            assert_eq!(refused(&auth, &stranger), Fault::Signature, "another {alg} key");
        }
    }
}

#[test]
fn a_changed_token_is_not_signed() {
    let auth = with_secret("");
    let text = Signer::secret().token(&claims());
    let parts: Vec<&str> = text.split('.').collect();
    let other = Signer::secret().token(&json!({"exp": NOW + 99.0, "tempest": {"subscribe": ["*"]}}));
    let other: Vec<&str> = other.split('.').collect();
    assert_eq!(refused(&auth, &[parts[0], other[1], parts[2]].join(".")), Fault::Signature);
    assert_eq!(refused(&auth, &[parts[0], parts[1], ""].join(".")), Fault::Signature);
    assert_eq!(refused(&auth, &[parts[0], parts[1], "AAAA"].join(".")), Fault::Signature);
}

#[test]
fn a_token_does_not_choose_its_algorithm() {
    let rsa = Signer::rsa();
    let folder = Folder::new().with("key.pem", rsa.public_pem());
    let auth = folder.open("alg = \"RS256\"\npublic_key_file = \"key.pem\"").expect("a good key");
    // The classic: the public key, which everybody has, as the secret of an HMAC.
    for secret in [rsa.public_pem().into_bytes(), rsa.public_pem().trim().as_bytes().to_vec(), rsa.public_der()] {
        assert_eq!(refused(&auth, &Signer::Secret(secret).token(&claims())), Fault::Signature);
    }
    for alg in ["none", "None", "NONE", "", "HS1", "rs256", "RS256\0"] {
        let text = signer::unsigned(&json!({"alg": alg, "typ": "JWT"}), &claims());
        assert_eq!(refused(&auth, &text), Fault::Malformed, "{alg}");
        assert_eq!(refused(&with_secret(""), &text), Fault::Malformed, "{alg}");
    }
    for alg in ["HS256", "HS384", "HS512", "PS256", "RS384", "ES256", "EdDSA"] {
        let text = rsa.token_with(&json!({"alg": alg}), &claims());
        assert_eq!(refused(&auth, &text), Fault::Signature, "signed by RS256 and said to be {alg}");
    }
}

#[test]
fn a_token_does_not_bring_its_key() {
    let auth = with_jwks("ES256", &json!([Signer::ec().jwk(json!({"kid": "a"}))]));
    let stranger = Signer::stranger("ES256");
    let header =
        json!({"alg": "ES256", "kid": "a", "jwk": stranger.jwk(json!({})), "jku": "https://evil.test/", "x5c": ["AA"]});
    assert_eq!(refused(&auth, &stranger.token_with(&header, &claims())), Fault::Signature);
    assert!(verified(&auth, &Signer::ec().token_with(&header, &claims())).is_ok(), "what it brings is not read");
}

#[test]
fn what_must_be_understood_and_is_not_is_refused() {
    let text = Signer::secret().token_with(&json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims());
    assert_eq!(refused(&with_secret(""), &text), Fault::Malformed);
}

#[test]
fn a_key_set_says_what_a_key_is_not_for() {
    let signer = Signer::ec();
    let text = signer.token(&claims());
    for (with, good) in [
        (json!({}), true),
        (json!({"use": "sig", "alg": "ES256", "key_ops": ["verify"]}), true),
        (json!({"use": "enc"}), false),
        (json!({"alg": "RS256"}), false),
        (json!({"alg": "what"}), false),
        (json!({"key_ops": ["encrypt"]}), false),
        (json!({"crv": "P-384"}), false),
        (json!({"crv": "secp256k1"}), false),
        (json!({"kty": "RSA"}), false),
        (json!({"x": "AAAA"}), false),
    ] {
        let auth = with_jwks("ES256", &json!([signer.jwk(with.clone())]));
        assert_eq!(verified(&auth, &text).is_ok(), good, "{with}");
    }
    let secret = json!({"kty": "oct", "k": signer::base64url(SECRET.as_bytes())});
    for alg in ["RS256", "ES256", "EdDSA"] {
        let auth = with_jwks(alg, &json!([secret]));
        assert_eq!(refused(&auth, &Signer::secret().token(&claims())), Fault::Signature, "{alg}");
    }
    let odd = json!([1, "a", {}, {"kty": "EC"}, {"kty": "what", "k": 1}, signer.jwk(json!({}))]);
    assert!(verified(&with_jwks("ES256", &odd), &text).is_ok(), "one bad key spoils no other");
}

#[test]
fn the_name_of_a_key_is_respected() {
    let (a, b) = (Signer::ec(), Signer::stranger("ES256"));
    let auth = with_jwks("ES256", &json!([a.jwk(json!({"kid": "a"})), b.jwk(json!({"kid": "b"}))]));
    let by = |signer: &Signer, kid: &str| signer.token_with(&json!({"alg": "ES256", "kid": kid}), &claims());
    assert!(verified(&auth, &by(&a, "a")).is_ok() && verified(&auth, &by(&b, "b")).is_ok());
    for text in [by(&a, "b"), by(&b, "a"), by(&a, "c"), by(&a, "")] {
        assert_eq!(refused(&auth, &text), Fault::Signature);
    }
    assert!(verified(&auth, &a.token(&claims())).is_ok() && verified(&auth, &b.token(&claims())).is_ok(), "no name");
    let stale = |auth: &Auth, kid| {
        let text = by(&a, kid);
        auth.keys[0].may_be_stale(&head(&text, &auth.config.channels.tokens).expect("a header"))
    };
    assert!(stale(&auth, "c") && !stale(&auth, "b"));
    assert!(!stale(&with_secret(""), "c"), "a secret never changes");
}

#[test]
fn a_token_without_a_name_is_tried_with_eight_keys() {
    let ours = Signer::ec();
    let with = |others: usize| {
        let stranger = Signer::stranger("ES256");
        let mut keys: Vec<Value> = (0..others).map(|n| stranger.jwk(json!({"kid": n.to_string()}))).collect();
        keys.push(ours.jwk(json!({"kid": "ours"})));
        with_jwks("ES256", &json!(keys))
    };
    assert!(verified(&with(7), &ours.token(&claims())).is_ok());
    assert_eq!(refused(&with(8), &ours.token(&claims())), Fault::Signature);
    let named = ours.token_with(&json!({"alg": "ES256", "kid": "ours"}), &claims());
    assert!(verified(&with(8), &named).is_ok());
}

#[test]
fn times_hold_to_the_second_with_their_leeway() {
    let auth = with_secret("");
    let at = |claims: Value, now: f64| verified_at(&auth, &Signer::secret().token(&claims), now).map(|_| ());
    for exp in [json!(NOW), json!(NOW as u64)] {
        assert_eq!(at(json!({"exp": exp}), NOW + 29.9), Ok(()));
        assert_eq!(at(json!({"exp": exp}), NOW + 30.0), Err(Fault::Expired));
    }
    let early = |nbf: f64| json!({"exp": NOW + 600.0, "nbf": nbf});
    assert_eq!(at(early(NOW + 30.0), NOW), Ok(()));
    assert_eq!(at(early(NOW + 30.5), NOW), Err(Fault::Early));
    assert_eq!(at(json!({"exp": -1}), NOW), Err(Fault::Expired));
    assert_eq!(at(json!({"exp": 1e300}), NOW), Ok(()), "far away is not wrong");
    for wrong in [json!({}), json!({"exp": null}), json!({"exp": "1900000000"}), json!({"exp": [1]})] {
        assert_eq!(at(wrong.clone(), NOW), Err(Fault::Claims), "{wrong}");
    }
    assert_eq!(at(json!({"exp": NOW + 60.0, "nbf": "x"}), NOW), Err(Fault::Claims));
    let none = Folder::new()
        .open_all(&format!(
            "channels.token_leeway = 0\n[[channels.key]]\nname = \"k\"\nalg = \"HS256\"\nsecret = \"{SECRET}\""
        ))
        .expect("a good key");
    assert_eq!(verified_at(&none, &Signer::secret().token(&json!({"exp": NOW})), NOW).map(|_| ()), Err(Fault::Expired));
}

#[test]
fn a_token_ends_when_its_leeway_does() {
    let auth = with_secret("");
    let token = verified(&auth, &Signer::secret().token(&json!({"exp": NOW + 100.0}))).expect("a good token");
    let left = token.expires - std::time::Instant::now();
    assert!((125.0..=130.0).contains(&left.as_secs_f64()), "{left:?}");
}

#[test]
fn for_whom_and_from_whom() {
    let claims = |iss: Value, aud: Value| json!({"exp": NOW + 60.0, "iss": iss, "aud": aud});
    let auth = with_secret("issuer = \"id\"\naudience = [\"a\", \"b\"]");
    let to = |claims: &Value| verified(&auth, &Signer::secret().token(claims)).map(|_| ());
    assert_eq!(to(&claims(json!("id"), json!("a"))), Ok(()));
    assert_eq!(to(&claims(json!("id"), json!(["x", "b"]))), Ok(()));
    for (iss, aud) in [
        (json!("other"), json!("a")),
        (json!("id"), json!("c")),
        (json!("id"), json!([])),
        (json!("id"), json!(null)),
        (json!(null), json!("a")),
        (json!(1), json!("a")),
        (json!("id"), json!({"a": 1})),
    ] {
        assert_eq!(to(&claims(iss.clone(), aud.clone())), Err(Fault::Audience), "{iss} {aud}");
    }
    let anybody = verified(&with_secret(""), &Signer::secret().token(&claims(json!("x"), json!("y"))));
    assert!(anybody.is_ok(), "neither is asked for");
}

#[test]
fn claims_are_what_they_should_be() {
    let auth = with_secret("");
    let with = |more: Value| {
        let mut claims = json!({"exp": NOW + 60.0});
        for (name, value) in more.as_object().expect("an object") {
            claims[name] = value.clone();
        }
        verified(&auth, &Signer::secret().token(&claims))
    };
    assert!(with(json!({})).is_ok_and(|token| token.user.is_none() && token.grants.subscribe.is_empty()));
    assert!(with(json!({"tempest": null, "sub": null})).is_ok());
    assert!(with(json!({"tempest": {"later": 1}, "other": [1]})).is_ok(), "what is not known is passed over");
    for wrong in [
        json!({"sub": 1}),
        json!({"tempest": "*"}),
        json!({"tempest": ["*"]}),
        json!({"tempest": {"subscribe": "*"}}),
        json!({"tempest": {"publish": [1]}}),
    ] {
        assert_eq!(with(wrong.clone()).map(|_| ()).expect_err("a wrong claim"), Fault::Claims, "{wrong}");
    }
    for claims in [json!([]), json!("x"), json!(null)] {
        assert_eq!(refused(&auth, &Signer::secret().token(&claims)), Fault::Claims, "{claims}");
    }
}

#[test]
fn garbage_is_refused() {
    let auth = with_secret("");
    let good = Signer::secret().token(&claims());
    let half = &good[..good.len() / 2];
    let padded = good.replace('.', "=.");
    for text in
        ["", ".", "..", "...", "a.b.c", "e30.e30.e30", half, &padded, "\u{fc}.\u{fc}.\u{fc}", " ", &"A".repeat(8192)]
    {
        assert_eq!(refused(&auth, text), Fault::Malformed, "{text:.20}");
    }
    for text in [format!("{good}."), format!(".{good}"), format!("{good}.{good}")] {
        assert!(verified(&auth, &text).is_err(), "{text}");
    }
}

#[test]
fn limits_hold_at_their_edges() {
    let auth = with_secret("");
    let sized = |size: usize| {
        let text = |filler: usize| Signer::secret().token(&json!({"exp": NOW + 60.0, "x": "y".repeat(filler)}));
        (size / 2..size).map(text).find(|text| text.len() >= size).expect("a token of that size")
    };
    let long = sized(8192);
    assert_eq!((long.len(), verified(&auth, &long).is_ok()), (8192, true));
    assert_eq!(refused(&auth, &sized(8193)), Fault::Large);
    let granting = |lists: [usize; 3]| {
        let [subscribe, publish, patterns] = lists.map(|count| vec!["a"; count]);
        let tempest = json!({"subscribe": subscribe, "publish": publish, "patterns": patterns});
        Signer::secret().token(&json!({"exp": NOW + 60.0, "tempest": tempest}))
    };
    assert!(verified(&auth, &granting([50, 30, 20])).is_ok());
    for lists in [[51, 30, 20], [101, 0, 0], [0, 0, 101]] {
        assert_eq!(refused(&auth, &granting(lists)), Fault::Large, "{lists:?}");
    }
}

#[test]
fn a_key_set_has_its_limits_too() {
    let keys = |count: usize| json!({"keys": vec![json!({}); count]}).to_string();
    let open = |text: String, limit: &str| {
        let key = "[[channels.key]]\nname = \"k\"\nalg = \"ES256\"\njwks_file = \"k\"";
        Folder::new()
            .with("k", text)
            .open_all(&format!("{limit}\n{key}"))
            .map(|_| ())
            .map_err(|error| error.to_string())
    };
    assert_eq!(open(keys(100), ""), Ok(()));
    assert_eq!(open(keys(101), ""), Err("channels.key k: its key set has more than 100 keys".to_owned()));
    let text = |size: usize| keys(1) + &" ".repeat(size - keys(1).len());
    assert_eq!(open(text(256 * 1024), ""), Ok(()));
    assert!(open(text(256 * 1024 + 1), "").is_err_and(|error| error.contains("more than 262144 bytes")));
    assert!(open(text(101), "channels.jwks_bytes = 100").is_err());
    assert!(open(keys(2), "channels.jwks_keys = 1").is_err());
    for wrong in ["", "{}", "[]", "{\"keys\":1}"] {
        assert!(open(wrong.to_owned(), "").is_err_and(|error| error.ends_with("it is no key set (JWKS)")), "{wrong}");
    }
}

#[test]
fn what_is_no_key_is_an_error_that_tells_nothing_of_it() {
    let short = "hunter2hunter2hunter2hunter2hun";
    let folder = Folder::new()
        .with("short", short)
        .with("ec.pem", Signer::ec().public_pem())
        .with("ed.pem", Signer::ed().public_pem())
        .with("rsa.pem", Signer::rsa().public_pem())
        .with("private.pem", Signer::rsa().private_pem())
        .with("broken.pem", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
        .with("large.pem", "x".repeat(64 * 1024 + 1));
    for (alg, source, part) in [
        ("HS256", "secret_file = \"short\"", "at least 32 bytes"),
        ("HS256", "secret_file = \"none\"", "cannot be read"),
        ("ES256", "public_key_file = \"ed.pem\"", "expected a public key for ES256"),
        ("ES256", "public_key_file = \"rsa.pem\"", "expected a public key for ES256"),
        ("EdDSA", "public_key_file = \"ec.pem\"", "expected a public key for EdDSA"),
        ("RS256", "public_key_file = \"ec.pem\"", "expected a public key for RS256"),
        ("RS256", "public_key_file = \"private.pem\"", "expected a public key for RS256"),
        ("RS256", "public_key_file = \"broken.pem\"", "expected a public key for RS256"),
        ("RS256", "public_key_file = \"large.pem\"", "more than 65536 bytes"),
        ("ES256", "jwks_file = \"none\"", "cannot be read"),
    ] {
        let error = folder.open(&format!("alg = \"{alg}\"\n{source}")).map(|_| ()).expect_err("no key").to_string();
        assert!(error.starts_with("channels.key k: ") && error.contains(part), "{source}: {error}");
        assert!(!error.contains("hunter2"), "{error}");
    }
}
