//! `tempest log`: what running fronts log, changed at their admin listeners.
//!
//! Redis says which fronts there are and where those are; it carries no such command itself, since whoever may push jobs
//! need not be able to fill disks with logs. A record is another process's word: its address is only ever asked for `/log`.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::table::{duration, printable};
use super::{CommandError, Place, with_redis};
use crate::broker::control::FrontState;
use crate::config::Loaded;

/// How long one front may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// Bytes of a front's answer.
const ANSWER_BYTES: usize = 64 * 1024;

/// What is to be logged.
#[derive(Clone, Debug)]
pub struct Change {
    /// The level or filter, or `default`.
    pub level: String,
    /// For how long, as written; None: until the front ends.
    pub time: Option<String>,
    /// The id of the front; None: all.
    pub front: Option<String>,
}

/// Changes what fronts log, one after the other; says of each what holds now.
///
/// # Errors
/// Redis is away, there is no such front, or one of them refused or could not be reached; the others have changed then.
pub fn log(loaded: &Loaded, change: &Change) -> Result<String, CommandError> {
    let place = Place::find(loaded);
    let (done, failed) = with_redis(&place, async |control| {
        let registry = control.registry(&place.keys).await?;
        let wanted = |front: &&FrontState| change.front.as_ref().is_none_or(|id| *id == front.id);
        let (mut done, mut failed) = (Vec::new(), Vec::new());
        for front in registry.fronts.iter().filter(wanted) {
            let outcome = match timeout(PATIENCE, ask(front, change)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("its admin listener did not answer within {} s", PATIENCE.as_secs())),
            };
            match outcome {
                Ok(now) => done.push(format!("{}: {}", printable(&front.id), said(registry.at, &now))),
                Err(why) => failed.push(format!("{}: {}", printable(&front.id), printable(&why))),
            }
        }
        Ok((done, failed))
    })?;
    match (failed.is_empty(), done.is_empty(), &change.front) {
        (true, false, _) => Ok(done.join("\n")),
        (true, true, Some(id)) => {
            Err(CommandError::Fronts(format!("no front {id} runs; `tempest status` lists those that do")))
        }
        (true, true, None) => Err(CommandError::Fronts("no front runs".to_owned())),
        (false, ..) => Err(CommandError::Fronts([done, failed].concat().join("\n"))),
    }
}

fn said(now: u64, log: &Value) -> String {
    let level = printable(log["level"].as_str().unwrap_or_default());
    match log["until"].as_u64() {
        Some(until) => format!("logs {level} for {}", duration(until.saturating_sub(now))),
        None => format!("logs {level}"),
    }
}

async fn ask(front: &FrontState, change: &Change) -> Result<Value, String> {
    let Some(address) = front.record["admin"].as_str() else {
        return Err("it has no admin listener (front.admin is off)".to_owned());
    };
    let address: SocketAddr = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let mut query = url::form_urlencoded::Serializer::new(String::from("/log?"));
    query.append_pair("level", &change.level);
    if let Some(time) = &change.time {
        query.append_pair("for", time);
    }
    let (status, text) = post(address, &query.finish()).await.map_err(|why| {
        let here =
            if address.ip().is_loopback() { "; it listens on its own machine only, so run this there" } else { "" };
        format!("cannot reach its admin listener at {address}: {why}{here}")
    })?;
    if status != StatusCode::OK {
        return Err(text.trim_end().to_owned());
    }
    serde_json::from_str(&text).map_err(|_| format!("{address} is not the admin listener of a front of this version"))
}

async fn post(address: SocketAddr, target: &str) -> Result<(StatusCode, String), String> {
    let socket = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
    let request = Request::builder().method(Method::POST).uri(target).header(header::HOST, address.to_string());
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let status = response.status();
        let body =
            Limited::new(response.into_body(), ANSWER_BYTES).collect().await.map_err(|error| error.to_string())?;
        Ok((status, String::from_utf8_lossy(&body.to_bytes()).into_owned()))
    };
    // The connection does the work, and ends once the exchange has let go of it; what it failed by, the exchange knows.
    tokio::join!(exchange, connection).0
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_holds_is_said_with_its_time() {
        assert_eq!(
            said(0, &json!({"level": "debug", "configured": "info", "until": 600_000})),
            "logs debug for 10m 0s"
        );
        assert_eq!(said(0, &json!({"level": "info\u{1b}"})), "logs info\u{fffd}");
    }
}
