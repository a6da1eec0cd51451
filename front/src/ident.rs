//! Identifiers of fronts, reactors and requests.
//!
//! An id names its owner: `<front>.<n>` is a reactor, `<reactor>-<base 36>` one of its requests. Workers treat them
//! as opaque; only this module takes them apart.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::rc::Rc;

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// One incarnation of a front process: ten characters, new at every start, so that answers to a former life are
/// never taken for answers to this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrontId(String);

impl FrontId {
    /// A fresh id, from the randomness that the standard library seeds its hash maps with (52 bits of it).
    pub fn random() -> Self {
        let mut random = RandomState::new().build_hasher();
        random.write_u32(std::process::id());
        let mut rest = random.finish();
        let text = (0..10).map(|_| {
            let digit = DIGITS[(rest % 36) as usize];
            rest /= 36;
            char::from(digit)
        });
        Self(text.collect())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FrontId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// One event loop of a front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReactorId(Rc<str>);

impl ReactorId {
    /// The reactor number `index` of `front`.
    pub fn new(front: &FrontId, index: usize) -> Self {
        Self(format!("{front}.{index}").into())
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of this reactor's request number `serial`.
    pub fn request(&self, serial: u64) -> String {
        let mut id = String::with_capacity(self.0.len() + 8);
        id.push_str(&self.0);
        id.push('-');
        push_base36(&mut id, serial);
        id
    }

    /// The serial number in a request id of this reactor; None for anybody else's.
    pub fn serial(&self, request: &str) -> Option<u64> {
        let digits = request.strip_prefix(&*self.0)?.strip_prefix('-')?;
        let canonical = !digits.is_empty() && digits.len() <= 12 && (digits == "0" || !digits.starts_with('0'));
        let lower = digits.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        (canonical && lower).then(|| u64::from_str_radix(digits, 36).ok()).flatten()
    }
}

fn push_base36(out: &mut String, number: u64) {
    let mut digits = [0u8; 13];
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = DIGITS[(rest % 36) as usize];
        rest /= 36;
        if rest == 0 {
            break;
        }
    }
    out.extend(digits[at..].iter().map(|&digit| char::from(digit)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_names_its_reactor_and_reads_back() {
        let reactor = ReactorId::new(&FrontId::random(), 3);
        for serial in [0, 1, 35, 36, 1_000_000] {
            assert_eq!(reactor.serial(&reactor.request(serial)), Some(serial));
        }
    }

    #[test]
    fn foreign_and_odd_ids_are_nobodys() {
        let front = FrontId::random();
        let reactor = ReactorId::new(&front, 0);
        let other = ReactorId::new(&front, 1);
        assert_eq!(reactor.serial(&other.request(5)), None);
        for odd in ["", "-", "-00", "-05", "-A", "-+5", "-zzzzzzzzzzzzzzzz"] {
            assert_eq!(reactor.serial(&format!("{}{odd}", reactor.as_str())), None, "{odd}");
        }
    }

    #[test]
    fn two_fronts_differ() {
        assert_ne!(FrontId::random(), FrontId::random());
    }
}
