//! A listener where every request is sent to `https`: the same host and target, at the port that is configured.

use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::{Body, Incoming, host_of};
use crate::error::Failure;

/// The port that `https` has when none is named.
const DEFAULT_PORT: u16 = 443;

/// 308: the method and the body are to be the same there.
pub(super) fn answer(request: &Request<Incoming>, port: u16) -> Result<Response<Body>, Failure> {
    if *request.method() == Method::CONNECT {
        return Err(Failure::BadRequest("CONNECT is not served here"));
    }
    let host = host_of(request)?.ok_or(Failure::BadRequest("the Host header is missing"))?;
    let target = request.uri().path_and_query().map_or("/", |target| target.as_str());
    let location = location(host, target, port).and_then(|location| HeaderValue::try_from(location).ok());
    let location = location.ok_or(Failure::BadRequest("the Host header is not a host"))?;
    let mut response = Response::new(Body::whole(""));
    *response.status_mut() = StatusCode::PERMANENT_REDIRECT;
    response.headers_mut().insert(header::LOCATION, location);
    Ok(response)
}

fn location(host: &str, target: &str, port: u16) -> Option<String> {
    let name = match host.rsplit_once(':') {
        // Within brackets it is a part of the address.
        Some((name, port)) if !port.contains(']') => name,
        _ => host,
    };
    if name.is_empty() || name.contains('@') || !target.starts_with('/') {
        return None;
    }
    Some(match port {
        DEFAULT_PORT => format!("https://{name}{target}"),
        port => format!("https://{name}:{port}{target}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_target_stay_and_the_port_is_ours() {
        let to = |host, target, port| location(host, target, port).unwrap_or_default();
        assert_eq!(to("shop.example", "/a%2Fb?c=d", 443), "https://shop.example/a%2Fb?c=d");
        assert_eq!(to("shop.example:80", "/", 8443), "https://shop.example:8443/");
        assert_eq!(to("[::1]:80", "/", 443), "https://[::1]/");
        assert_eq!(to("[::1]", "/", 8443), "https://[::1]:8443/");
        for (host, target) in [("", "/"), (":80", "/"), ("user@shop.example", "/"), ("shop.example", "*")] {
            assert_eq!(location(host, target, 443), None, "{host} {target}");
        }
    }
}
