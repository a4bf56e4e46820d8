//! Who is restarted as a witness, when only that could tell whether a silent primary lives: a replica whose loss costs
//! least, and never the one that would be promoted.

use super::{
    choose::Sets,
    preview::{self, Wish},
};
use crate::{
    core::replicated::{Cluster, Kind, Refusal, State},
    model::{
        facts::{Receiver, ServerFacts},
        server::ServerId,
    },
};

/// The witness and the candidate it spares. Refused where nobody could be promoted: then nothing is asked.
pub fn choose(
    state: &State,
    cluster: &Cluster,
    wish: &Wish,
    sets: &Sets,
) -> Result<(ServerId, ServerId), Refusal> {
    assert_eq!(wish.kind, Kind::Failover, "a witness is called for an automatic failover");
    let candidate = preview::decide(state, cluster, wish, sets)?.candidate.server;
    let mut whys = Vec::new();
    let mut fitting: Vec<(bool, &ServerId)> = Vec::new();
    for (server, member) in &cluster.members {
        if cluster.primary.as_ref() == Some(server) {
            continue;
        }
        let facts = sets.facts.get(server);
        let fits =
            state.witness_fits(cluster, server, &candidate).and_then(|()| may_pause(facts, &member.channel));
        match fits {
            // One that acknowledges nothing costs the clients nothing.
            Ok(()) => fitting.push((is_acker(cluster, server), server)),
            Err(why) => whys.push(format!("{}: {why}", member.address)),
        }
    }
    match fitting.into_iter().min() {
        Some((_, server)) => Ok((server.clone(), candidate)),
        None => Err(Refusal::NoWitness { why: whys.join("; ") }),
    }
}

fn is_acker(cluster: &Cluster, server: &ServerId) -> bool {
    matches!(&cluster.durability, crate::core::replicated::Durability::SemiSync { ackers, .. } if ackers.contains(server))
}

/// Whether its receiver may be restarted, as far as was seen: it runs, and the applier beside it.
fn may_pause(facts: Option<&ServerFacts>, channel: &str) -> Result<(), String> {
    let facts = facts.ok_or("not reached")?;
    let channel = facts.channels.iter().find(|c| c.name == channel).ok_or("it replicates from nobody")?;
    if channel.receiver != Receiver::Running {
        return Err("its receiver does not run".into());
    }
    if !channel.applier_running || channel.applier_error.is_some() {
        return Err("its applier does not run".into());
    }
    if !facts.executed.contains(&channel.received) {
        return Err("it has not applied all that it received".into());
    }
    Ok(())
}
