//! Clients that send a number of requests in all and then stand still, their connections open: what counts events in
//! the server must know by how many requests to divide, and see nothing of a beginning or an end.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use serde_json::json;
use tokio::net::TcpStream;
use tokio::task::spawn_local;

use super::Ask;
use super::child::{Busy, Go};
use super::requests::{Request, exchange};

/// One client between two phases.
#[derive(Debug)]
struct Client {
    stream: TcpStream,
    request: Request,
    number: u32,
    buffer: Vec<u8>,
}

/// Does as many requests as each of `phases` says; the first is the warming up.
pub(super) async fn run(address: SocketAddr, clients: usize, ask: Ask, phases: [u64; 2], mut go: Go) {
    let mut crowd = Vec::new();
    for nth in 0..clients {
        match Client::connect(address, ask, nth).await {
            Ok(client) => crowd.push(client),
            Err(error) => return go.fail(format!("connecting: {error}")).await,
        }
    }
    for requests in phases {
        let busy = Busy::start();
        if let Err(error) = all_ask(&mut crowd, requests).await {
            return go.fail(error).await;
        }
        let (seconds, load) = busy.end();
        if !go.next(json!({ "requests": requests, "seconds": seconds, "load": load })).await {
            return;
        }
    }
}

/// So many requests, by whoever is free; returns when all are answered.
async fn all_ask(crowd: &mut Vec<Client>, requests: u64) -> Result<(), String> {
    let left = Rc::new(Cell::new(requests));
    let asking: Vec<_> = crowd.drain(..).map(|client| spawn_local(client.ask(Rc::clone(&left)))).collect();
    for client in asking {
        crowd.push(client.await.map_err(|error| error.to_string())??);
    }
    Ok(())
}

impl Client {
    async fn connect(address: SocketAddr, ask: Ask, nth: usize) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, request: Request::new(ask), number: (nth as u32) << 20, buffer: Vec::with_capacity(1024) })
    }

    async fn ask(mut self, left: Rc<Cell<u64>>) -> Result<Self, String> {
        while let Some(rest) = left.get().checked_sub(1) {
            left.set(rest);
            self.number = self.number.wrapping_add(1);
            self.request.number(self.number);
            // A connection that is closed would have its replacement counted with the requests.
            match exchange(&mut self.stream, &self.request, &mut self.buffer).await? {
                Some(false) => {}
                Some(true) | None => return Err("the server closed a connection".into()),
            }
        }
        Ok(self)
    }
}
