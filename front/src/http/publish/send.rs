//! A reactor's way to publish: the rules of histories, kept for a while, and the commands.
//!
//! It knows exactly what became of each message: published, not published, or unknown. It must not try a second time
//! what may have been done.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use redis_protocol::resp2::types::BytesFrame;
use tempest_protocol::{HistoryRules, Keys};
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::count::Counts;
use crate::broker::{Broker, By, Command, Declined, Lost, NotTaken, Publication, Published};
use crate::error::NotPublished;

/// How long the rules are taken for true.
const RULES_TIME: Duration = Duration::from_secs(10);

/// What publishes for the requests of one reactor.
pub struct Publishing {
    broker: Rc<Broker>,
    keys: Keys,
    rules: RefCell<Option<(Instant, Rc<HistoryRules>)>>,
    pub(super) counts: Rc<Counts>,
}

type Asked = Result<oneshot::Receiver<Result<BytesFrame, Lost>>, NotTaken>;

impl Publishing {
    /// For the reactor whose broker this is.
    pub fn new(broker: Rc<Broker>, keys: Keys, counts: Rc<Counts>) -> Self {
        Self { broker, keys, rules: RefCell::default(), counts }
    }

    /// Other settings: asks anew which rules there are, and waits so long for the counts of others.
    pub fn apply(&self, count_time: Duration) {
        self.rules.replace(None);
        self.counts.apply(count_time);
    }

    /// The reactor's questions.
    pub fn counts(&self) -> Rc<Counts> {
        Rc::clone(&self.counts)
    }

    /// Which channels have a history.
    pub(super) async fn rules(&self, by: Instant) -> Result<Rc<HistoryRules>, NotPublished> {
        let now = Instant::now();
        if let Some((read, rules)) = &*self.rules.borrow()
            && now.duration_since(*read) < RULES_TIME
        {
            return Ok(Rc::clone(rules));
        }
        let key = self.keys.history();
        let asked = self.broker.ask(&[Command::new(&[b"GET", key.as_bytes()])]).swap_remove(0);
        let rules = match reply(asked, by).await {
            Ok(BytesFrame::Null) => HistoryRules::default(),
            Ok(BytesFrame::BulkString(text)) => {
                HistoryRules::read(&text).map_err(|why| refused(&format!("{key}: {why}")))?
            }
            Ok(other) => return Err(refused(&format!("{key}: {}", crate::broker::text_of(&other)))),
            // Nothing but the question can be lost.
            Err(NotPublished::Unknown) => return Err(NotPublished::Away),
            Err(why) => return Err(why),
        };
        let rules = Rc::new(rules);
        // From before the question: so they are never older than they are said to be.
        *self.rules.borrow_mut() = Some((now, Rc::clone(&rules)));
        Ok(rules)
    }

    /// Publishes in this order.
    pub(super) async fn send(&self, all: &[Publication<'_>], by: Instant) -> Vec<Result<Published, NotPublished>> {
        // A script that is not known has to be called again, which would change the order of several.
        let way = if all.len() == 1 { By::Name } else { By::Text };
        let commands: Vec<Command> = all.iter().map(|one| one.command(&self.keys, way)).collect();
        let asked = self.broker.ask(&commands);
        drop(commands);
        let mut outcomes = Vec::with_capacity(all.len());
        for (asked, one) in asked.into_iter().zip(all) {
            let mut outcome = outcome(asked, by).await;
            if let (Err(Because::NoScript), By::Name) = (&outcome, way) {
                let again = self.broker.ask(&[one.command(&self.keys, By::Text)]).swap_remove(0);
                outcome = self::outcome(again, by).await;
            }
            outcomes.push(outcome.map_err(|because| match because {
                Because::NoScript => refused("a script that was just sent is not known"),
                Because::Not(why) => why,
            }));
        }
        outcomes
    }
}

enum Because {
    NoScript,
    Not(NotPublished),
}

async fn outcome(asked: Asked, by: Instant) -> Result<Published, Because> {
    let reply = reply(asked, by).await.map_err(Because::Not)?;
    Published::read(&reply).map_err(|declined| match declined {
        Declined::NoScript => Because::NoScript,
        Declined::Refused(words) => Because::Not(refused(&words)),
    })
}

async fn reply(asked: Asked, by: Instant) -> Result<BytesFrame, NotPublished> {
    let waiting = asked.map_err(|why| match why {
        NotTaken::Down => NotPublished::Away,
        NotTaken::Full => NotPublished::Congested,
    })?;
    match timeout_at(by, waiting).await {
        Ok(Ok(Ok(reply))) => Ok(reply),
        Ok(Ok(Err(Lost::Unwritten))) => Err(NotPublished::Away),
        Ok(Ok(Err(Lost::Unknown)) | Err(_)) | Err(_) => Err(NotPublished::Unknown),
    }
}

/// Redis has its reasons, which are no client's business.
fn refused(words: &str) -> NotPublished {
    tracing::warn!("a message was not published: {words}");
    NotPublished::Refused
}
