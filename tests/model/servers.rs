//! Three servers as far as a recovery's life depends on them: who holds what, who follows whom, who takes writes.

use quorate::core::plan::step::{Action, StepEnd, StepReport};

use crate::samples;

/// P, the primary at first, and its replicas A and B.
pub const SERVERS: usize = 3;

/// How many transactions of each server's own are held, without gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Held(pub [u8; SERVERS]);

impl Held {
    pub fn merge(self, other: Self) -> Self {
        Self(std::array::from_fn(|server| self.0[server].max(other.0[server])))
    }

    pub fn contains(self, other: Self) -> bool {
        self.merge(other) == self
    }
}

/// What has become of a server's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Life {
    Up,
    /// It answers nobody; what is sent to it lies in its sockets.
    Frozen,
    Dead,
}

/// A step's end, told shortly.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Ended {
    /// With the facts of the server as it was then.
    Done(usize, Server),
    Refused(&'static str),
    Unknown(&'static str),
}

impl Ended {
    pub fn is_done(self) -> bool {
        matches!(self, Self::Done(..))
    }

    /// As the product has it.
    pub fn told(self) -> StepEnd {
        match self {
            Self::Done(server, was) => {
                let facts = Some(Box::new(samples::facts(server, &was)));
                StepEnd::Done(StepReport { facts, ..StepReport::default() })
            }
            Self::Refused(why) => StepEnd::Refused { why: why.into() },
            Self::Unknown(why) => StepEnd::Unknown { why: why.into() },
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Server {
    pub life: Life,
    pub read_only: bool,
    /// Whom it replicates from.
    pub source: Option<usize>,
    /// Whether its receiver runs.
    pub receives: bool,
    pub executed: Held,
    /// Received and executed.
    pub received: Held,
    /// Semi-sync source: acknowledgements that a commit waits for.
    pub acks: Option<u32>,
    /// Its switches are in its configuration: a restart leaves them. Else it returns taking writes.
    pub keeps_switches: bool,
}

pub type Servers = [Server; SERVERS];

impl Server {
    pub fn up(&self) -> bool {
        self.life == Life::Up
    }

    /// Whether clients may write there now.
    pub fn writable(&self) -> bool {
        self.up() && !self.read_only
    }

    fn applied(&self) -> bool {
        self.executed.contains(self.received)
    }
}

/// Every running receiver fetches what its source has; a replica that was level stays so.
pub fn replicate(servers: &mut Servers) {
    for _ in 0..SERVERS {
        for server in 0..SERVERS {
            let Some(source) = servers[server].source.filter(|source| servers[*source].up()) else {
                continue;
            };
            let from = servers[source].executed;
            let to = &mut servers[server];
            if to.up() && to.receives && !to.received.contains(from) {
                let level = to.applied();
                to.received = to.received.merge(from);
                if level {
                    to.executed = to.executed.merge(to.received);
                }
            }
        }
    }
}

/// Receivers that would acknowledge what `source` commits.
pub fn ackers(servers: &Servers, source: usize) -> u32 {
    servers.iter().filter(|s| s.up() && s.receives && s.source == Some(source)).count() as u32
}

/// A client's write; whether it was acknowledged.
pub fn write(servers: &mut Servers, server: usize) -> bool {
    servers[server].executed.0[server] += 1;
    let acknowledged = servers[server].acks.is_none_or(|acks| ackers(servers, server) >= acks);
    replicate(servers);
    acknowledged
}

/// Carries an action out: what `src/executor/actions` does, whose steps are idempotent.
pub fn carry_out(servers: &mut Servers, server: usize, action: &Action) -> Ended {
    let end = match change(servers, server, action) {
        Ok(()) => Ended::Done(server, servers[server]),
        Err(end) => end,
    };
    replicate(servers);
    end
}

fn change(servers: &mut Servers, server: usize, action: &Action) -> Result<(), Ended> {
    let waits = servers[server].acks.is_some_and(|acks| ackers(servers, server) < acks);
    let this = &mut servers[server];
    match action {
        Action::StopReceiver { .. } => this.receives = false,
        Action::StartReceiver { .. } if this.source.is_none() => return Err(Ended::Refused("no channel")),
        Action::StartReceiver { .. } => this.receives = true,
        Action::Fence | Action::MakeReadOnly { .. } => this.read_only = true,
        Action::Unfence { must_hold, .. } if this.read_only && !samples::holds(this.executed, must_hold) => {
            return Err(Ended::Refused("it lost its own"));
        }
        Action::Unfence { semi_sync_acks, .. } => {
            this.read_only = false;
            this.acks = *semi_sync_acks;
        }
        Action::Drain { until, .. } => {
            this.executed = this.executed.merge(this.received);
            if !samples::holds(this.executed, until) {
                return Err(Ended::Unknown("still applying"));
            }
        }
        Action::Detach { until, .. } => {
            if !samples::holds(this.executed, until) || !this.applied() {
                return Err(Ended::Refused("not applied yet"));
            }
            (this.source, this.receives) = (None, false);
        }
        Action::Point { options, wait, .. } => {
            this.read_only = true;
            this.executed = this.executed.merge(this.received);
            this.source = Some(samples::dialled(&options.source));
            this.receives = true;
            let source = this.source.expect("set above");
            if *wait && !servers[source].up() {
                return Err(Ended::Unknown("pointed, but not connected"));
            }
        }
        Action::EnableSemiSyncSource { acks } => this.acks = Some(*acks),
        Action::DisableSemiSyncSource => this.acks = None,
        Action::MakeWritable { must_hold } if !samples::holds(this.executed, must_hold) => {
            return Err(Ended::Refused("it lacks what it must hold"));
        }
        Action::MakeWritable { .. } => this.read_only = false,
        Action::VerifyWrite { .. } if this.read_only => return Err(Ended::Refused("read only")),
        Action::VerifyWrite { .. } if waits => return Err(Ended::Unknown("waits for an acknowledgement")),
        // The row is keyed by the recovery: written again it is one row.
        Action::VerifyWrite { .. } => this.executed.0[server] = this.executed.0[server].max(1),
        Action::RestartReceiver { .. }
        | Action::ReadFacts
        | Action::ListBlockers { .. }
        | Action::KillWriters
        | Action::KillPredecessors => {}
    }
    Ok(())
}

/// Whether it does anything that lasts, however late it lands.
pub fn lasts(action: &Action) -> bool {
    !matches!(
        action,
        Action::ReadFacts
            | Action::ListBlockers { .. }
            | Action::KillWriters
            | Action::KillPredecessors
            | Action::Drain { .. }
            | Action::VerifyWrite { .. }
    )
}
