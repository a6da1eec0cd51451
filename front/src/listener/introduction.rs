//! The header of the PROXY protocol (versions 1 and 2) with which a proxy begins a connection: whom it speaks for.
//!
//! Not a byte behind the header is taken from the socket, so whoever reads on finds what the client has sent. Nothing of
//! version 2 but the addresses is looked at. Who may send such a header is not decided here.

use std::net::SocketAddr;

use proxy_header::{ParseConfig, ProxiedAddress, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt};

/// What both versions begin with is told apart in so many bytes; no header is shorter.
const SHORTEST: usize = 15;
/// The longest header of version 1.
const LONGEST_LINE: usize = 107;
/// Signature, version, family and length of version 2.
const FIXED: usize = 16;
const SIGNATURE: &[u8] = b"\r\n\r\n\x00\r\nQUIT\n";
const LINE_START: &[u8] = b"PROXY ";

/// Client and the address that it reached, as `ip:port` each.
pub type Ends = (SocketAddr, SocketAddr);

/// Reads a header. None: the proxy speaks for itself, to see whether we are there, or does not know for whom.
///
/// # Errors
/// There is none, it is malformed, or the connection ended.
pub async fn introduction(socket: &mut (impl AsyncRead + Unpin)) -> Result<Option<Ends>, Malformed> {
    let mut header = vec![0; SHORTEST];
    socket.read_exact(&mut header).await.map_err(|_| Malformed)?;
    if header.starts_with(SIGNATURE) {
        read_rest(socket, &mut header).await?;
    } else if header.starts_with(LINE_START) {
        read_line(socket, &mut header).await?;
    } else {
        return Err(Malformed);
    }
    let (parsed, _) = ProxyHeader::parse(&header, ParseConfig::default()).map_err(|_| Malformed)?;
    let canonical = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Ok(parsed
        .proxied_address()
        .map(|ProxiedAddress { source, destination, .. }| (canonical(*source), canonical(*destination))))
}

/// What came is no such header.
#[derive(Debug, PartialEq, Eq)]
pub struct Malformed;

/// Byte by byte, since where it ends is not known before.
async fn read_line(socket: &mut (impl AsyncRead + Unpin), line: &mut Vec<u8>) -> Result<(), Malformed> {
    while !line.ends_with(b"\n") {
        if line.len() == LONGEST_LINE {
            return Err(Malformed);
        }
        line.push(socket.read_u8().await.map_err(|_| Malformed)?);
    }
    Ok(())
}

/// As many bytes as it says that it has, 64 KiB at most.
async fn read_rest(socket: &mut (impl AsyncRead + Unpin), header: &mut Vec<u8>) -> Result<(), Malformed> {
    header.push(socket.read_u8().await.map_err(|_| Malformed)?);
    let length = usize::from(u16::from_be_bytes([header[FIXED - 2], header[FIXED - 1]]));
    // Grows with what comes, not with what is announced.
    let mut rest = socket.take(length as u64);
    let read = rest.read_to_end(header).await.map_err(|_| Malformed)?;
    if read == length { Ok(()) } else { Err(Malformed) }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    /// What is made of these bytes, and what is left of them.
    fn read(bytes: &[u8]) -> (Result<Option<Ends>, Malformed>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            // A pipe of one byte: every byte comes alone.
            let (mut client, mut server) = tokio::io::duplex(1);
            let sending = async {
                let _ = client.write_all(bytes).await;
                drop(client);
            };
            let reading = async {
                let read = introduction(&mut server).await;
                let mut left = Vec::new();
                server.read_to_end(&mut left).await.expect("a pipe");
                (read, left)
            };
            tokio::join!(sending, reading).1
        })
    }

    fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family], &length, rest].concat()
    }

    fn ends(source: &str, destination: &str) -> Result<Option<Ends>, Malformed> {
        let at = |text: &str| text.parse().expect("an address");
        Ok(Some((at(source), at(destination))))
    }

    const V4: [u8; 12] = [203, 0, 113, 7, 192, 0, 2, 1, 0xee, 0x48, 0x01, 0xbb];

    #[test]
    fn a_line_of_version_1() {
        let request = b"GET / HTTP/1.1\r\n";
        let with = |line: &str| [line.as_bytes(), request].concat();
        let (read_as, left) = read(&with("PROXY TCP4 203.0.113.7 192.0.2.1 61000 443\r\n"));
        assert_eq!((read_as, &*left), (ends("203.0.113.7:61000", "192.0.2.1:443"), &request[..]));
        let (read_as, left) = read(&with("PROXY TCP6 2001:db8::7 2001:db8::1 61000 443\r\n"));
        assert_eq!((read_as, &*left), (ends("[2001:db8::7]:61000", "[2001:db8::1]:443"), &request[..]));
        let (read_as, left) = read(&with("PROXY UNKNOWN\r\n"));
        assert_eq!((read_as, &*left), (Ok(None), &request[..]));
        let longest = "PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n";
        assert_eq!(read(&with(longest)).0, Ok(None));
        let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 16));
        assert_eq!(read(line.as_bytes()).0, Ok(None), "as long as may be");
        let line = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE - 15));
        assert_eq!(read(line.as_bytes()).0, Err(Malformed), "and one byte more");
    }

    #[test]
    fn version_2_with_addresses_of_all_families_and_more_behind_them() {
        let (read_as, left) = read(&[v2(0x21, 0x11, &V4), b"GET".to_vec()].concat());
        assert_eq!((read_as, &*left), (ends("203.0.113.7:61000", "192.0.2.1:443"), &b"GET"[..]));
        let tlvs = [&V4[..], &[0x03, 0, 4, 1, 2, 3, 4], &[0xee; 300]].concat();
        let (read_as, left) = read(&[v2(0x21, 0x11, &tlvs), b"GET".to_vec()].concat());
        assert_eq!((read_as, &*left), (ends("203.0.113.7:61000", "192.0.2.1:443"), &b"GET"[..]));
        let v6 = [[0x20, 1, 0x0d, 0xb8].as_slice(), &[0; 11], &[7], &[0; 15], &[1], &[0xee, 0x48, 1, 0xbb]].concat();
        assert_eq!(read(&v2(0x21, 0x21, &v6)).0, ends("[2001:db8::7]:61000", "[::1]:443"));
        for nobody in [v2(0x20, 0, &[]), v2(0x20, 0x11, &V4), v2(0x21, 0, &[1, 2, 3]), v2(0x21, 0x31, &[0; 216])] {
            assert_eq!(read(&nobody).0, Ok(None));
        }
    }

    #[test]
    fn anything_else_is_malformed() {
        for line in [
            "",
            "PROXY",
            "PROXY \r\n",
            "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "proxy TCP4 203.0.113.7 192.0.2.1 61000 443\r\n",
            "PROXYxTCP4 203.0.113.7 192.0.2.1 61000 443\r\n",
            "PROXY TCP5 203.0.113.7 192.0.2.1 61000 443\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 61000\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 61000 65536\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 61000 443\n",
            "PROXY TCP4 2001:db8::7 2001:db8::1 61000 443\r\n",
            "PROXY TCP4 203.0.113.7 192.0.2.1 61000 443 ",
        ] {
            assert_eq!(read(line.as_bytes()).0, Err(Malformed), "{line:?}");
        }
        for bytes in [
            v2(0x11, 0x11, &V4),
            v2(0x22, 0x11, &V4),
            v2(0x21, 0x41, &V4),
            v2(0x21, 0x11, &V4[..11]),
            v2(0x21, 0x21, &V4),
            v2(0x21, 0x11, &V4)[..27].to_vec(),
            SIGNATURE.to_vec(),
            b"\r\n\r\nGET / HTTP/1.1\r\n\r\n".to_vec(),
        ] {
            assert_eq!(read(&bytes).0, Err(Malformed), "{bytes:?}");
        }
    }
}
