//! Reads whose tokens open channels that are not public: keys, where they are, and the limits of it all.
//!
//! No file of keys is opened here and no secret is ever part of a message.

use std::path::{Path, PathBuf};
use std::time::Duration;

use url::{Host, Url};

use super::Secret;
use super::section::Section;
use super::value::{Kind, Read, Value, Wrong, boolean, bytes, count, list, name, one_of, path, string, time};

/// Tables `[[channels.key]]`: a token may be tried against all of them.
const MOST_KEYS: usize = 16;
/// RFC 7518, section 3.2: a key at least as long as the hash.
pub(crate) const LEAST_SECRET: usize = 32;
const KIB: usize = 1024;

/// Whose tokens are taken, and within which limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tokens {
    /// The keys; none: tokens are not looked at.
    pub keys: Vec<TokenKey>,
    /// The cookie that may hold a token.
    pub cookie: String,
    /// By how much clocks may differ.
    pub leeway: Duration,
    /// Bytes of a token.
    pub bytes: usize,
    /// Patterns in one token.
    pub patterns: usize,
    /// Bytes of a key set (JWKS).
    pub jwks_bytes: usize,
    /// Keys in a key set.
    pub jwks_keys: usize,
    /// Time between two fetches of a key set.
    pub jwks_refresh: Duration,
    /// Least time between two fetches, whatever asks for the second.
    pub jwks_pause: Duration,
}

/// One key, or one set of keys for the same algorithm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenKey {
    /// The name in messages.
    pub name: String,
    /// The only algorithm it is used with.
    pub alg: TokenAlg,
    /// Where it comes from.
    pub source: KeySource,
    /// What `iss` must be.
    pub issuer: Option<String>,
    /// One of them must be in `aud`; empty: `aud` is not looked at.
    pub audience: Vec<String>,
}

/// How a token is signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenAlg {
    /// HMAC with SHA-256: whoever verifies could sign, too.
    Hs256,
    /// RSA PKCS #1 v1.5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// Where a key comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// It stands in the configuration.
    Secret(Secret),
    /// A file that holds the secret and nothing else; a line feed at its end is not part of it.
    SecretFile(PathBuf),
    /// A public key as PEM.
    PublicKeyFile(PathBuf),
    /// A key set that is read again when it changes.
    JwksFile(PathBuf),
    /// A key set that is fetched now and then.
    JwksUrl(Url),
}

const ALGS: &[(&str, TokenAlg)] =
    &[("HS256", TokenAlg::Hs256), ("RS256", TokenAlg::Rs256), ("ES256", TokenAlg::Es256), ("EdDSA", TokenAlg::EdDsa)];

/// Reads the settings of `[channels]` that are about tokens.
pub(super) fn read(section: &mut Section<'_>, base: &Path) -> Tokens {
    let tick = Duration::from_millis(1);
    let some = 1..=usize::MAX;
    let mut keys: Vec<TokenKey> = Vec::new();
    for (at, table) in section.sections("key").unwrap_or_default().into_iter().enumerate() {
        if at == MOST_KEYS {
            table.problem("", format!("is one key too many, expected at most {MOST_KEYS}"));
        }
        keys.extend(read_key(table, base, &keys));
    }
    Tokens {
        keys,
        cookie: section.get("token_cookie", cookie, "tempest_token".to_owned()),
        leeway: section.get("token_leeway", time(Duration::ZERO), Duration::from_secs(30)),
        bytes: section.get("token_bytes", bytes(1), 8 * KIB),
        patterns: section.get("token_patterns", count(some.clone()), 100),
        jwks_bytes: section.get("jwks_bytes", bytes(1), 256 * KIB),
        jwks_keys: section.get("jwks_keys", count(some), 100),
        jwks_refresh: section.get("jwks_refresh", time(tick), Duration::from_secs(300)),
        jwks_pause: section.get("jwks_pause", time(tick), Duration::from_secs(10)),
    }
}

fn read_key(mut section: Section<'_>, base: &Path, before: &[TokenKey]) -> Option<TokenKey> {
    let key_name = section.require("name", name);
    if key_name.as_ref().is_some_and(|name| before.iter().any(|key| key.name == *name)) {
        section.problem("name", "expected a name of its own for each key");
    }
    let alg = section.require("alg", one_of(ALGS));
    let source = read_source(&mut section, base);
    let issuer = section.optional("issuer", name);
    let audience = section.get("audience", list(name), Vec::new());
    if let (Some(alg), Some(source)) = (alg, &source) {
        check_pair(&section, alg, source);
    }
    section.finish();
    Some(TokenKey { name: key_name?, alg: alg?, source: source?, issuer, audience })
}

/// Exactly one of the settings that say where the key is.
fn read_source(section: &mut Section<'_>, base: &Path) -> Option<KeySource> {
    const SOURCES: [&str; 5] = ["secret", "secret_file", "public_key_file", "jwks_file", "jwks_url"];
    let given: Vec<&str> = SOURCES.into_iter().filter(|key| section.has(key)).collect();
    if given.len() != 1 {
        section.problem("", format!("expected exactly one of {}", SOURCES.join(", ")));
    }
    let insecure = section.get("jwks_insecure", boolean, false);
    let mut file = |key| section.optional(key, path).map(|file| base.join(file));
    let files = [file("secret_file"), file("public_key_file"), file("jwks_file")];
    let secret = section.optional("secret", secret).map(KeySource::Secret);
    let url = section.optional("jwks_url", jwks_url(insecure)).map(KeySource::JwksUrl);
    let [secret_file, public_key_file, jwks_file] = files;
    secret
        .or(secret_file.map(KeySource::SecretFile))
        .or(public_key_file.map(KeySource::PublicKeyFile))
        .or(jwks_file.map(KeySource::JwksFile))
        .or(url)
}

/// A secret is for HS256 and nothing else: so no public key can ever be taken for one.
fn check_pair(section: &Section<'_>, alg: TokenAlg, source: &KeySource) {
    let symmetric = matches!(source, KeySource::Secret(_) | KeySource::SecretFile(_));
    match (alg, symmetric) {
        (TokenAlg::Hs256, false) => section.problem("alg", "expected a secret or secret_file with HS256"),
        (TokenAlg::Hs256, true) | (_, false) => {}
        (_, true) => section.problem("alg", "expected HS256 with a secret or secret_file"),
    }
}

/// What was found is not repeated.
pub(super) fn secret(value: &Value<'_>) -> Read<Secret> {
    match value.kind {
        Kind::Text(text) if text.len() >= LEAST_SECRET => Ok(Secret::new(text)),
        _ => Err(Wrong { at: value.at, message: format!("expected a secret of at least {LEAST_SECRET} bytes") }),
    }
}

/// Keys that anybody on the way could exchange are no keys: TLS, or a server on this machine.
fn jwks_url(insecure: bool) -> impl Fn(&Value<'_>) -> Read<Url> {
    move |value| {
        let wrong = |expected: &str| Wrong { at: value.at, message: format!("expected {expected}") };
        let url = Url::parse(&string(value)?).map_err(|_| wrong("a URL like https://id.example/jwks.json"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(wrong("a URL without user and password"));
        }
        let local = match url.host() {
            Some(Host::Domain(name)) => name == "localhost",
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.is_loopback(),
            None => false,
        };
        match url.scheme() {
            "https" => Ok(url),
            "http" if local || insecure => Ok(url),
            "http" => Err(wrong("https://, or http:// to this machine, or jwks_insecure = true")),
            _ => Err(wrong("a URL that begins with https://")),
        }
    }
}

/// A cookie's name as RFC 6265 has it.
pub(super) fn cookie(value: &Value<'_>) -> Read<String> {
    let fit = |c: char| c.is_ascii_graphic() && !"()<>@,;:\\\"/[]?={}".contains(c);
    match string(value) {
        Ok(text) if !text.is_empty() && text.chars().all(fit) => Ok(text),
        _ => Err(value.wrong("a cookie's name like tempest_token")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Config, Problem};
    use super::*;

    const SECRET: &str = "0123456789abcdef0123456789abcdef";

    fn faults(key: &str) -> Vec<String> {
        match Config::from_toml(&format!("[[channels.key]]\n{key}"), Path::new("/base")) {
            Ok(_) => Vec::new(),
            Err(problems) => problems.0.iter().map(Problem::to_string).collect(),
        }
    }

    fn key(rest: &str) -> Vec<String> {
        faults(&format!("name = \"a\"\n{rest}"))
    }

    #[test]
    fn reads_each_source() {
        for (alg, source) in [
            ("HS256", format!("secret = {SECRET:?}")),
            ("HS256", "secret_file = \"s\"".to_owned()),
            ("RS256", "public_key_file = \"p.pem\"".to_owned()),
            ("ES256", "jwks_file = \"k.json\"".to_owned()),
            ("EdDSA", "jwks_url = \"https://id.example/jwks.json\"".to_owned()),
            ("EdDSA", "jwks_url = \"http://127.0.0.1:80/\"".to_owned()),
            ("EdDSA", "jwks_url = \"http://[::1]:80/\"".to_owned()),
            ("EdDSA", "jwks_url = \"http://localhost/\"".to_owned()),
            ("EdDSA", "jwks_url = \"http://id.example/\"\njwks_insecure = true".to_owned()),
        ] {
            assert_eq!(key(&format!("alg = \"{alg}\"\n{source}")), Vec::<String>::new(), "{source}");
        }
        let text =
            "[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret_file = \"s\"\nissuer = \"me\"\naudience = \"x\"";
        let config = Config::from_toml(text, Path::new("/base")).expect("a good key");
        let [key] = config.channels.tokens.keys.as_slice() else { panic!("one key") };
        assert_eq!((key.name.as_str(), key.alg), ("a", TokenAlg::Hs256));
        assert_eq!(key.source, KeySource::SecretFile("/base/s".into()));
        assert_eq!((key.issuer.as_deref(), key.audience.as_slice()), (Some("me"), ["x".to_owned()].as_slice()));
    }

    #[test]
    fn refuses_what_would_not_be_safe() {
        for (text, part) in [
            (format!("alg = \"RS256\"\nsecret = {SECRET:?}"), "expected HS256 with a secret"),
            ("alg = \"HS256\"\npublic_key_file = \"p\"".to_owned(), "expected a secret or secret_file with HS256"),
            ("alg = \"HS256\"\njwks_url = \"https://a.test\"".to_owned(), "expected a secret or secret_file"),
            ("alg = \"none\"\nsecret_file = \"s\"".to_owned(), "expected one of HS256, RS256, ES256, EdDSA"),
            ("alg = \"HS256\"".to_owned(), "exactly one of"),
            ("alg = \"ES256\"\njwks_file = \"a\"\npublic_key_file = \"b\"".to_owned(), "exactly one of"),
            ("alg = \"ES256\"\njwks_url = \"http://id.example/\"".to_owned(), "expected https://"),
            ("alg = \"ES256\"\njwks_url = \"ftp://id.example/\"".to_owned(), "begins with https://"),
            ("alg = \"ES256\"\njwks_url = \"https://u:hunter2@id.example/\"".to_owned(), "without user and password"),
        ] {
            let faults = key(&text);
            assert!(faults.len() == 1 && faults[0].contains(part), "{text}: {faults:?}");
            assert!(!faults[0].contains("hunter2"), "{faults:?}");
        }
        let twice = format!("name = \"a\"\nalg = \"HS256\"\nsecret = {SECRET:?}");
        assert!(faults(&format!("{twice}\n[[channels.key]]\n{twice}"))[0].contains("a name of its own"));
    }

    #[test]
    fn a_secret_has_a_least_length_and_is_never_repeated() {
        assert_eq!(key(&format!("alg = \"HS256\"\nsecret = \"{SECRET}\"")), Vec::<String>::new());
        let short = &key(&format!("alg = \"HS256\"\nsecret = \"{}\"", &SECRET[1..]))[0];
        assert!(short.contains("at least 32 bytes") && !short.contains("123456"), "{short}");
        let text = format!("[[channels.key]]\nname = \"a\"\nalg = \"HS256\"\nsecret = \"{SECRET}\"");
        let config = Config::from_toml(&text, Path::new("/")).expect("a good key");
        assert!(!format!("{config:?}").contains(SECRET));
    }

    #[test]
    fn there_may_be_so_many_keys_and_no_more() {
        let one = |n: usize| format!("[[channels.key]]\nname = \"{n}\"\nalg = \"HS256\"\nsecret_file = \"s\"\n");
        let many = |count: usize| (0..count).map(one).collect::<String>();
        assert!(Config::from_toml(&many(MOST_KEYS), Path::new("/")).is_ok());
        assert!(Config::from_toml(&many(MOST_KEYS + 1), Path::new("/")).is_err());
    }
}
