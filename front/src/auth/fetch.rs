//! Fetches a key set: one GET over HTTP/1.1, TLS where the URL says so.
//!
//! Redirects are not followed: keys come from where the configuration says. It must not run on a reactor.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::timeout;
use url::{Host, Url};

/// Time for all of it.
pub(super) const FETCH_TIME: Duration = Duration::from_secs(5);

/// What is at `url`, if that has at most `most` bytes; the error is for the log.
pub(super) async fn fetch(url: &Url, most: usize) -> Result<Bytes, String> {
    let work = async {
        let host = match url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => return Err("its URL has no host".to_owned()),
        };
        let port = url.port_or_known_default().unwrap_or(443);
        let tcp =
            TcpStream::connect((host.as_str(), port)).await.map_err(|error| format!("cannot connect: {error}"))?;
        if url.scheme() == "http" {
            return ask(tcp, url, most).await;
        }
        // The first call reads some hundred certificates.
        let config = tokio::task::spawn_blocking(crate::tls::client_config).await.map_err(|error| error.to_string())?;
        let config = config.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host).map_err(|_| "its host is no name for TLS".to_owned())?;
        let tls = tokio_rustls::TlsConnector::from(config).connect(name, tcp).await;
        ask(tls.map_err(|error| format!("cannot connect: {error}"))?, url, most).await
    };
    timeout(FETCH_TIME, work).await.unwrap_or_else(|_| Err(format!("no answer within {} s", FETCH_TIME.as_secs())))
}

async fn ask<T>(io: T, url: &Url, most: usize) -> Result<Bytes, String>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |error: hyper::Error| format!("the answer broke off: {error}");
    let (mut sender, connection) = http1::handshake(TokioIo::new(io)).await.map_err(broken)?;
    // Ends with this future.
    let mut driver = JoinSet::new();
    driver.spawn(connection);
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let request = Request::get(&url[url::Position::BeforePath..url::Position::AfterQuery])
        .header(header::HOST, host)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("tempest/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|error| format!("its URL cannot be asked for: {error}"))?;
    let response = sender.send_request(request).await.map_err(broken)?;
    if response.status() != StatusCode::OK {
        return Err(format!("the answer is {}", response.status()));
    }
    match Limited::new(response.into_body(), most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => {
            Err(format!("the answer has more than {most} bytes"))
        }
        Err(error) => Err(format!("the answer broke off: {error}")),
    }
}
