//! A reload: other settings for channels while streams are open.
//!
//! Limits and times hold for what begins from then on. What a channel *is* (its history, how its payloads are read, who
//! may read it) cannot change under its readers: where that is another now, they are sent away with a hint when to come
//! back, spread over `channels.goodbye`, and those that come meanwhile are told the same, until the last one has gone.
//! Then it begins anew. It must not know where the settings come from.

use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::Semaphore;

use super::channel::Channel;
use super::life::send_away;
use super::{Hub, PATTERN};
use crate::config::{ChannelRule, Channels, History};

impl Hub {
    /// The settings at this moment.
    pub(super) fn config(&self) -> Rc<Channels> {
        Rc::clone(&self.config.borrow())
    }

    /// Places for streams that read what they have missed.
    pub(super) fn resuming(&self) -> Arc<Semaphore> {
        Arc::clone(&self.resuming.borrow())
    }

    /// Takes other settings; what stands before channels' names in Redis must be the same.
    pub fn apply(&self, new: Rc<Channels>) {
        let old = self.config.replace(Rc::clone(&new));
        debug_assert_eq!(old.prefix, new.prefix, "its channels are known by names that begin with it");
        if old.resuming != new.resuming {
            // Those who have a place in the old one keep it.
            self.resuming.replace(Arc::new(Semaphore::new(new.resuming)));
        }
        let channels = self.channels.borrow();
        let outdated: Vec<&Rc<Channel>> = channels.values().filter(|channel| is_another(channel, &old, &new)).collect();
        for channel in &outdated {
            channel.outdated.set(true);
            self.taps.send_away(&channel.key);
        }
        let readers: Vec<_> = outdated.iter().flat_map(|channel| channel.readers()).collect();
        if !readers.is_empty() {
            tracing::info!(streams = readers.len(), "sent away: what holds for their channels has changed");
            tokio::task::spawn_local(send_away(readers, new.goodbye));
        }
    }
}

/// True where the channel's streams cannot go on as they are.
fn is_another(channel: &Channel, old: &Channels, new: &Channels) -> bool {
    let name = channel.kind.name.as_str();
    if channel.key.starts_with(PATTERN) {
        let open = |channels: &Channels| channels.patterns.iter().any(|public| public.as_str() == name);
        return open(old) && !open(new);
    }
    let open = |channels: &Channels| channels.public.iter().any(|public| public.matches(name));
    (open(old) && !open(new)) || Said::of(old.rule(name)) != Said::of(new.rule(name))
}

/// What a rule says of a channel; without a rule as with one that says nothing.
#[derive(PartialEq)]
struct Said {
    control: bool,
    array_form: bool,
    history: Option<History>,
    gone: bool,
}

impl Said {
    fn of(rule: Option<&ChannelRule>) -> Self {
        let ChannelRule { control, array_form, history, gone, .. } = match rule {
            Some(rule) => rule,
            None => return Self { control: false, array_form: true, history: None, gone: false },
        };
        Self { control: *control, array_form: *array_form, history: *history, gone: *gone }
    }
}
