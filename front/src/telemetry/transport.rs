//! What is counted of connections beneath requests: by what they speak, and why TLS and HTTP/2 end.

use super::kinds::Label;
use super::labels::label;

label! {
    /// What was spoken on a connection.
    Protocol: "protocol" {
        /// HTTP/1.1.
        Http1 => "http/1.1",
        /// HTTP/1.1 by TLS.
        Http1Tls => "http/1.1+tls",
        /// HTTP/2 by a client that knew beforehand.
        Http2 => "h2c",
        /// HTTP/2 by TLS.
        Http2Tls => "h2",
        /// HTTP/1.1 where everything is sent to `https`.
        Redirect => "redirect",
    }
}

label! {
    /// Why there was no connection by TLS.
    HandshakeFault: "reason" {
        /// The greeting took too long.
        Timeout => "timeout",
        /// The client left before its end.
        Left => "left",
        /// The client spoke HTTP without TLS.
        PlainHttp => "plain_http",
        /// What came was no greeting of TLS.
        Malformed => "malformed",
        /// Nothing in common: no version, cipher or protocol.
        Incompatible => "incompatible",
        /// The client gave it up, mostly since it does not trust the certificate.
        Refused => "refused",
    }
}

label! {
    /// Why a connection of HTTP/2 ended.
    Http2End: "reason" {
        /// The client ended it.
        Client => "client",
        /// It had been idle, or silent, for too long.
        Idle => "idle",
        /// The front was shutting down.
        Drain => "drain",
        /// The client took nothing.
        Slow => "slow",
        /// A head, or a frame that is no body, did not come in time.
        HeadTime => "head_time",
        /// The client cancelled more requests than it may.
        Resets => "resets",
        /// More frames without work came than may.
        ControlFrames => "control_frames",
        /// More came than h2 bears: a head without end, requests cancelled as soon as they were made, errors.
        Excess => "excess",
        /// The client broke the protocol.
        Protocol => "protocol",
    }
}

label! {
    /// Why the front ended a connection.
    Ending: "reason" {
        /// A head did not come in time.
        HeadTime => "head_time",
        /// A head had too many bytes or fields.
        HeadSize => "head_size",
        /// Nothing was asked for as long as an idle connection is kept.
        IdleTime => "idle_time",
        /// The client did not take what was sent.
        SlowReader => "slow_reader",
        /// It had as many requests as a connection may have.
        Requests => "requests",
        /// Its header of the PROXY protocol was malformed, or came too late.
        ProxyHeader => "proxy_header",
        /// It was to come from a trusted proxy and did not.
        ProxyUntrusted => "proxy_untrusted",
        /// It was idle while the front was shutting down.
        Drain => "drain",
    }
}
