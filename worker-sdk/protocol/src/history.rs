//! Which channels have a history, as fronts write it to Redis for everybody who publishes.
//!
//! A publisher has no configuration of a front; it reads these rules and knows by them whether a message is kept. This
//! module reads the text and finds the rule of a channel. It must not fetch anything or remember when it was fetched.

use serde_json::Value;

/// Rules read at most; a text with more is refused.
const MOST_RULES: usize = 1000;
/// Above it the numbers of scripts, which have 53 bits, would be rounded.
const MOST_MESSAGES: u64 = 1 << 50;
/// A year, in ms.
const MOST_MS: u64 = 365 * 24 * 3600 * 1000;

/// How much of a channel is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Messages at most.
    pub messages: u64,
    /// For how many ms.
    pub ms: u64,
}

impl Keep {
    /// None where one of them is 0, or more than it can be: 2^50 messages, a year.
    pub fn new(messages: u64, ms: u64) -> Option<Self> {
        let sane = (1..=MOST_MESSAGES).contains(&messages) && (1..=MOST_MS).contains(&ms);
        sane.then_some(Self { messages, ms })
    }
}

/// The rules, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HistoryRules(Vec<Rule>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Rule {
    prefix: String,
    pattern: String,
    keep: Option<Keep>,
}

impl HistoryRules {
    /// Reads the JSON that stands at `<prefix>:@history`; the error says what is wrong with it.
    pub fn read(text: &[u8]) -> Result<Self, String> {
        let rules = match serde_json::from_slice(text) {
            Ok(Value::Array(rules)) if rules.len() <= MOST_RULES => rules,
            Ok(Value::Array(rules)) => return Err(format!("it has {} rules, more than {MOST_RULES}", rules.len())),
            _ => return Err("it is no JSON array".to_owned()),
        };
        rules.iter().map(read_rule).collect::<Option<_>>().map(Self).ok_or_else(|| "a rule of it is none".to_owned())
    }

    /// What is kept of a channel, by its name in Redis: as the first rule that matches says; none matches: nothing.
    pub fn keep(&self, channel: &str) -> Option<Keep> {
        let matches = |rule: &&Rule| {
            channel.strip_prefix(rule.prefix.as_str()).is_some_and(|name| matches_pattern(&rule.pattern, name))
        };
        self.0.iter().find(matches)?.keep
    }
}

/// A number that is missing or null means that nothing is kept.
fn read_rule(rule: &Value) -> Option<Rule> {
    let rule = rule.as_object()?;
    let text = |name: &str| rule.get(name).map(|value| value.as_str().map(str::to_owned));
    let number = |name: &str| rule.get(name).filter(|value| !value.is_null()).map(Value::as_u64);
    let keep = match (number("messages"), number("ms")) {
        (Some(messages), Some(ms)) => Some(Keep::new(messages?, ms?)?),
        (None, None) => None,
        _ => return None,
    };
    Some(Rule { prefix: text("prefix").unwrap_or(Some(String::new()))?, pattern: text("pattern")??, keep })
}

/// True where the whole of `name` matches: `*` is any text, `?` one character, everything else itself. Linear in both
/// lengths' product at worst, without recursion.
pub fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    let mut star = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == '?' || c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((star_p, star_n)) = star else { return false };
                star = Some((star_p, star_n + 1));
                p = star_p + 1;
                n = star_n + 1;
            }
        }
    }
    pattern[p..].iter().all(|&c| c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides() {
        let rules = HistoryRules::read(
            br#"[{"prefix":"live:","pattern":"a?","messages":1,"ms":2},{"pattern":"secret.*"},
            {"pattern":"*.x","messages":null,"ms":null},{"pattern":"s*","messages":3,"ms":4,"more":1}]"#,
        )
        .expect("rules");
        assert_eq!(rules.keep("live:ab"), Keep::new(1, 2));
        assert_eq!(rules.keep("some"), Keep::new(3, 4));
        for none in ["ab", "secret.a", "some.x", ""] {
            assert_eq!(rules.keep(none), None, "{none}");
        }
        assert_eq!(HistoryRules::read(b"[]"), Ok(HistoryRules::default()));
    }

    #[test]
    fn rules_that_are_none_are_refused() {
        let many = |count| format!("[{}]", vec![r#"{"pattern":"a"}"#; count].join(","));
        assert!(HistoryRules::read(many(MOST_RULES).as_bytes()).is_ok());
        assert!(HistoryRules::read(many(MOST_RULES + 1).as_bytes()).is_err());
        for bad in [
            "",
            "{}",
            "[1]",
            r#"[{"messages":1,"ms":1}]"#,
            r#"[{"pattern":1}]"#,
            r#"[{"pattern":"a","prefix":1}]"#,
            r#"[{"pattern":"a","messages":1}]"#,
            r#"[{"pattern":"a","messages":0,"ms":1}]"#,
            r#"[{"pattern":"a","messages":1,"ms":1.5}]"#,
        ] {
            assert!(HistoryRules::read(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_kept_has_bounds() {
        assert!(Keep::new(MOST_MESSAGES, MOST_MS).is_some() && Keep::new(1, 1).is_some());
        for (messages, ms) in [(0, 1), (1, 0), (MOST_MESSAGES + 1, 1), (1, MOST_MS + 1)] {
            assert_eq!(Keep::new(messages, ms), None);
        }
    }

    #[test]
    fn patterns_match_whole_names() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("", "", true),
            ("a*c", "abbc", true),
            ("a*c", "abcd", false),
            ("a*b*c", "aXbYbZc", true),
            ("?", "\u{fc}", true),
            ("?", "", false),
            ("a.c", "abc", false),
            ("*a*a*a*a*a*b", &"a".repeat(200), false),
        ] {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        }
    }
}
