//! How a stream comes to its channels: subscribed first, then placed where its reader wants to begin.
//!
//! Nothing falls between the two: what is published once the subscription is confirmed waits in the channel's ring, and
//! what was published before it is in the log, if the channel has one. It must not write to a socket.

use std::rc::Rc;
use std::sync::atomic::Ordering;

use tempest_protocol::LogId;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};

use super::channel::Channel;
use super::log::{AGAIN, ChannelLog, Loss};
use super::reader::Reader;
use super::{Hub, Refused};
use crate::backoff::Backoff;
use crate::broker::log::{From, LogEntry, LogReader, NoReply, last_of};

/// A channel that a stream wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// As browsers name it; or a pattern.
    pub name: String,
    /// All channels that the name matches as a pattern.
    pub pattern: bool,
    /// Where to begin, if it has history.
    pub start: Start,
}

/// Where a reader begins in a channel with history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// With what is published from now on.
    Latest,
    /// With the oldest message that is kept.
    Earliest,
    /// With the first message at this time or later, in ms since 1970.
    Time(u64),
    /// Behind this message, which it had last.
    After(LogId),
    /// It came back with something that is no id: what it has missed cannot be known.
    Unknown,
}

/// A place among a channel's readers; keeps the subscription while it lives.
pub(super) struct Seat {
    pub(super) hub: Rc<Hub>,
    pub(super) channel: Rc<Channel>,
    pub(super) reader: Rc<Reader>,
}

/// A stream's channels, subscribed and waiting for it to read.
pub struct Opened {
    pub(super) hub: Rc<Hub>,
    pub(super) seats: Vec<Seat>,
    /// One a seat.
    pub(super) begins: Vec<Begin>,
    /// Each event is told its channel.
    pub(super) tell: bool,
    /// Held while what was missed is read from the log.
    pub(super) permit: Option<OwnedSemaphorePermit>,
    pub(super) _place: StreamPlace,
}

/// Counts one stream while it lives.
pub(super) struct StreamPlace(Rc<Hub>);

impl Drop for StreamPlace {
    fn drop(&mut self) {
        self.0.totals.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Where a stream begins in one channel.
#[derive(Debug, Default)]
pub(super) struct Begin {
    /// The message before the first that it gets; None: the channel has no history.
    pub(super) at: Option<LogId>,
    pub(super) loss: Option<Loss>,
    /// The first page of what it has missed.
    pub(super) page: Vec<LogEntry>,
    /// Up to here it reads from the log; what comes behind it is in the ring.
    pub(super) until: LogId,
}

impl Begin {
    fn at(id: LogId) -> Self {
        Self { at: Some(id), until: id, ..Self::default() }
    }

    pub(super) fn is_behind(&self) -> bool {
        self.loss.is_some() || !self.page.is_empty()
    }
}

impl Opened {
    /// The id from which a reader goes on that gets nothing more; None: no channel has history.
    pub fn start_id(&self) -> Option<String> {
        ids_of(self.begins.iter().map(|begin| begin.at))
    }

    /// True where something that the reader wants is not there any more.
    pub fn is_lossy(&self) -> bool {
        self.begins.iter().any(|begin| begin.loss.is_some())
    }
}

/// The id of an event for readers of several channels: those of the channels with history, in their order.
pub(super) fn ids_of(ids: impl Iterator<Item = Option<LogId>>) -> Option<String> {
    let ids: Vec<String> = ids.flatten().map(|id| id.to_string()).collect();
    (!ids.is_empty()).then(|| ids.join(","))
}

impl Seat {
    fn new(hub: &Rc<Hub>, channel: Rc<Channel>, behind: Option<LogId>) -> Self {
        let reader = channel.join(u32::MAX, behind);
        reader.draining.set(hub.draining.get() || channel.outdated.get());
        Self { hub: Rc::clone(hub), channel, reader }
    }

    /// Gives up what is waiting in the ring and begins anew at its end; gives the message there.
    pub(super) fn rejoin(&mut self) -> LogId {
        let last = self.channel.kind.log.as_ref().and_then(|log| log.last.get()).unwrap_or_default();
        let fresh = self.channel.join(self.reader.due.get(), None);
        fresh.ends.set(self.reader.ends.get());
        fresh.draining.set(self.reader.draining.get());
        self.channel.part(&self.reader);
        self.reader = fresh;
        last
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.channel.part(&self.reader);
        self.hub.leave(&self.channel);
    }
}

/// Keeps a channel until it has a reader.
struct Entered(Rc<Hub>, Option<Rc<Channel>>);

/// What one who listens without a seat keeps.
pub(super) struct Kept {
    _entered: Vec<Entered>,
    _place: StreamPlace,
}

impl Drop for Entered {
    fn drop(&mut self) {
        if let Some(channel) = &self.1 {
            self.0.leave(channel);
        }
    }
}

impl Hub {
    /// Subscribes all of `wanted`, and gives the seats once Redis has confirmed. `tell`: the stream wants to know the
    /// channel of each event.
    pub async fn open(self: &Rc<Self>, wanted: &[Wanted], tell: bool) -> Result<Opened, Refused> {
        let place = self.count()?;
        let entered = self.enter_all(wanted)?;
        let (work, time) = (self.settle(wanted, entered), self.config().subscribe_time);
        let (seats, begins, permit) = timeout(time, work).await.map_err(|_| Refused::Away)??;
        Ok(Opened { hub: Rc::clone(self), seats, begins, tell, permit, _place: place })
    }

    /// One more stream, if there may be one.
    fn count(self: &Rc<Self>) -> Result<StreamPlace, Refused> {
        if self.draining.get() {
            return Err(Refused::Draining);
        }
        if self.totals.streams.fetch_add(1, Ordering::Relaxed) >= self.config().streams {
            self.totals.streams.fetch_sub(1, Ordering::Relaxed);
            return Err(Refused::Streams);
        }
        Ok(StreamPlace(Rc::clone(self)))
    }

    fn enter_all(self: &Rc<Self>, wanted: &[Wanted]) -> Result<Vec<Entered>, Refused> {
        wanted.iter().map(|one| Ok(Entered(Rc::clone(self), Some(self.enter(one)?)))).collect()
    }

    /// Waits until Redis has confirmed all of them.
    async fn confirm(&self, entered: &[Entered]) -> Result<(), Refused> {
        let waiting: Vec<_> = entered.iter().flat_map(|entered| &entered.1).flat_map(|to| self.subscribe(to)).collect();
        for confirmed in waiting {
            confirmed.await.map_err(|_| Refused::Away)?;
        }
        Ok(())
    }

    /// Keeps channels, as browsers name them, for one who listens to them without a seat, from what comes next on.
    pub(super) async fn keep(self: &Rc<Self>, names: &[String]) -> Result<Kept, Refused> {
        let place = self.count()?;
        let wanted = |name: &String| Wanted { name: name.clone(), pattern: false, start: Start::Latest };
        let entered = self.enter_all(&names.iter().map(wanted).collect::<Vec<_>>())?;
        let work = async {
            self.confirm(&entered).await?;
            for channel in entered.iter().flat_map(|entered| &entered.1) {
                if let Some(log) = &channel.kind.log {
                    self.last_told(channel, log).await;
                }
            }
            Ok(())
        };
        let time = self.config().subscribe_time;
        timeout(time, work).await.map_err(|_| Refused::Away)??;
        Ok(Kept { _entered: entered, _place: place })
    }

    async fn settle(
        self: &Rc<Self>,
        wanted: &[Wanted],
        entered: Vec<Entered>,
    ) -> Result<(Vec<Seat>, Vec<Begin>, Option<OwnedSemaphorePermit>), Refused> {
        self.confirm(&entered).await?;
        let (mut seats, mut begins, mut permit) = (Vec::new(), Vec::new(), None);
        for (one, mut entered) in wanted.iter().zip(entered) {
            let Some(channel) = entered.1.clone() else { continue };
            let (behind, begin) = match &channel.kind.log {
                Some(log) => self.begin(&channel, log, one.start, &mut permit).await,
                None => (None, Begin::default()),
            };
            // Nothing is waited for between what was found out about the log and the place in the ring.
            entered.1 = None;
            seats.push(Seat::new(self, channel, behind));
            begins.push(begin);
        }
        Ok((seats, begins, permit))
    }

    /// The id of the channel's last message, asked for until Redis tells it: the connection for it may come back later than
    /// the subscriptions, by which a client would be sent away that finds everything there in a moment.
    async fn last_told(self: &Rc<Self>, channel: &Rc<Channel>, log: &ChannelLog) -> LogId {
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            match self.last_known(channel, log).await {
                Some(last) => return last,
                None => sleep(backoff.next_wait()).await,
            }
        }
    }

    /// Where a reader begins: behind a message in the ring, or at its end, with what it has to read before.
    async fn begin(
        self: &Rc<Self>,
        channel: &Rc<Channel>,
        log: &ChannelLog,
        start: Start,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> (Option<LogId>, Begin) {
        let last = self.last_told(channel, log).await;
        let kept_from = self.broker.now_ms().saturating_sub(log.history.time.as_millis() as u64);
        match start {
            Start::Latest => (None, Begin::at(last)),
            Start::Unknown => {
                let loss = Loss { missing: None, after: None, next: None };
                (None, Begin { loss: Some(loss), ..Begin::at(last) })
            }
            Start::After(id) if id == last => (None, Begin::at(last)),
            Start::After(id) if channel.keeps(id) => (Some(id), Begin::at(id)),
            Start::After(id) => self.begin_behind(log, From::After(id), permit).await,
            Start::Earliest => self.begin_behind(log, From::Time(kept_from), permit).await,
            Start::Time(ms) => self.begin_behind(log, From::Time(ms.max(kept_from)), permit).await,
        }
    }

    /// What comes first, and where it ends; with nothing left, where the log ends.
    async fn first_page(&self, key: &str, from: From) -> Result<(Vec<LogEntry>, LogId), NoReply> {
        let page = LogReader::default().page(&self.broker, key, from, None).await?;
        let ended = match page.last() {
            Some(entry) => entry.id,
            None => last_of(&self.broker, key).await?,
        };
        Ok((page, ended))
    }

    async fn begin_behind(
        &self,
        log: &ChannelLog,
        from: From,
        permit: &mut Option<OwnedSemaphorePermit>,
    ) -> (Option<LogId>, Begin) {
        if permit.is_none() {
            *permit = self.resuming().acquire_owned().await.ok();
        }
        let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
        loop {
            self.metrics.log_reads.inc();
            // Asked for until Redis tells it, like the last message.
            let Ok((page, ended)) = self.first_page(&log.key, from).await else {
                sleep(backoff.next_wait()).await;
                continue;
            };
            let until = log.last.get().unwrap_or_default();
            let (at, loss) = match (from, page.first()) {
                (From::After(id), Some(first)) => match Loss::between(id, first) {
                    None => (id, None),
                    loss => (first.prev.unwrap_or(id), loss),
                },
                (From::After(id), None) if ended == id => (id, None),
                // Published between the two questions.
                (From::After(id), None) if ended > id => continue,
                // The log was lost, or is an older state of itself.
                (From::After(id), None) => (ended, Some(Loss { missing: None, after: Some(id), next: None })),
                (From::Time(_), Some(first)) => (first.prev.unwrap_or_default(), None),
                (From::Time(_), None) => (ended.max(until), None),
            };
            return (None, Begin { at: Some(at), loss, page, until });
        }
    }
}
