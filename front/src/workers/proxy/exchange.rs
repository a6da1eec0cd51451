//! How a pop is served: what was taken before is acknowledged, then the worker claims.
//!
//! Over the worker's own connection, so that Redis itself asks for the password, and what the worker has sent before is
//! executed before. An exchange with Redis is never left halfway: a worker that goes away meanwhile has its job given
//! back, and a Redis that goes away is asked later what it had done.

use std::io;
use std::mem::MaybeUninit;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::connection::{Connection, HELD_BYTES, READ_BYTES};
use super::control::is_no_right;
use super::pop::{List, Pop, Shape, Wait};
use super::value::Value;
use super::worker::{Order, Worker};
use crate::broker::claims::Script;
use crate::broker::write_command;

/// Longest wait for a job in one go: what strangers push to other priorities is found between two.
const SLICE: Duration = Duration::from_secs(1);
/// The same while other lists are to be looked at, too.
const MIXED_SLICE: Duration = Duration::from_millis(100);
/// Shorter waits are none: Redis would take them for no limit.
const LEAST_WAIT: Duration = Duration::from_millis(1);
/// How long a pop waits at least until its worker may claim, even one that does not wait for a job.
const REGISTER_TIME: Duration = Duration::from_secs(1);
/// The same for its turn among the connections of one worker.
const TURN_TIME: Duration = Duration::from_millis(50);

/// What came of a pop.
enum Outcome {
    /// Claims, with their numbers.
    Jobs(Vec<(u64, Bytes)>),
    /// Elements of another list, of this name.
    Others(Bytes, Vec<Bytes>),
    Nothing,
    /// Redis refused it; its words.
    Refused(Bytes),
    /// The worker pops as anybody does.
    Passes,
}

/// What came of one try to claim.
enum Claimed {
    Jobs(Vec<(u64, Bytes)>),
    Refused(Bytes),
    /// The worker has to be registered first.
    Unregistered,
}

impl Connection {
    /// Serves the pop at the start of `inbound`, `length` bytes long; nothing else is open.
    pub(super) async fn take_over(&mut self, pop: &Pop, length: usize) -> io::Result<()> {
        let worker = Rc::clone(&self.worker);
        let mut done = std::mem::take(&mut self.taken);
        worker.take_orphans(&mut done);
        let outcome = self.find(pop, &mut done).await;
        // Those that could not be acknowledged are once there is another pop.
        worker.orphan(&mut done);
        match outcome? {
            Outcome::Passes => {
                self.pass_command(length);
                return Ok(());
            }
            Outcome::Jobs(jobs) => return self.deliver(pop, length, jobs).await,
            Outcome::Others(name, elements) => pop.write(&mut self.back, &name, &elements),
            Outcome::Nothing => pop.write_nothing(&mut self.back, self.version),
            Outcome::Refused(words) => {
                self.back.extend_from_slice(b"-");
                self.back.extend_from_slice(&words);
                self.back.extend_from_slice(b"\r\n");
            }
        }
        drop(self.inbound.split_to(length));
        Ok(())
    }

    /// Hands claims to the child, or back to the queue where it is gone.
    async fn deliver(&mut self, pop: &Pop, length: usize, jobs: Vec<(u64, Bytes)>) -> io::Result<()> {
        drop(self.inbound.split_to(length));
        let (mut numbers, jobs): (Vec<u64>, Vec<Bytes>) = jobs.into_iter().unzip();
        pop.write(&mut self.back, self.worker.names.normal.clone().as_bytes(), &jobs);
        let mut sent = Ok(());
        self.gone |= self.has_hung_up();
        if !self.gone {
            sent = self.child_write.write_all(&self.back).await;
            self.back.clear();
        }
        if self.gone || sent.is_err() {
            self.worker.release(&numbers);
            return self.give_back(&numbers).await;
        }
        self.taken.append(&mut numbers);
        Ok(())
    }

    /// Asks the kernel: what the runtime has seen of the child is older than the job.
    fn has_hung_up(&self) -> bool {
        let mut byte = [MaybeUninit::uninit()];
        let socket: &TcpStream = self.child_read.as_ref();
        match socket2::SockRef::from(socket).peek(&mut byte) {
            Ok(bytes) => bytes == 0,
            Err(error) => error.kind() != io::ErrorKind::WouldBlock,
        }
    }

    async fn find(&mut self, pop: &Pop, done: &mut Vec<u64>) -> io::Result<Outcome> {
        let worker = Rc::clone(&self.worker);
        let start = Instant::now();
        let due = match pop.wait {
            Wait::No => Some(start),
            Wait::For(time) => Some(start + time),
            Wait::Ever => None,
        };
        let mixed = pop.lists.len() > 1;
        let mut looked = false;
        loop {
            let generation = worker.generation();
            // Where there are other lists, all of them are looked at before anybody waits at one.
            let waits = !worker.more.get() && (looked || !mixed);
            if self.gone {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            if worker.base.get() {
                return Ok(Outcome::Passes);
            }
            if generation == 0 {
                if !self.register(generation, due.map(|due| due.max(start + REGISTER_TIME))).await? {
                    return Ok(Outcome::Nothing);
                }
                continue;
            }
            for list in &pop.lists {
                let found = match list {
                    List::Other(name) => self.pop_other(name, pop).await?,
                    List::Queue => {
                        let slice = if mixed { MIXED_SLICE } else { SLICE };
                        let slice = due.map_or(slice, |due| due.saturating_duration_since(Instant::now()).min(slice));
                        match self.claim(pop, done, slice, waits && slice >= LEAST_WAIT, due).await? {
                            None => None,
                            Some(Claimed::Jobs(jobs)) if jobs.is_empty() => None,
                            Some(Claimed::Jobs(jobs)) => Some(Outcome::Jobs(jobs)),
                            Some(Claimed::Refused(words)) => Some(Outcome::Refused(words)),
                            Some(Claimed::Unregistered) => {
                                self.register(generation, due.map(|due| due.max(Instant::now() + REGISTER_TIME)))
                                    .await?;
                                None
                            }
                        }
                    }
                };
                if let Some(found) = found {
                    return Ok(found);
                }
            }
            if due.is_some_and(|due| due <= Instant::now() + LEAST_WAIT) && worker.generation() == generation {
                return Ok(Outcome::Nothing);
            }
            looked = true;
        }
    }

    /// Waits until the worker may claim; false: not in time.
    async fn register(&mut self, generation: u64, due: Option<Instant>) -> io::Result<bool> {
        let worker = Rc::clone(&self.worker);
        if worker.is_dead() {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        if !worker.ordered.replace(true) {
            self.shared.order(Order::Register(Rc::clone(&worker)));
        }
        let limit = Instant::now() + SLICE;
        let limit = due.map_or(limit, |due| due.min(limit));
        let registered = self.while_the_child_is_there(worker.registered_since(generation), limit).await?.is_some();
        Ok(registered || due.is_none_or(|due| Instant::now() < due))
    }

    /// None: the limit came first. An error where the child is gone.
    async fn while_the_child_is_there<T>(
        &mut self,
        work: impl Future<Output = T>,
        limit: Instant,
    ) -> io::Result<Option<T>> {
        let mut work = std::pin::pin!(work);
        loop {
            if self.gone {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
            let room = self.inbound.len() < HELD_BYTES;
            self.inbound.reserve(if room { READ_BYTES } else { 0 });
            tokio::select! {
                biased;
                done = &mut work => return Ok(Some(done)),
                () = sleep_until(limit) => return Ok(None),
                read = self.child_read.read_buf(&mut self.inbound), if room => self.gone = !read.is_ok_and(|bytes| bytes > 0),
            }
        }
    }

    async fn pop_other(&mut self, name: &[u8], pop: &Pop) -> io::Result<Option<Outcome>> {
        let mut out = BytesMut::new();
        match pop.shape {
            Shape::Element | Shape::Named => write_command(&mut out, &[b"LPOP", name]),
            _ => write_command(&mut out, &[b"LPOP", name, pop.count.to_string().as_bytes()]),
        }
        let elements = match self.ask(&out, 1).await?.remove(0) {
            Value::Text(element) => vec![element],
            Value::List(elements) => elements.into_iter().filter_map(Value::text).collect(),
            Value::Error(words) => return Ok(Some(Outcome::Refused(words))),
            Value::Nothing | Value::Number(_) => Vec::new(),
        };
        let name = Bytes::copy_from_slice(name);
        Ok((!elements.is_empty()).then_some(Outcome::Others(name, elements)))
    }

    /// Acknowledges `done` and tries to claim, waiting for `slice` if it is to wait. None: another connection of this
    /// worker waits, and it was not this one's turn by the end.
    async fn claim(
        &mut self,
        pop: &Pop,
        done: &mut Vec<u64>,
        slice: Duration,
        waits: bool,
        due: Option<Instant>,
    ) -> io::Result<Option<Claimed>> {
        let worker = Rc::clone(&self.worker);
        let turn = match worker.gate.try_lock() {
            Ok(turn) => turn,
            Err(_) => {
                self.acknowledge(done).await?;
                let limit = Instant::now() + SLICE;
                let limit = due.map_or(limit, |due| due.max(Instant::now() + TURN_TIME));
                match self.while_the_child_is_there(worker.gate.lock(), limit).await? {
                    Some(turn) => turn,
                    None => return Ok(None),
                }
            }
        };
        let claimed = match worker.unsure.get() {
            Some(first) => {
                self.acknowledge(done).await?;
                self.recover(first, pop.count).await?
            }
            None => self.claim_in_turn(pop.count, done, waits.then_some(slice)).await?,
        };
        drop(turn);
        Ok(Some(claimed))
    }

    /// One exchange: acknowledgements, the wait, the claim.
    async fn claim_in_turn(
        &mut self,
        count: usize,
        done: &mut Vec<u64>,
        waits: Option<Duration>,
    ) -> io::Result<Claimed> {
        let worker = Rc::clone(&self.worker);
        if !worker.crashed_before(done).is_empty() {
            self.acknowledge(done).await?;
        }
        let first = worker.next.get();
        let mut out = BytesMut::new();
        let acknowledged = self.write_acknowledgement(&mut out, done);
        if let Some(time) = waits {
            let [_, _, landing, normal, ..] = &worker.claim_keys;
            let time = format!("{:.3}", time.as_secs_f64());
            let words = [b"BLMOVE", normal.as_bytes(), landing.as_bytes(), b"LEFT", b"RIGHT", time.as_bytes()];
            write_command(&mut out, &words);
        }
        let wanted = count - usize::from(waits.is_some());
        self.write_claim(&mut out, first, wanted, count);
        worker.unsure.set(Some(first));
        let mut replies = self.ask(&out, acknowledged + usize::from(waits.is_some()) + 1).await?;
        done.clear();
        let mut reply = replies.pop().unwrap_or(Value::Nothing);
        let moved = waits.and_then(|_| replies.pop()).unwrap_or(Value::Nothing);
        if reply.is_error(b"NOSCRIPT") {
            let mut out = BytesMut::new();
            for script in [Script::Claim, Script::Recover, Script::Mark, Script::GiveBack] {
                write_command(&mut out, &[b"SCRIPT", b"LOAD", script.text().as_bytes()]);
            }
            self.write_claim(&mut out, first, wanted, count);
            reply = self.ask(&out, 5).await?.pop().unwrap_or(Value::Nothing);
        }
        worker.unsure.set(None);
        let parts = match (reply, moved) {
            (reply, _) if reply.is_error(b"UNREGISTERED") => return Ok(Claimed::Unregistered),
            (Value::Error(words), _) | (_, Value::Error(words)) => {
                // A job that has landed is found by whoever is next to ask.
                worker.unsure.set(Some(first));
                if is_no_right(&String::from_utf8_lossy(&words)) {
                    tracing::warn!(
                        worker = worker.claimer.id,
                        "Redis refuses a claim: {}",
                        String::from_utf8_lossy(&words)
                    );
                }
                return Ok(Claimed::Refused(words));
            }
            (Value::List(parts), moved) => (parts, moved.text()),
            _ => return Err(io::Error::other("a claim has no list for a reply")),
        };
        let jobs = note_claims(&worker, first, parts);
        // A look at all priorities follows each wait at the usual list, of this pop or the next.
        worker.more.set(worker.more.get() || (jobs.is_empty() && waits.is_some()));
        Ok(Claimed::Jobs(jobs))
    }

    /// Claims whose replies never arrived, from number `first` on: as many as are wanted; the rest goes back.
    async fn recover(&mut self, first: u64, count: usize) -> io::Result<Claimed> {
        let worker = Rc::clone(&self.worker);
        let mut out = BytesMut::new();
        let number = first.to_string();
        self.write_script(&mut out, Script::Recover, &worker.claim_keys[..3], &[&worker.claimer.id, &number]);
        let parts = match self.ask(&out, 1).await?.remove(0) {
            reply if reply.is_error(b"UNREGISTERED") => return Ok(Claimed::Unregistered),
            reply if reply.is_error(b"NOSCRIPT") => {
                let mut out = BytesMut::new();
                write_command(&mut out, &[b"SCRIPT", b"LOAD", Script::Recover.text().as_bytes()]);
                self.ask(&out, 1).await?;
                return Ok(Claimed::Jobs(Vec::new()));
            }
            Value::Error(words) => return Ok(Claimed::Refused(words)),
            Value::List(parts) => parts,
            _ => return Err(io::Error::other("a recovery has no list for a reply")),
        };
        let mut parts = parts.into_iter().skip(1);
        let mut jobs = Vec::new();
        while let (Some(Value::Number(number)), Some(Value::Text(job))) = (parts.next(), parts.next()) {
            jobs.push((number.unsigned_abs(), job));
        }
        let last = jobs.last().map_or(0, |(number, _)| *number);
        worker.next.set(worker.next.get().max(last + 1));
        let rest: Vec<u64> = jobs.drain(count.min(jobs.len())..).map(|(number, _)| number).collect();
        if !rest.is_empty() {
            self.give_back(&rest).await?;
        }
        if let Some((last, _)) = jobs.last() {
            // Until now nobody ran it, and it may have landed only.
            let mut out = BytesMut::new();
            self.write_script(&mut out, Script::Mark, &worker.claim_keys[1..2], &[&last.to_string()]);
            self.ask(&out, 1).await?;
        }
        worker.unsure.set(None);
        // Whether it has crashed anybody is not said here; taking a count away that is not there does no harm.
        jobs.iter().for_each(|(number, job)| worker.take(*number, job, true));
        Ok(Claimed::Jobs(jobs))
    }

    async fn acknowledge(&mut self, done: &mut Vec<u64>) -> io::Result<()> {
        let worker = Rc::clone(&self.worker);
        let crashed = worker.crashed_before(done);
        done.retain(|number| crashed.iter().all(|(other, _)| other != number));
        let mut out = BytesMut::new();
        let commands = self.write_acknowledgement(&mut out, done);
        for (number, _) in &crashed {
            worker.release(&[*number]);
            write_removal(&mut out, &worker.claim_keys[1], &[number.to_string()]);
        }
        // Where that fails, those of `done` are said once more; of the others the count would not go by it.
        done.extend(crashed.iter().map(|(number, _)| *number));
        if done.is_empty() {
            return Ok(());
        }
        let replies = self.ask(&out, commands + crashed.len()).await?;
        done.clear();
        // Only the holder of a claim may say that the job has survived: another's count is not to be touched.
        let held = |reply: &Value| matches!(reply, Value::Number(1));
        let survived = crashed.into_iter().zip(&replies[commands..]).filter(|(_, reply)| held(reply));
        let survived: Vec<String> = survived.map(|((_, id), _)| id).collect();
        if survived.is_empty() {
            return Ok(());
        }
        let mut out = BytesMut::new();
        write_removal(&mut out, &worker.claim_keys[7], &survived);
        self.ask(&out, 1).await.map(drop)
    }

    /// Gives how many commands it takes.
    fn write_acknowledgement(&self, out: &mut BytesMut, done: &[u64]) -> usize {
        if done.is_empty() {
            return 0;
        }
        self.worker.release(done);
        let numbers: Vec<String> = done.iter().map(u64::to_string).collect();
        write_removal(out, &self.worker.claim_keys[1], &numbers);
        1
    }

    async fn give_back(&mut self, numbers: &[u64]) -> io::Result<()> {
        let worker = Rc::clone(&self.worker);
        let [_, claimed, _, normal, _, _, withdrawn, ..] = &worker.claim_keys;
        let numbers: Vec<String> = numbers.iter().map(u64::to_string).collect();
        let arguments: Vec<&str> = numbers.iter().map(String::as_str).collect();
        let mut out = BytesMut::new();
        self.write_script(
            &mut out,
            Script::GiveBack,
            &[claimed.clone(), normal.clone(), withdrawn.clone()],
            &arguments,
        );
        self.ask(&out, 1).await.map(drop)
    }

    fn write_claim(&self, out: &mut BytesMut, first: u64, wanted: usize, marks: usize) {
        let [first, wanted, marks] = [first.to_string(), wanted.to_string(), marks.to_string()];
        let Worker { claimer, claim_keys, .. } = &*self.worker;
        self.write_script(out, Script::Claim, claim_keys, &[&claimer.id, &first, &wanted, &marks]);
    }

    fn write_script(&self, out: &mut BytesMut, script: Script, keys: &[String], arguments: &[&str]) {
        let shas = self.shared.shas.borrow();
        let count = keys.len().to_string();
        let mut words: Vec<&[u8]> = vec![b"EVALSHA", shas.of(script).as_bytes(), count.as_bytes()];
        words.extend(keys.iter().map(String::as_bytes));
        words.extend(arguments.iter().map(|argument| argument.as_bytes()));
        write_command(out, &words);
    }

    /// Sends commands and reads their replies; what Redis says unasked goes to the child.
    async fn ask(&mut self, commands: &[u8], count: usize) -> io::Result<Vec<Value>> {
        self.redis_write.write_all(commands).await?;
        self.redis_write.flush().await?;
        let mut values = Vec::with_capacity(count);
        let mut seen = 0;
        while values.len() < count {
            let next = self.replies.next(&self.fresh[seen..]);
            if let Some(item) = next.map_err(|_| io::Error::other("not a Redis reply"))? {
                let whole = self.fresh.split_to(seen + item.bytes);
                seen = 0;
                if item.is_push() {
                    self.back.unsplit(whole);
                } else {
                    values.push(Value::read(whole.freeze())?);
                }
                continue;
            }
            seen = self.fresh.len();
            self.fresh.reserve(READ_BYTES);
            let room = self.inbound.len() < HELD_BYTES;
            self.inbound.reserve(if room { READ_BYTES } else { 0 });
            tokio::select! {
                biased;
                read = self.redis_read.read_buf(&mut self.fresh) => if read? == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                },
                read = self.child_read.read_buf(&mut self.inbound), if room && !self.gone => {
                    self.gone = !read.is_ok_and(|bytes| bytes > 0);
                }
            }
        }
        self.pass_fresh();
        Ok(values)
    }
}

fn write_removal(out: &mut BytesMut, key: &str, fields: &[String]) {
    let mut words: Vec<&[u8]> = vec![b"HDEL", key.as_bytes()];
    words.extend(fields.iter().map(String::as_bytes));
    write_command(out, &words);
}

/// Reads the reply of `claim.lua` and notes what the worker has now; `moved` is the job that has landed before.
fn note_claims(worker: &Worker, first: u64, (parts, moved): (Vec<Value>, Option<Bytes>)) -> Vec<(u64, Bytes)> {
    let mut parts = parts.into_iter();
    let landed = parts.next().and_then(Value::number) == Some(1);
    worker.more.set(parts.next().and_then(Value::number) == Some(1));
    let crashes = match parts.next() {
        Some(Value::List(crashes)) => crashes,
        _ => Vec::new(),
    };
    let jobs: Vec<(u64, Bytes)> =
        (first..).zip(moved.filter(|_| landed).into_iter().chain(parts.filter_map(Value::text))).collect();
    worker.next.set(first + jobs.len() as u64);
    for (at, (number, job)) in jobs.iter().enumerate() {
        worker.take(*number, job, matches!(crashes.get(at), Some(Value::Number(1..))));
    }
    jobs
}
