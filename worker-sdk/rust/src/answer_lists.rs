//! The keys of answer lists that jobs have named lately.
//!
//! A worker answers a few fronts, over and over: each key is checked and copied once, and then shared by all answers
//! for it. It must not grow with what jobs bring.

use std::sync::Arc;

use tempest_protocol::Keys;

/// Key of a list of answers.
pub(crate) type AnswerList = Arc<str>;

/// Keys to remember; those of a dozen reactors, and few enough to look through.
const REMEMBERED: usize = 16;

#[derive(Debug)]
pub(crate) struct AnswerLists {
    keys: Keys,
    known: Vec<AnswerList>,
    /// The one to forget next.
    oldest: usize,
}

impl AnswerLists {
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, known: Vec::new(), oldest: 0 }
    }

    /// The list, if the key is that of one: a forged job must not make a worker write to any other.
    pub(crate) fn find(&mut self, key: &str) -> Option<AnswerList> {
        if let Some(known) = self.known.iter().find(|known| ***known == *key) {
            return Some(known.clone());
        }
        let list: AnswerList = self.keys.is_reply_to(key).then(|| key.into())?;
        if self.known.len() < REMEMBERED {
            self.known.push(list.clone());
        } else {
            self.known[self.oldest] = list.clone();
            self.oldest = (self.oldest + 1) % REMEMBERED;
        }
        Some(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_checked_and_shared() {
        let mut lists = AnswerLists::new(Keys::new("tempest"));
        assert!(lists.find("tempest:web").is_none());
        let first = lists.find("tempest:@a.0").expect("an answer list");
        assert!(Arc::ptr_eq(&first, &lists.find("tempest:@a.0").expect("the same")));
        for n in 0..100 {
            assert_eq!(lists.find(&format!("tempest:@b.{n}")).as_deref(), Some(&*format!("tempest:@b.{n}")));
        }
        assert_eq!(lists.known.len(), REMEMBERED);
        assert!(!Arc::ptr_eq(&first, &lists.find("tempest:@a.0").expect("a list still")), "it was forgotten");
    }
}
