//! From one server to its whole topology: up to its sources, down to its replicas, any depth.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use crate::{
    core::{
        plan::durability,
        replicated::{Durability, Member, MemberState},
    },
    model::{
        address::Address,
        facts::{Channel, ServerFacts, is_same_start},
        server::{Flavor, ServerId},
    },
    server::ports::Ports,
    session::ReadError,
};

/// Servers one discovery reads at most.
const SERVERS_MAX: usize = 1_000;

/// How servers are read for discovery.
pub struct Discovery {
    ports: Ports,
}

/// What was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Dialect.
    pub flavor: Flavor,
    /// Members with their edges.
    pub members: Vec<Member>,
    /// The only member without a source, if it is only one.
    pub primary: Option<ServerId>,
    /// How safe an acknowledged write is, as the primary and its replicas were read; asynchronous without a primary.
    pub durability: Durability,
    /// What could not be read, with why.
    pub unread: Vec<(Address, String)>,
    /// Dump clients that are no members.
    pub others: Vec<String>,
}

/// Why nothing was adopted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DiscoverError {
    /// The seed cannot be read.
    #[error("{address} cannot be read")]
    Seed {
        /// Which.
        address: Address,
        /// Why, with the grant or setting to mend.
        #[source]
        why: ReadError,
    },
    /// It stands alone.
    #[error(
        "{0} replicates from nobody and nobody replicates from it: there is no topology to adopt. Point a replica at it (with report_host and report_port set), then discover again"
    )]
    Alone(Address),
    /// Two servers with one identity.
    #[error(
        "{what} is used by both {first} and {second}: no two servers of a topology may share it. Give one of them another, then discover again"
    )]
    Duplicate {
        /// `server_id 7` or `server_uuid ...`.
        what: String,
        /// One.
        first: Address,
        /// The other.
        second: Address,
    },
    /// They replicate in a circle.
    #[error(
        "the servers replicate in a circle ({circle}); circular replication is not managed. End the replication into \
         the one that takes writes, then discover again"
    )]
    Loop {
        /// One of them.
        first: Address,
        /// All of them, each a replica of the next.
        circle: String,
    },
    /// Two dialects in one topology.
    #[error("{0} and {1} are of different flavours; a topology of both is not managed")]
    Mixed(Address, Address),
    /// Too large.
    #[error("more than {SERVERS_MAX} servers hang together; that is more than one discovery takes")]
    TooLarge,
}

impl Discovery {
    /// Reads through these ports.
    pub fn new(ports: Ports) -> Self {
        Self { ports }
    }

    /// Reads one server in full.
    pub async fn read(&self, address: &Address) -> Result<ServerFacts, ReadError> {
        self.ports.servers.read(address).await
    }

    /// Crawls from a seed.
    pub async fn crawl(&self, seed: &Address) -> Result<Found, DiscoverError> {
        let mut queue = VecDeque::from([seed.clone()]);
        // Asked already, or in the queue: a server may list any number.
        let mut named = BTreeSet::from([seed.clone()]);
        let mut read: Vec<(Address, ServerFacts)> = Vec::new();
        let mut unread = Vec::new();
        while let Some(address) = queue.pop_front() {
            let facts = match self.read(&address).await {
                Ok(facts) => facts,
                Err(why) if address == *seed => return Err(DiscoverError::Seed { address, why }),
                Err(why) => {
                    unread.push((address, why.to_string()));
                    continue;
                }
            };
            let sources = facts.channels.iter().map(|c| &c.source);
            let listed = facts.replicas.iter().flatten().filter_map(|r| r.address.as_ref());
            for other in sources.chain(listed) {
                if named.insert(other.clone()) {
                    queue.push_back(other.clone());
                }
                if named.len() > SERVERS_MAX {
                    return Err(DiscoverError::TooLarge);
                }
            }
            if !same_server(&read, &address, &facts)? {
                read.push((address, facts));
            }
        }
        found(seed, read, unread, &|| self.ports.host.unique())
    }
}

/// Whether this server was read before under another address; an error when two servers share an identity.
fn same_server(
    read: &[(Address, ServerFacts)],
    address: &Address,
    facts: &ServerFacts,
) -> Result<bool, DiscoverError> {
    for (other, known) in read {
        if known.identity.flavor != facts.identity.flavor {
            return Err(DiscoverError::Mixed(other.clone(), address.clone()));
        }
        let uuid =
            known.identity.server_uuid.is_some() && known.identity.server_uuid == facts.identity.server_uuid;
        if !uuid && known.identity.server_id != facts.identity.server_id {
            continue;
        }
        let started = known.started_at_s.zip(facts.started_at_s).is_none_or(|(a, b)| is_same_start(a, b));
        if known.reports_as == facts.reports_as && started {
            return Ok(true);
        }
        let what = match (&facts.identity.server_uuid, uuid) {
            (Some(uuid), true) => format!("server_uuid {uuid}"),
            _ => format!("server_id {}", facts.identity.server_id),
        };
        return Err(DiscoverError::Duplicate { what, first: other.clone(), second: address.clone() });
    }
    Ok(false)
}

fn found(
    seed: &Address,
    read: Vec<(Address, ServerFacts)>,
    unread: Vec<(Address, String)>,
    unique: &dyn Fn() -> String,
) -> Result<Found, DiscoverError> {
    let flavor = read.first().map(|(_, f)| f.identity.flavor).unwrap_or(Flavor::MySql);
    let mut members: Vec<Member> =
        read.iter().map(|(address, facts)| member_of(address, facts, None, unique)).collect();
    let by_address: BTreeMap<Address, ServerId> =
        members.iter().map(|m| (m.address.clone(), m.server.clone())).collect();
    for (i, (_, facts)) in read.iter().enumerate() {
        let by_identity = |channel: &Channel| {
            let is = |f: &ServerFacts| {
                (channel.source_uuid.is_some() && f.identity.server_uuid == channel.source_uuid)
                    || channel.source_server_id.is_some_and(|id| id != 0 && id == f.identity.server_id)
            };
            read.iter().position(|(_, f)| is(f)).map(|at| members[at].server.clone())
        };
        let source = |c: &Channel| by_address.get(&c.source).cloned().or_else(|| by_identity(c));
        // Of several sources, one that belongs to this topology.
        if let Some((channel, source)) = facts.channels.iter().find_map(|c| Some((c, source(c)?))) {
            (members[i].source, members[i].channel) = (Some(source), channel.name.clone());
        }
    }
    check_circle(&members)?;
    let alone =
        read.len() == 1 && read[0].1.channels.is_empty() && read[0].1.replicas.iter().flatten().count() == 0;
    if alone {
        return Err(DiscoverError::Alone(seed.clone()));
    }
    let roots: Vec<&(Address, ServerFacts)> = read.iter().filter(|(_, f)| f.channels.is_empty()).collect();
    let primary = match roots[..] {
        [root] => by_address.get(&root.0).cloned(),
        _ => None,
    };
    let others = others(&members, &read);
    let durability = primary.as_ref().and_then(|primary| {
        let facts =
            members.iter().zip(&read).map(|(m, (_, f))| (m.server.clone(), Arc::new(f.clone()))).collect();
        durability::observed(primary, &members, &facts)
    });
    Ok(Found { flavor, members, primary, durability: durability.unwrap_or_default(), unread, others })
}

/// Dump clients that are no members. A member's dump client may come under another name than the one it reports, which is
/// what the server resolves its address to: strangers are looked for only where more ask than members replicate from it.
fn others(members: &[Member], read: &[(Address, ServerFacts)]) -> Vec<String> {
    let hosts: BTreeSet<&str> = members.iter().map(|m| m.address.host.as_str()).collect();
    let strangers = members.iter().zip(read).flat_map(|(member, (_, facts))| {
        let clients = facts.dump_clients.as_deref().unwrap_or_default();
        let followers = members.iter().filter(|m| m.source.as_ref() == Some(&member.server)).count();
        let looked_at = if clients.len() > followers { clients } else { &[] };
        looked_at.iter().filter(|client| !hosts.contains(client.host.as_str()))
    });
    let named: BTreeSet<String> =
        strangers.map(|client| format!("{}@{}", client.user, client.host)).collect();
    named.into_iter().collect()
}

fn check_circle(members: &[Member]) -> Result<(), DiscoverError> {
    let source: BTreeMap<&ServerId, &ServerId> =
        members.iter().filter_map(|m| m.source.as_ref().map(|s| (&m.server, s))).collect();
    let address = |id: &ServerId| {
        members.iter().find(|m| &m.server == id).expect("sources are members").address.clone()
    };
    for member in members {
        let mut path = vec![&member.server];
        let mut at = &member.server;
        while let Some(next) = source.get(at) {
            if path.contains(next) {
                let circle = path.iter().chain([next]).map(|id| address(id).to_string()).collect::<Vec<_>>();
                return Err(DiscoverError::Loop { first: address(next), circle: circle.join(" -> ") });
            }
            path.push(next);
            at = next;
        }
    }
    Ok(())
}

/// A member as one reading shows it, named by `unique` where it brings no name; its edge is set by the caller.
pub fn member_of(
    address: &Address,
    facts: &ServerFacts,
    datacenter: Option<String>,
    unique: impl Fn() -> String,
) -> Member {
    // P11: MySQL servers bring an id; a MariaDB server is given one, bound by the log to what it says of itself.
    let server = match &facts.identity.server_uuid {
        Some(uuid) => ServerId(uuid.clone()),
        None => ServerId(format!("mdb-{}", unique())),
    };
    Member {
        server,
        identity: facts.identity.clone(),
        address: address.clone(),
        version: facts.version.text.clone(),
        source: None,
        channel: facts.channels.first().map(|c| c.name.clone()).unwrap_or_default(),
        channels: facts.channels.len() as u32,
        datacenter,
        state: MemberState::Normal,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        core::{plan::durability::FOREVER_MS, samples},
        model::facts::DumpClient,
    };

    /// A primary and two replicas; `semi_sync` says whether acknowledged writes are held to P6.
    fn topology(semi_sync: bool) -> Vec<(Address, ServerFacts)> {
        let mut read: Vec<_> =
            [1, 3, 2].map(|n| (samples::address(n), samples::facts(Flavor::MySql, n))).into();
        read[0].1.channels.clear();
        if semi_sync {
            let source = &mut read[0].1.semi_sync;
            source.source_enabled = Some(true);
            source.source_status = Some(true);
            source.source_wait_for = Some(1);
            source.source_timeout_ms = Some(FOREVER_MS);
            read[1..].iter_mut().for_each(|(_, facts)| facts.semi_sync.replica_enabled = Some(true));
        }
        read
    }

    #[test]
    fn a_cluster_is_adopted_with_the_durability_that_was_read() {
        let durability = |semi_sync: bool| {
            let read = topology(semi_sync);
            let seed = read[2].0.clone();
            found(&seed, read, vec![], &|| unreachable!("MySQL servers bring their ids"))
                .expect("found")
                .durability
        };
        assert_eq!(durability(false), Durability::Async);
        let ackers = vec![samples::id(2), samples::id(3)];
        assert_eq!(durability(true), Durability::SemiSync { acks: 1, ackers });
    }

    #[test]
    fn a_dump_client_is_a_stranger_only_where_more_ask_than_replicate() {
        let others = |hosts: &[&str]| {
            let mut read = topology(false);
            let client = |host: &&str| DumpClient { id: 9, user: "repl".into(), host: (*host).into() };
            read[0].1.dump_clients = Some(hosts.iter().map(client).collect());
            let seed = read[0].0.clone();
            found(&seed, read, vec![], &|| unreachable!("MySQL servers bring their ids"))
                .expect("found")
                .others
        };
        let known = samples::address(2).host;
        assert_eq!(others(&["localhost", "localhost"]), Vec::<String>::new());
        assert_eq!(others(&["etl.example.com", &known, &known]), ["repl@etl.example.com"]);
    }
}
