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
    pub fn request(&self, serial: u64) -> RequestId {
        let mut id = RequestId { text: [0; ID_BYTES], length: 0, serial };
        id.append(self.0.as_bytes());
        id.append(b"-");
        let mut digits = [0; BASE36_DIGITS];
        id.append(base36(serial, &mut digits));
        id
    }

    /// True for one reactor of each front, whatever others it has.
    pub fn is_first(&self) -> bool {
        self.0.ends_with(".0")
    }

    /// The serial number in a request id of this reactor; None for anybody else's.
    pub fn serial(&self, request: &str) -> Option<u64> {
        let digits = request.strip_prefix(&*self.0)?.strip_prefix('-')?;
        let canonical = !digits.is_empty() && digits.len() <= 12 && (digits == "0" || !digits.starts_with('0'));
        let lower = digits.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        (canonical && lower).then(|| u64::from_str_radix(digits, 36).ok()).flatten()
    }
}

/// Digits of the largest number in base 36.
const BASE36_DIGITS: usize = 13;
/// Bytes of a request's id at most: ten of the front, a dot, an index, a hyphen, the serial number.
const ID_BYTES: usize = 10 + 1 + 10 + 1 + BASE36_DIGITS;

/// A request's id. It lives where it is held: one is made for every request, and an allocation each would show.
#[derive(Clone, Copy)]
pub struct RequestId {
    text: [u8; ID_BYTES],
    length: usize,
    serial: u64,
}

impl RequestId {
    fn append(&mut self, bytes: &[u8]) {
        self.text[self.length..self.length + bytes.len()].copy_from_slice(bytes);
        self.length += bytes.len();
    }

    /// The number by which its reactor knows it.
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// As bytes: letters, digits, a dot and a hyphen.
    pub fn as_bytes(&self) -> &[u8] {
        &self.text[..self.length]
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(self.as_bytes()).expect("an id is ASCII")
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn base36(number: u64, digits: &mut [u8; BASE36_DIGITS]) -> &[u8] {
    let mut at = digits.len();
    let mut rest = number;
    loop {
        at -= 1;
        digits[at] = DIGITS[(rest % 36) as usize];
        rest /= 36;
        if rest == 0 {
            return &digits[at..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_id_names_its_reactor_and_reads_back() {
        let reactor = ReactorId::new(&FrontId::random(), 3);
        for serial in [0, 1, 35, 36, 1_000_000] {
            assert_eq!(reactor.serial(reactor.request(serial).as_str()), Some(serial));
        }
    }

    #[test]
    fn the_longest_id_has_room() {
        let id = ReactorId::new(&FrontId::random(), u32::MAX as usize).request(u64::MAX);
        assert_eq!(id.as_bytes().len(), ID_BYTES);
    }

    #[test]
    fn foreign_and_odd_ids_are_nobodys() {
        let front = FrontId::random();
        let reactor = ReactorId::new(&front, 0);
        let other = ReactorId::new(&front, 1);
        assert_eq!(reactor.serial(other.request(5).as_str()), None);
        for odd in ["", "-", "-00", "-05", "-A", "-+5", "-zzzzzzzzzzzzzzzz"] {
            assert_eq!(reactor.serial(&format!("{}{odd}", reactor.as_str())), None, "{odd}");
        }
    }

    #[test]
    fn two_fronts_differ() {
        assert_ne!(FrontId::random(), FrontId::random());
    }
}
