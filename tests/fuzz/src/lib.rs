//! Fuzz targets: functions that take any bytes and panic where something does not hold that others rely on.
//!
//! `./dev fuzz` runs them in libFuzzer; the test here runs each over the golden messages, the corpus and what once broke
//! it, in every `cargo test`. A target must end quickly and must not touch files, clocks or the network.

pub mod corpus;
pub mod events;
pub mod messages;
pub mod sse;

/// A target.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, which is also that of its folder in `corpus`.
    pub name: &'static str,
    /// What it looks at.
    pub about: &'static str,
    /// Takes one input.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: [Target; 9] = [
    Target { name: "answers", about: "answers in JSON and MessagePack", run: messages::answer },
    Target { name: "jobs", about: "jobs in JSON and MessagePack", run: messages::job },
    Target { name: "sse", about: "payloads, and the frames of event streams", run: events::payload },
    Target { name: "logs", about: "ids of messages, announcements, rules of histories", run: events::log },
    Target {
        name: "request",
        about: "a request's head: routes, streams, publishing, tokens",
        run: tempest::http::fuzz::request,
    },
    Target { name: "token", about: "the head of a JWT", run: tempest::auth::fuzz::token_head },
    Target { name: "replies", about: "the reader of Redis's replies", run: tempest::broker::fuzz::replies },
    Target { name: "commands", about: "a supervised script's commands", run: tempest::workers::proxy::fuzz::commands },
    Target {
        name: "passing",
        about: "replies on their way to a supervised script",
        run: tempest::workers::proxy::fuzz::replies,
    },
];

/// The target of this name.
pub fn find(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;

    /// Pieces of what breaks event streams: every line end, NUL, a BOM, bytes that are no text, and fields.
    fn stream_like() -> impl Strategy<Value = Vec<u8>> {
        let pieces: Vec<&[u8]> = vec![
            b"\r",
            b"\n",
            b"\r\n",
            b"\0",
            b"\xef\xbb\xbf",
            b"\xff",
            b"\xf0\x9f",
            b"id: 1",
            b"event: x",
            b"data",
            b"retry: 1",
            b":",
            b" ",
            b"[\"",
            b"\",\"",
            b"\"]",
            b"\\n",
            b"\\u0000",
            b"$unsubscribe",
            b"\xc3\xbc",
        ];
        let any = vec(any::<u8>(), 0..8);
        vec(prop_oneof![select(pieces).prop_map(<[u8]>::to_vec), any], 0..24).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_is_published_is_one_event_to_a_reader_by_the_standard(text in stream_like()) {
            events::payload(&text);
        }
    }

    #[test]
    fn every_target_takes_the_golden_messages_the_corpus_and_what_once_broke_it() {
        for target in TARGETS {
            let inputs = corpus::of(target.name);
            assert!(inputs.len() > 3, "{} has no corpus", target.name);
            for (name, input) in inputs {
                let outcome = std::panic::catch_unwind(|| (target.run)(&input));
                assert!(outcome.is_ok(), "{} fails on {name}", target.name);
            }
        }
    }

    #[test]
    fn the_corpus_is_small_and_belongs_to_targets() {
        let bytes: usize =
            TARGETS.iter().flat_map(|target| corpus::kept(target.name)).map(|(_, input)| input.len()).sum();
        assert!(bytes < 512 * 1024, "{bytes} bytes: minimise it");
        for folder in ["corpus", "regressions"] {
            for name in corpus::folders(folder) {
                assert!(find(&name).is_some(), "{folder}/{name} belongs to no target");
            }
        }
    }
}
