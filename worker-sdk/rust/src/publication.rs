//! One message for a channel: what is to be done with it, as commands of Redis, and what became of it.
//!
//! It must not send anything.

use std::time::Duration;

use tempest_protocol::{Keep, Keys, encode_payload, scripts};

use crate::connection::Reply;
use crate::publisher::PublishError;
use crate::scripts::is_unable;

/// Bytes of a message's own key.
const KEY_BYTES: usize = 255;
/// For how many ms it is remembered, as the contract has it.
const KEY_MS: u64 = 600_000;

/// A message for the browsers on a channel.
///
/// ```
/// # async fn example(publisher: tempest_worker::Publisher) -> Result<(), tempest_worker::PublishError> {
/// use tempest_worker::Publication;
/// let paid = Publication::new("orders.42", "paid").event("state").key("payment-77");
/// let published = publisher.send(&paid).await?;
/// println!("{:?}, {} fronts", published.id, published.told);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Publication {
    channel: String,
    event: Option<String>,
    data: String,
    key: Option<String>,
    history: Option<(u64, Duration)>,
}

/// What became of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    /// Its id; `None` where the channel has no history.
    pub id: Option<String>,
    /// How many fronts and other subscribers Redis handed it to: not how many browsers.
    pub told: u64,
    /// It had been published before with the same key, and was not again.
    pub repeated: bool,
}

impl Publication {
    /// A plain message.
    pub fn new(channel: impl Into<String>, data: impl Into<String>) -> Self {
        Self { channel: channel.into(), event: None, data: data.into(), key: None, history: None }
    }

    /// As an event of this name.
    #[must_use]
    pub fn event(mut self, name: impl Into<String>) -> Self {
        self.event = Some(name.into());
        self
    }

    /// With a key of its own, 1 to 255 characters of printable ASCII: within ten minutes it is published once,
    /// however often and by whomever it is sent. So it can be sent again after [`PublishError::Unknown`].
    #[must_use]
    pub fn key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Keeps so many messages of the channel for so long, whatever the fronts say of it.
    #[must_use]
    pub fn history(mut self, messages: u64, time: Duration) -> Self {
        self.history = Some((messages, time));
        self
    }

    /// The channel's name in Redis.
    pub(crate) fn channel(&self) -> &str {
        &self.channel
    }

    /// What is to be kept whatever the rules say, if anything.
    pub(crate) fn check(&self) -> Result<Option<Keep>, PublishError> {
        let is_key =
            |key: &String| (1..=KEY_BYTES).contains(&key.len()) && key.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if self.key.as_ref().is_some_and(|key| !is_key(key)) {
            return Err(PublishError::Invalid("a key is 1 to 255 characters of printable ASCII"));
        }
        let keep = |(messages, time): (u64, Duration)| Keep::new(messages, u64::try_from(time.as_millis()).ok()?);
        match self.history {
            None => Ok(None),
            Some(history) => keep(history).map(Some).ok_or(PublishError::Invalid(
                "a history keeps at least one message, for at least a millisecond and at most a year",
            )),
        }
    }

    /// The command that publishes; `by_text`: scripts go along, else they are called by their names.
    pub(crate) fn command(&self, keys: &Keys, keep: Option<Keep>, by_text: bool) -> Vec<Vec<u8>> {
        let channel = self.channel.clone().into_bytes();
        let payload = encode_payload(self.event.as_deref(), &self.data);
        let once = self.key.as_deref().map(|key| keys.once(&self.channel, key).into_bytes());
        let remembered = || KEY_MS.to_string().into_bytes();
        let ((text, name), named, values) = match (keep, once) {
            (None, None) => return vec![b"PUBLISH".to_vec(), channel, payload],
            (None, Some(once)) => {
                ((scripts::ONCE, scripts::ONCE_SHA), vec![once], vec![channel, payload, remembered()])
            }
            (Some(keep), once) => {
                let mut values = vec![payload, keep.messages.to_string().into(), keep.ms.to_string().into()];
                values.extend(once.is_some().then(remembered));
                let named = std::iter::once(keys.log(&self.channel).into_bytes()).chain(once).collect();
                ((scripts::PUBLISH, scripts::PUBLISH_SHA), named, values)
            }
        };
        let call = if by_text { ["EVAL", text] } else { ["EVALSHA", name] };
        let mut parts = vec![call[0].into(), call[1].into(), named.len().to_string().into_bytes()];
        parts.extend(named);
        parts.extend(values);
        parts
    }
}

/// True where Redis does not know a script by its name: nothing was done.
pub(crate) fn is_unknown_script(reply: &Reply) -> bool {
    matches!(reply, Reply::Error(error) if error.starts_with("NOSCRIPT"))
}

/// Reads the reply to a [`Publication::command`].
pub(crate) fn read(reply: Reply) -> Result<Published, PublishError> {
    let count = |number: i64| u64::try_from(number).unwrap_or(0);
    match reply {
        Reply::Int(told) => Ok(Published { id: None, told: count(told), repeated: false }),
        Reply::List(parts) => match parts.as_slice() {
            [Reply::Text(id), Reply::Int(told), Reply::Int(repeated)] => {
                let id = Some(String::from_utf8_lossy(id).into_owned()).filter(|id| !id.is_empty());
                Ok(Published { id, told: count(*told), repeated: *repeated != 0 })
            }
            _ => Err(PublishError::Refused(format!("{parts:?}"))),
        },
        // Published without, the message would be lost to the history and nobody would know.
        Reply::Error(error) if is_unable(&error) => Err(PublishError::Refused(format!(
            "{error}; a history or a key needs a user with +evalsha +eval and the rights that the manual names"
        ))),
        Reply::Error(error) => Err(PublishError::Refused(error)),
        other => Err(PublishError::Refused(format!("{other:?}"))),
    }
}
