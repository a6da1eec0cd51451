//! Several streams over one connection of HTTP/2. It must not know how the connection was made.

use h2::RecvStream;
use h2::client::handshake;
use http::Request;

use super::client::Io;
use crate::peers::HOST;

/// Opens `count` streams of `path`; all must be answered with 200.
pub(super) async fn open(io: Box<dyn Io>, path: &str, count: usize) -> Result<Vec<RecvStream>, String> {
    let failed = |error: h2::Error| error.to_string();
    let (mut client, connection) = handshake(io).await.map_err(failed)?;
    // It ends when nobody holds a stream of it, or the server has ended it: either is seen by the streams.
    tokio::task::spawn_local(async move { drop(connection.await) });
    let mut answers = Vec::with_capacity(count);
    for _ in 0..count {
        client = client.ready().await.map_err(failed)?;
        let request = Request::get(format!("https://{HOST}{path}")).header("accept", "text/event-stream").body(());
        let request = request.map_err(|error| error.to_string())?;
        answers.push(client.send_request(request, true).map_err(failed)?.0);
    }
    let mut streams = Vec::with_capacity(count);
    for answer in answers {
        let response = answer.await.map_err(failed)?;
        if response.status() != 200 {
            return Err(format!("status {}", response.status()));
        }
        streams.push(response.into_body());
    }
    Ok(streams)
}

/// Reads until the end.
pub(super) async fn read(mut stream: RecvStream) {
    while let Some(Ok(bytes)) = stream.data().await {
        let _ = stream.flow_control().release_capacity(bytes.len());
    }
}
