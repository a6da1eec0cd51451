//! Names of sessions in Redis.
//!
//! Two parts: a root, which stays as long as the session lasts and keeps all its names in one slot of a cluster, and what
//! is made anew when somebody else comes to own it. Nobody outside ever sees one: cookies have them sealed.

use ring::rand::{SecureRandom, SystemRandom};

/// Bytes of randomness in each part (OWASP asks for 8 at least in all).
const BYTES: usize = 12;

/// Which session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) root: String,
    pub(super) name: String,
}

impl Id {
    /// One that nobody has; None: the system gives no randomness.
    pub(super) fn fresh() -> Option<Self> {
        Some(Self { root: random()?, name: random()? })
    }

    /// Another one for the same session.
    pub(super) fn renamed(&self) -> Option<Self> {
        Some(Self { root: self.root.clone(), name: random()? })
    }

    /// As [`Id`]'s text has it.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (root, name) = text.split_once('.')?;
        let fit = |part: &str| part.len() == 2 * BYTES && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        (fit(root) && fit(name)).then(|| Self { root: root.to_owned(), name: name.to_owned() })
    }
}

impl std::fmt::Display for Id {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}", self.root, self.name)
    }
}

fn random() -> Option<String> {
    let mut bytes = [0; BYTES];
    SystemRandom::new().fill(&mut bytes).ok()?;
    Some(hex(&bytes))
}

/// Bytes in hexadecimal.
pub(super) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(b"0123456789abcdef"[usize::from(digit)]))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_reads_back_and_nothing_else_is_one() {
        let id = Id::fresh().expect("randomness");
        assert_eq!(Id::read(&id.to_string()).as_ref(), Some(&id));
        let renamed = id.renamed().expect("randomness");
        assert!(renamed.root == id.root && renamed.name != id.name);
        for bad in [
            "",
            ".",
            "a.b",
            &format!("{id}0"),
            &id.to_string().replace('.', ":"),
            &format!("{}}}.{}", &id.root[1..], id.name),
        ] {
            assert_eq!(Id::read(bad), None, "{bad}");
        }
    }
}
