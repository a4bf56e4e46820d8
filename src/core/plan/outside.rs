//! Whether the primary was changed by hand, outside Quorate: the record then follows what all members show alike. Any
//! doubt is said and changes nothing; a primary that does not answer is a matter of recovery, not of this.

use std::{collections::BTreeMap, sync::Arc};

use crate::{
    core::replicated::{Cluster, Member, MemberState},
    model::{
        facts::{Receiver, ServerFacts},
        server::ServerId,
    },
};

/// What the members show.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// Nothing that differs from the record.
    Same,
    /// Something does, and not all agree on what.
    Unclear {
        /// In a sentence.
        why: String,
    },
    /// Another member is the primary, by the word of all that answer.
    Moved {
        /// The new one.
        primary: ServerId,
        /// In a sentence.
        why: String,
    },
}

/// Judges from `facts` of those who answer now; a member that does not answer has no say, but for the recorded primary.
pub fn judge(cluster: &Cluster, facts: &BTreeMap<ServerId, Arc<ServerFacts>>) -> Outside {
    let Some(old) = cluster.primary_member() else { return Outside::Same };
    let Some(old_facts) = facts.get(&old.server) else { return Outside::Same };
    let others = || {
        let answer = |m: &&Member| m.server != old.server && facts.contains_key(&m.server);
        cluster.members.values().filter(answer)
    };
    let roots: Vec<&Member> = others().filter(|m| takes_writes_alone(&facts[&m.server])).collect();
    let followed = |root: &Member| cluster.members.values().any(|m| follows(cluster, facts, m, root));
    if takes_writes_alone(old_facts) {
        // As recorded. A replica that somebody detached is no rival, until others follow it.
        let rival = roots.iter().find(|root| followed(root));
        return rival.map_or(Outside::Same, |rival| {
            unclear(format!(
                "{} takes writes and replicas follow it, while {} takes writes too",
                rival.address, old.address
            ))
        });
    }
    let new = match roots[..] {
        [] => return Outside::Same,
        [new] => new,
        _ => {
            let names: Vec<String> = roots.iter().map(|m| m.address.to_string()).collect();
            return unclear(format!("{} take writes and replicate from nobody", names.join(" and ")));
        }
    };
    if new.state != MemberState::Normal {
        return unclear(format!("{} takes writes, and was set aside: confirm it first", new.address));
    }
    let old_follows = follows(cluster, facts, old, new);
    if !old_follows && !old_facts.channels.is_empty() {
        return unclear(format!("{} takes writes, and {} does not follow it", new.address, old.address));
    }
    let in_service = |m: &&Member| m.server != new.server && m.state == MemberState::Normal;
    if let Some(stray) = others().filter(in_service).find(|m| !follows(cluster, facts, m, new)) {
        return unclear(format!(
            "{} takes writes, and {} is not seen replicating from it",
            new.address, stray.address
        ));
    }
    match followed(new) {
        true => Outside::Moved {
            primary: new.server.clone(),
            why: format!(
                "changed outside Quorate: {} takes writes and all that answer replicate from it; {} {}",
                new.address,
                old.address,
                match (old_follows, old_facts.writable()) {
                    (true, true) => "does too, and IS NOT READ-ONLY",
                    (true, false) => "does too",
                    (false, _) => "is read-only and replicates from nobody",
                }
            ),
        },
        false => unclear(format!("{} takes writes, and nobody replicates from it", new.address)),
    }
}

fn unclear(what: String) -> Outside {
    Outside::Unclear { why: format!("the primary may have been changed outside Quorate: {what}") }
}

fn takes_writes_alone(facts: &ServerFacts) -> bool {
    facts.channels.is_empty() && facts.writable()
}

/// Whether a member replicates from `root`, through others or not; each on the way answers and is connected.
fn follows(
    cluster: &Cluster,
    facts: &BTreeMap<ServerId, Arc<ServerFacts>>,
    member: &Member,
    root: &Member,
) -> bool {
    let mut at = member;
    for _ in 0..cluster.members.len() {
        let Some([channel]) = facts.get(&at.server).map(|f| &f.channels[..]) else { return false };
        let Some(source) = cluster.source_of(channel).filter(|_| channel.receiver == Receiver::Running)
        else {
            return false;
        };
        if source.server == root.server {
            return true;
        }
        at = source;
    }
    false
}

#[cfg(test)]
mod tests;
