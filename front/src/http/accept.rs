//! What a client takes: the weighted lists of `Accept` and `Accept-Encoding` (RFC 9110, sections 12.4.2 and 12.5), and
//! what answers say of it.

use http::{HeaderMap, HeaderName, HeaderValue, header};

/// The items of a header's lists with their weights, 0 to 1000; an item whose weight cannot be read has none.
fn weighted(headers: &HeaderMap, name: HeaderName) -> impl Iterator<Item = (&str, u16)> {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|list| list.split(',')).filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        let weight = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        Some((name, weight.map_or(1000, weight_of)))
    })
}

fn weight_of(text: &str) -> u16 {
    text.parse::<f32>().ok().filter(|weight| (0.0..=1.0).contains(weight)).map_or(0, |weight| (weight * 1000.0) as u16)
}

/// How much a client likes a coding, 0 to 1000. What it does not name is not taken, but for `*`.
pub(super) fn coding_weight(headers: &HeaderMap, coding: &str) -> u16 {
    let mut any = 0;
    for (name, weight) in weighted(headers, header::ACCEPT_ENCODING) {
        if name.eq_ignore_ascii_case(coding) {
            return weight;
        }
        if name == "*" {
            any = weight;
        }
    }
    any
}

/// True where a client takes a coding.
pub(super) fn takes_coding(headers: &HeaderMap, coding: &str) -> bool {
    coding_weight(headers, coding) > 0
}

/// True where `Accept` names pages, as a browser does that goes to one.
pub(super) fn names_html(headers: &HeaderMap) -> bool {
    weighted(headers, header::ACCEPT).any(|(kind, weight)| kind.eq_ignore_ascii_case("text/html") && weight > 0)
}

/// Says that an answer depends on a header of its request, unless that is said.
pub(super) fn add_vary(headers: &mut HeaderMap, on: &'static str) {
    let names = headers.get_all(header::VARY).iter().filter_map(|value| value.to_str().ok());
    let mut names = names.flat_map(|list| list.split(',')).map(str::trim);
    if !names.any(|name| name == "*" || name.eq_ignore_ascii_case(on)) {
        headers.append(header::VARY, HeaderValue::from_static(on));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coding(value: &'static str, coding: &str) -> u16 {
        coding_weight(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]), coding)
    }

    #[test]
    fn codings_have_weights() {
        assert_eq!(coding("gzip, br;q=0.5", "gzip"), 1000);
        assert_eq!(coding("gzip, br;q=0.5", "br"), 500);
        assert_eq!(coding("gzip, br;q=0.5", "zstd"), 0);
        assert_eq!(coding("GZIP ; q=0.001", "gzip"), 1);
        assert_eq!(coding("br;q=0, *", "br"), 0);
        assert_eq!(coding("br;q=0, *;q=0.2", "zstd"), 200);
        assert_eq!(coding("*, br;q=0", "br"), 0, "the name counts, wherever it stands");
        for bad in ["br;q=x", "br;q=2", "br;q=-1", ";q=1", ""] {
            assert_eq!(coding(bad, "br"), 0, "{bad}");
        }
        assert_eq!(coding_weight(&HeaderMap::new(), "gzip"), 0);
    }
}
