//! What lies in Redis: the keys of one queue, and the scripts, each one step. No worker's or front's own knowledge. A whole
//! list that became a batch is claims like any others here: where they lie makes no difference to who may have them.

use crate::{FRONTS, REQUESTS, WORKERS};

/// A job: which request, which attempt. Everything else in it is decided by the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Job {
    /// Index of its request.
    pub request: u8,
    /// From 1.
    pub attempt: u8,
}

/// An entry of `{tempest:web}:lost`, and the message of kind `died` made from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lost {
    /// What the dead worker held.
    pub job: Job,
    /// Its number was at most `started`.
    pub started: bool,
    /// Seen by a parent or by connections.
    pub certain: bool,
}

/// What is on a front's answer list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Message {
    /// Message `n` of an answer.
    Answer(Job, u8),
    /// A worker that held the job is gone.
    Died(Lost),
}

/// The connections a worker registered: claims, and the other.
pub type Registration = (u8, u8);

/// Who holds the lease: the front, and which of its tenures it is.
pub type Tenure = (u8, u8);

/// All keys.
#[derive(Clone, Default, Debug, PartialEq, Eq, Hash)]
pub struct Redis {
    /// `tempest:web`.
    pub queue: Vec<Job>,
    /// `{tempest:web}:claimers`.
    pub claimers: [Option<Registration>; WORKERS],
    /// `{tempest:web}:claimed:<worker>`, by number.
    pub claims: [Vec<(u8, Job)>; WORKERS],
    /// Its field `started`.
    pub started: [u8; WORKERS],
    /// `{tempest:web}:landing:<worker>`.
    pub landing: [Vec<Job>; WORKERS],
    /// `{tempest:web}:worker:<id>` exists.
    pub record: [bool; WORKERS],
    /// `{tempest:web}:attempts`: workers that each job has crashed.
    pub crashes: [u8; REQUESTS],
    /// `{tempest:web}:dead`.
    pub dead: Vec<Job>,
    /// `{tempest:web}:lost`.
    pub lost: Vec<Lost>,
    /// `{tempest:web}:lease`.
    pub lease: Option<Tenure>,
    /// `tempest:@<reactor>`.
    pub inbox: [Vec<Message>; FRONTS],
}

/// The worker is not among the claimers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unregistered;

impl Redis {
    /// `register.lua`: whether it was done.
    pub fn register(&mut self, worker: usize, registration: Registration, fresh: bool) -> bool {
        if self.claimers[worker].is_some() == fresh {
            return false;
        }
        self.claimers[worker] = Some(registration);
        true
    }

    /// `BLMOVE tempest:web {tempest:web}:landing:<worker> LEFT RIGHT`, where there is a job.
    pub fn land(&mut self, worker: usize) -> Job {
        let job = self.queue.remove(0);
        self.landing[worker].push(job);
        job
    }

    /// `claim.lua`: whether the first of them was in landing, and the claims by number.
    pub fn claim(
        &mut self,
        worker: usize,
        first: u8,
        wanted: u8,
        marks: u8,
    ) -> Result<(bool, Vec<(u8, Job)>), Unregistered> {
        if self.claimers[worker].is_none() {
            while let Some(job) = self.landing[worker].pop() {
                self.queue.insert(0, job);
            }
            return Err(Unregistered);
        }
        let landed = !self.landing[worker].is_empty();
        let mut jobs: Vec<_> = self.landing[worker].drain(..usize::from(landed)).collect();
        let from_lists = self.queue.len().min(usize::from(wanted));
        jobs.extend(self.queue.drain(..from_lists));
        let claims: Vec<_> = (first..).zip(jobs).collect();
        if !claims.is_empty() && marks > 0 {
            let most = u8::try_from(claims.len()).expect("a few");
            self.started[worker] = first + marks.min(most) - 1;
        }
        for claim in &claims {
            self.hset(worker, *claim);
        }
        Ok((landed, claims))
    }

    fn hset(&mut self, worker: usize, claim: (u8, Job)) {
        self.hdel(worker, claim.0);
        self.claims[worker].push(claim);
        self.claims[worker].sort_by_key(|claim| claim.0);
    }

    /// `HDEL {tempest:web}:claimed:<worker> <number>`: the job, if it was there.
    pub fn hdel(&mut self, worker: usize, number: u8) -> Option<Job> {
        let at = self.claims[worker].iter().position(|claim| claim.0 == number)?;
        Some(self.claims[worker].remove(at).1)
    }

    /// `recover.lua`: up to which number claims count as started, and those from `next` on.
    pub fn recover(&mut self, worker: usize, next: u8) -> Result<(u8, Vec<(u8, Job)>), Unregistered> {
        if self.claimers[worker].is_none() {
            return Err(Unregistered);
        }
        if !self.landing[worker].is_empty() {
            let last = self.claims[worker].iter().map(|claim| claim.0).fold(next - 1, u8::max);
            let job = self.landing[worker].remove(0);
            self.hset(worker, (last + 1, job));
        }
        let found = self.claims[worker].iter().filter(|claim| claim.0 >= next).copied().collect();
        Ok((self.started[worker], found))
    }

    /// `mark.lua`: whether the job may be started.
    pub fn mark(&mut self, worker: usize, number: u8) -> bool {
        let there = self.claims[worker].iter().any(|claim| claim.0 == number);
        if there {
            self.started[worker] = self.started[worker].max(number);
        }
        there
    }

    /// `give_back.lua` with one number.
    pub fn give_back(&mut self, worker: usize, number: u8) {
        if let Some(job) = self.hdel(worker, number) {
            self.queue.insert(0, job);
        }
    }

    /// `reap.lua`: whether it was done. `awaited` says which jobs have a `reply_to`; `limit` crashes make one dead.
    pub fn reap(
        &mut self,
        worker: usize,
        seen: Option<Registration>,
        certain: bool,
        limit: u8,
        awaited: impl Fn(Job) -> bool,
    ) -> bool {
        if (seen.is_some() && seen != self.claimers[worker]) || (!certain && self.record[worker]) {
            return false;
        }
        let started = self.started[worker];
        let mut held: Vec<_> = self.claims[worker].drain(..).map(|(number, job)| (number <= started, job)).collect();
        held.extend(self.landing[worker].drain(..).map(|job| (false, job)));
        for (started, job) in held.into_iter().rev() {
            if awaited(job) {
                self.lost.push(Lost { job, started, certain });
            } else {
                self.crashes[usize::from(job.request)] += u8::from(started);
                if started && self.crashes[usize::from(job.request)] >= limit {
                    self.dead.push(job);
                } else {
                    self.queue.insert(0, job);
                }
            }
        }
        self.started[worker] = 0;
        self.record[worker] = false;
        self.claimers[worker] = None;
        true
    }

    /// `lease.lua`: whether `who` has it now.
    pub fn lease(&mut self, who: Tenure) -> bool {
        if self.lease.is_some_and(|holder| holder != who) {
            return false;
        }
        self.lease = Some(who);
        true
    }

    /// `trim.lua`: whether it was done.
    pub fn trim(&mut self, who: Tenure, count: usize) -> bool {
        let may = self.lease == Some(who);
        if may {
            self.cut(count);
        }
        may
    }

    /// `LTRIM {tempest:web}:lost <count> -1`, whoever asks.
    pub fn cut(&mut self, count: usize) {
        self.lost.drain(..count.min(self.lost.len()));
    }
}
