//! The values of metrics' labels, each an enum, so that nothing else can be counted.
//!
//! Which metric has which label is said in `metrics.rs` alone.

use super::kinds::Label;

/// Declares the values of a label: an enum, so that no other value can be counted.
macro_rules! label {
    ($(#[$doc:meta])+ $type:ident: $name:literal { $($(#[$value_doc:meta])+ $value:ident => $text:literal,)+ }) => {
        $(#[$doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $type {
            $($(#[$value_doc])+ $value,)+
        }

        impl Label for $type {
            const NAME: &'static str = $name;
            const VALUES: &'static [&'static str] = &[$($text),+];

            fn index(self) -> usize {
                self as usize
            }
        }
    };
}

pub(super) use label;

label! {
    /// What became of an answer message that arrived.
    AnswerOutcome: "outcome" {
        /// It went to a client.
        Answered => "answered",
        /// Nobody waited any more.
        Late => "late",
        /// It names no request that this front ever had.
        Unknown => "unknown",
        /// Its attempt had been replaced by a newer one.
        Fenced => "fenced",
        /// It could not be read, or not be turned into a response.
        Malformed => "malformed",
        /// Its kind has no meaning here.
        Ignored => "ignored",
        /// Its place in the sequence had been taken before.
        Duplicate => "duplicate",
    }
}

label! {
    /// What became of a message that was to be published over HTTP.
    Sent: "outcome" {
        /// It was published, and is kept in its channel's history.
        Kept => "kept",
        /// It was published to whoever listens.
        Live => "live",
        /// It had been published before, by its key.
        Repeated => "repeated",
        /// Redis did not answer.
        Unknown => "unknown",
        /// It was not published.
        Failed => "failed",
    }
}

label! {
    /// Why a request was refused before it became a job.
    Refusal: "reason" {
        /// The queue was over its limit.
        QueueFull => "queue_full",
        /// The job would have waited for a worker for too long.
        TooLong => "too_long",
        /// The queue had no worker.
        NoWorker => "no_worker",
        /// Redis could not be reached, or was stalled.
        RedisDown => "redis_down",
        /// Too many requests waited for answers.
        TooManyPending => "too_many_pending",
        /// Too many bytes of request bodies were held.
        BodyMemory => "body_memory",
        /// Too many connections were open.
        Connections => "connections",
        /// Too many connections of one address were open.
        ConnectionsPerAddress => "connections_per_address",
        /// Too many requests of one address were being handled.
        RequestsPerAddress => "requests_per_address",
        /// Too many requests of one route were being handled.
        RequestsPerRoute => "requests_per_route",
        /// A body had more bytes than its route takes.
        BodyBytes => "body_bytes",
        /// A body stopped coming, or came too slowly.
        BodyTime => "body_time",
        /// Too many streams were open.
        Streams => "streams",
        /// Too many channels were subscribed.
        Channels => "channels",
        /// Too many streams of one address were open.
        StreamsPerAddress => "streams_per_address",
        /// Too many streams of one user were open.
        StreamsPerUser => "streams_per_user",
        /// A page of another site sent it, and it carried a session.
        Origin => "origin",
    }
}

label! {
    /// What became of a request for another server.
    ProxyOutcome: "outcome" {
        /// The server answered.
        Answered => "answered",
        /// The client's body did not come whole, or was too large.
        Client => "client",
        /// All connections that may be were in use.
        Full => "full",
        /// The server could not be reached.
        Unreachable => "unreachable",
        /// The server broke off before it answered.
        Broken => "broken",
        /// The server did not answer in time.
        Late => "late",
    }
}

label! {
    /// What was wrong with a token.
    TokenFault: "reason" {
        /// It is no JWT, or one that demands what is not known here.
        Malformed => "malformed",
        /// It has too many bytes, or grants too many patterns.
        Large => "large",
        /// No key that is known here has signed it.
        Signature => "signature",
        /// It comes from another issuer, or is for somebody else.
        Audience => "audience",
        /// A claim is missing, or not of its type.
        Claims => "claims",
        /// Its time has not come.
        Early => "early",
        /// Its time is over.
        Expired => "expired",
    }
}

label! {
    /// Why a session's cookie counted for nothing.
    SessionFault: "reason" {
        /// No key that is known here has sealed it, or it was changed.
        Unreadable => "unreadable",
        /// Its time is over.
        Expired => "expired",
        /// Redis has no such session any more.
        Unknown => "unknown",
        /// Its session has ended, or has another name by now.
        Superseded => "superseded",
    }
}

label! {
    /// What became of a session when a worker had answered.
    SessionOutcome: "outcome" {
        /// It began.
        Begun => "begun",
        /// It was changed.
        Changed => "changed",
        /// It got a new name, since it has another user.
        Renamed => "renamed",
        /// It was only prolonged.
        Prolonged => "prolonged",
        /// It ended.
        Ended => "ended",
        /// It would have become too large, and was left as it was.
        TooLarge => "too_large",
        /// It had ended meanwhile: the change was dropped.
        Gone => "gone",
        /// Redis did not say that the change was taken.
        Failed => "failed",
    }
}

label! {
    /// Why a stream ended.
    StreamDrop: "reason" {
        /// Its reader did not read.
        Slow => "slow",
        /// Messages were lost on the way from Redis, so it could not go on.
        Lagged => "lagged",
        /// The front was shutting down.
        Drain => "drain",
        /// A reload has changed what holds for its channel, or closed that.
        Changed => "changed",
        /// The token that opened it was over.
        Expired => "expired",
        /// Its reader left.
        Client => "client",
        /// A publisher ended its channel.
        Control => "control",
        /// Redis went away while it was sent what it had missed.
        Away => "away",
        /// It had lasted as long as a stream may.
        Life => "life",
    }
}

label! {
    /// What a stream that resumed got of what it had missed.
    ResumeOutcome: "outcome" {
        /// Everything.
        Complete => "complete",
        /// Not everything, or what was missing is not known.
        Lost => "lost",
    }
}

label! {
    /// How a message was published.
    PublicationKind: "kind" {
        /// By a PUBLISH alone: it is not kept.
        Plain => "plain",
        /// On a channel with history.
        History => "history",
    }
}

label! {
    /// What became of a connection that an answer handed to channels.
    Held: "mode" {
        /// A stream of events.
        Events => "events",
        /// A stream of data as it is.
        Raw => "raw",
        /// An answer of one message.
        Once => "once",
    }
}
