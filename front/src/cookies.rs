//! Cookies of one name, in the headers of requests and answers.
//!
//! Only finding them and leaving them out; what one means is for whoever asks.

use http::{HeaderMap, HeaderValue, header};

/// The value of `name=value`, if that is its name.
pub fn value_of<'v>(pair: &'v [u8], name: &str) -> Option<&'v str> {
    let value = pair.trim_ascii().strip_prefix(name.as_bytes())?.strip_prefix(b"=")?;
    // Strange bytes are no value of ours.
    Some(std::str::from_utf8(value).unwrap_or_default())
}

/// A value of the header `cookie` without the cookie of this name; None: nothing else is in it.
pub fn without(value: &[u8], name: &str) -> Option<Vec<u8>> {
    let mut kept: Vec<u8> = Vec::with_capacity(value.len());
    for pair in value.split(|byte| *byte == b';').map(<[u8]>::trim_ascii) {
        if pair.is_empty() || value_of(pair, name).is_some() {
            continue;
        }
        if !kept.is_empty() {
            kept.extend_from_slice(b"; ");
        }
        kept.extend_from_slice(pair);
    }
    (!kept.is_empty()).then_some(kept)
}

/// Takes out of an answer whatever would set the cookie of this name; true: there was something.
pub fn refuse(headers: &mut HeaderMap, name: &str) -> bool {
    let ours = |value: &HeaderValue| {
        value_of(value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default(), name).is_some()
    };
    if !headers.get_all(header::SET_COOKIE).iter().any(ours) {
        return false;
    }
    let kept: Vec<HeaderValue> =
        headers.get_all(header::SET_COOKIE).iter().filter(|value| !ours(value)).cloned().collect();
    headers.remove(header::SET_COOKIE);
    for value in kept {
        headers.append(header::SET_COOKIE, value);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_neither_see_it_nor_set_it() {
        let left = |value: &str| without(value.as_bytes(), "s").map(|left| String::from_utf8(left).expect("text"));
        assert_eq!(left("a=b; s=1; c=d").as_deref(), Some("a=b; c=d"));
        assert_eq!(left("s=1"), None);
        assert_eq!(left(" s=1 ;; s=2;as=3;sa=4").as_deref(), Some("as=3; sa=4"));
        assert_eq!(left("a=b").as_deref(), Some("a=b"));
        let mut headers = HeaderMap::new();
        for value in ["a=b; Path=/", "s=1; Path=/", "sa=2"] {
            headers.append(header::SET_COOKIE, HeaderValue::from_static(value));
        }
        assert!(refuse(&mut headers, "s"));
        assert!(!refuse(&mut headers, "s"));
        let kept: Vec<_> = headers.get_all(header::SET_COOKIE).iter().collect();
        assert_eq!(kept, ["a=b; Path=/", "sa=2"]);
    }
}
