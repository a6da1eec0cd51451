//! What a request may do: public patterns, grants, what is reserved, and where a cookie is not enough.

use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use super::*;

fn config(more: &str) -> Auth {
    let keys = format!("[[channels.key]]\nname = \"k\"\nalg = \"HS256\"\nsecret = \"{SECRET}\"");
    let text =
        format!("channels.public = [\"news\"]\nchannels.cors = [\"*\", \"https://app.example\"]\n{more}\n{keys}");
    Folder::new().open_all(&text).expect("a good key")
}

/// Good for a minute from now on.
fn good() -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let mut claims = claims();
    claims["exp"] = json!(now + 60);
    Signer::secret().token(&claims)
}

fn with(name: header::HeaderName, value: &str) -> HeaderMap {
    HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a value"))])
}

async fn bearing(auth: &Auth, token: &str) -> Result<Rights, Failure> {
    auth.rights(&with(header::AUTHORIZATION, &format!("Bearer {token}")), None, Some("a.test"), None).await
}

#[tokio::test]
async fn a_token_adds_to_what_is_public() {
    let auth = config("");
    let rights = bearing(&auth, &good()).await.expect("a good token");
    assert_eq!((rights.user(), rights.expires().is_some()), (Some("ann"), true));
    assert_eq!((rights.expires_for("news", false), rights.expires_for("orders.1", false)), (None, rights.expires()));
    for open in ["news", "orders.1", "orders."] {
        assert_eq!(rights.may_subscribe(open), Ok(()), "{open}");
    }
    for closed in ["chat", "orders", "secret"] {
        let refused = rights.may_subscribe(closed);
        assert_eq!(refused, Err(Failure::Forbidden("neither token nor session opens this channel")), "{closed}");
    }
    assert_eq!(rights.may_publish("chat"), Ok(()));
    for closed in ["news", "orders.1"] {
        assert!(matches!(rights.may_publish(closed), Err(Failure::Forbidden(_))), "{closed}");
    }
    let reads = |pattern| rights.may_read_pattern(pattern).is_ok();
    assert!(reads("a.*") && !reads("a.b") && !reads("orders.*"));
}

#[tokio::test]
async fn without_a_token_it_is_said_that_one_might_help_where_it_might() {
    let auth = config("");
    let rights = auth.rights(&HeaderMap::new(), None, None, None).await.expect("no token is no fault");
    assert_eq!((rights.user(), rights.expires()), (None, None));
    assert_eq!(rights.may_subscribe("news"), Ok(()));
    assert_eq!(rights.may_subscribe("orders.1"), Err(Failure::Unauthorized(None)));
    assert_eq!(rights.may_publish("news"), Err(Failure::Unauthorized(None)));
    let keyless = Folder::new().open_all("channels.public = [\"news\"]").expect("no key is a good one");
    // What is here for somebody else is not looked at.
    let rights = bearing(&keyless, "somebody's").await.expect("no keys, no tokens");
    assert_eq!(rights.may_subscribe("news"), Ok(()));
    assert_eq!(rights.may_subscribe("orders.1"), Err(Failure::Forbidden("this channel is not public")));
    assert_eq!(rights.may_publish("news"), Err(Failure::Forbidden("this channel may not be published on")));
}

#[tokio::test]
async fn a_bad_token_is_worse_than_none() {
    let auth = config("");
    for (text, reason) in [
        ("x".to_owned(), "the token is malformed"),
        (Signer::stranger("HS256").token(&claims()), "the token is not signed by a key that is known here"),
        (Signer::secret().token(&json!({"exp": 1})), "the token has expired"),
    ] {
        assert_eq!(bearing(&auth, &text).await.map(|_| ()), Err(Failure::Unauthorized(Some(reason))));
    }
    let counted = |fault| auth.metrics.tokens_refused.get(fault);
    assert_eq!((counted(Fault::Malformed), counted(Fault::Signature), counted(Fault::Expired)), (1, 1, 1));
}

#[tokio::test]
async fn no_grant_opens_what_is_reserved() {
    let auth = config("channels.prefix = \"app:\"");
    let all = json!({"exp": 4e9, "tempest": {"subscribe": ["*"], "publish": ["*"]}});
    let rights = bearing(&auth, &Signer::secret().token(&all)).await.expect("a good token");
    for name in ["tempest:web", "{tempest:web}:x", "__keyspace@0__:x"] {
        let reserved = Err(Failure::Forbidden("this channel's name is reserved"));
        assert_eq!((rights.may_subscribe(name), rights.may_publish(name)), (reserved.clone(), reserved), "{name}");
    }
    assert_eq!((rights.may_subscribe("a"), rights.may_publish("a")), (Ok(()), Ok(())));
}

#[tokio::test]
async fn a_cookie_publishes_only_from_our_own_pages() {
    let auth = config("");
    for (origin, may) in [
        (None, false),
        (Some("https://a.test"), true),
        (Some("https://app.example"), true),
        (Some("https://evil.test"), false),
        (Some("null"), false),
    ] {
        let mut headers = with(header::COOKIE, &format!("tempest_token={}", good()));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_str(origin).expect("a value"));
        }
        let rights = auth.rights(&headers, None, Some("a.test"), None).await.expect("a good token");
        assert_eq!(rights.may_publish("chat").is_ok(), may, "{origin:?}");
        assert_eq!(rights.may_subscribe("orders.1"), Ok(()), "reading is the browser's to forbid");
    }
    let by_query = auth.rights(&HeaderMap::new(), Some(&format!("token={}", good())), None, None).await.expect("good");
    assert_eq!(by_query.may_publish("chat"), Ok(()), "who knows the token is no stranger's page");
}

#[tokio::test]
async fn nothing_prints_a_token() {
    let auth = config("");
    let text = good();
    let rights = bearing(&auth, &text).await.expect("a good token");
    let signature = text.rsplit('.').next().expect("a signature");
    assert!(!format!("{rights:?}").contains(signature) && !format!("{rights:?}").contains(SECRET));
}
