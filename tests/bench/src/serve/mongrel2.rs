//! A handler behind mongrel2, as its manual describes one: requests are pulled, responses are published.
//!
//! A request is `UUID ID PATH SIZE:HEADERS,SIZE:BODY,` and a response `UUID SIZE:ID, ` followed by raw HTTP
//! (mongrel2 manual, "Handler ZeroMQ format"). Headers are asked for as tnetstrings (`protocol='tnetstring'`), of
//! which only the query is read.

use memchr::memmem;

pub(super) fn serve(requests: &str, responses: &str) {
    let context = zmq::Context::new();
    let pull = context.socket(zmq::PULL).expect("a socket can be made");
    pull.connect(requests).expect("the endpoint is right");
    let publish = context.socket(zmq::PUB).expect("a socket can be made");
    publish.set_identity(b"bench").expect("an identity may be set");
    publish.connect(responses).expect("the endpoint is right");
    let mut message = zmq::Message::new();
    let mut response = Vec::new();
    loop {
        pull.recv(&mut message, 0).expect("the socket is open");
        if answer(&message, &mut response).is_some() {
            publish.send(&response[..], 0).expect("the socket is open");
        }
    }
}

/// Writes the response to `message`; None where it is none that a client waits for (a disconnect, or malformed).
fn answer(message: &[u8], response: &mut Vec<u8>) -> Option<()> {
    let mut words = message.splitn(4, |byte| *byte == b' ');
    let (uuid, id, path, rest) = (words.next()?, words.next()?, words.next()?, words.next()?);
    let (headers, rest) = netstring(rest)?;
    let (body, _) = netstring(rest)?;
    let hello;
    let content = match path {
        b"/echo" => body,
        b"/hello" => {
            let at = memmem::find(headers, b"n=")? + 2;
            hello = [b"hello ", headers.get(at..at + 8)?, b"\n"].concat();
            &hello
        }
        _ => return None,
    };
    response.clear();
    response.extend_from_slice(uuid);
    response.extend_from_slice(format!(" {}:", id.len()).as_bytes());
    response.extend_from_slice(id);
    response.extend_from_slice(b", HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: ");
    response.extend_from_slice(content.len().to_string().as_bytes());
    response.extend_from_slice(b"\r\n\r\n");
    response.extend_from_slice(content);
    Some(())
}

/// The content of the netstring or tnetstring at the start, and what follows it.
fn netstring(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let colon = memchr::memchr(b':', bytes)?;
    let length: usize = std::str::from_utf8(&bytes[..colon]).ok()?.parse().ok()?;
    let content = bytes.get(colon + 1..colon + 1 + length)?;
    Some((content, bytes.get(colon + 2 + length..)?))
}
