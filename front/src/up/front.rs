//! seam
use crate::config::{Config, Listen};
use std::net::SocketAddr;
use std::sync::Arc;

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct StartError(std::io::Error);

pub(super) struct Running {
    pub(super) http: Vec<SocketAddr>,
    pub(super) admin: Option<SocketAddr>,
    _l: Vec<std::net::TcpListener>,
}

pub(super) async fn start(config: Arc<Config>) -> Result<Running, StartError> {
    let mut http = vec![];
    let mut l = vec![];
    for Listen::Tcp(a) in &config.front.listen {
        let s = std::net::TcpListener::bind(a).map_err(StartError)?;
        http.push(s.local_addr().map_err(StartError)?);
        l.push(s);
    }
    Ok(Running { http, admin: None, _l: l })
}
impl Running {
    pub(super) async fn drain(self) {}
}
