//! The call of a witness: the gate that every node judges alike, and its end.

use super::{Context, Done, members::unknown};
use crate::core::{
    agreement,
    analysis::Class,
    replicated::{
        audit::EventKind,
        cluster::{Cluster, MemberState, Witness},
        command::CallWitness,
        recovery::Kind,
        refusal::Refusal,
        state::State,
    },
};
use crate::model::server::{ClusterId, ServerId};

impl State {
    /// Allowed only where a failover would be, were the primary dead: majority, slot, switches, pauses, blocks.
    pub(super) fn call_witness(
        &mut self,
        context: &mut Context<'_>,
        call: &CallWitness,
    ) -> Result<Done, Refusal> {
        let cluster = self.cluster_checked(&call.cluster, call.generation)?;
        if cluster.epoch != call.epoch {
            return Err(Refusal::Outdated {
                what: "primary epoch".into(),
                then: call.epoch,
                now: cluster.epoch,
            });
        }
        if cluster.primary.as_ref() != Some(&call.subject) {
            return Err(unknown("primary", &call.subject.0));
        }
        self.witness_allowed(cluster, self.log_time_ms).map_or(Ok(()), Err)?;
        let question = self.question(&call.cluster, call.epoch, &call.subject);
        let nodes = agreement::agree_on_witness(&question, &call.evidence)?;
        self.witness_fits(cluster, &call.replica, &call.candidate)
            .map_err(|why| Refusal::NoWitness { why })?;
        let member = &cluster.members[&call.replica];
        let witness = Witness {
            id: context.index,
            target: member.target(),
            channel: member.channel.clone(),
            owner: (context.command.node, context.command.term),
            at_ms: self.log_time_ms,
            settled: false,
            answered: false,
        };
        let address = member.address.to_string();
        self.cluster_mut(&call.cluster)?.witness = Some(witness);
        let text = format!(
            "nothing proves whether the silent primary lives ({} voters): the receiver of {address} is restarted as a witness",
            nodes.len()
        );
        self.audit(context, EventKind::Witness, Some(&call.cluster), Some(address), None, text);
        Ok(Done { id: Some(context.index), ..Done::default() })
    }

    pub(super) fn settle_witness(
        &mut self,
        context: &mut Context<'_>,
        id: &ClusterId,
        call: u64,
        said: &str,
    ) -> Result<Done, Refusal> {
        let witness = self.cluster_mut(id)?.witness.as_mut().filter(|w| w.id == call);
        let Some(witness) = witness else { return Err(unknown("witness", &call.to_string())) };
        if std::mem::replace(&mut witness.settled, true) {
            return Ok(Done::default());
        }
        let address = witness.target.address.to_string();
        self.audit(context, EventKind::Witness, Some(id), Some(address), None, said.to_owned());
        Ok(Done::default())
    }

    /// Why no witness may be called on this cluster at this log time, evidence apart.
    pub fn witness_allowed(&self, cluster: &Cluster, log_now_ms: u64) -> Option<Refusal> {
        let no = |why: String| Some(Refusal::NoWitness { why });
        let pause_ms = self.policy.witness_pause_ms;
        if pause_ms == 0 {
            return no("policy `witness_pause_ms` is 0".into());
        }
        let held = self.slot_refusal(cluster, Kind::Switchover);
        let paused = held.or_else(|| self.automatic_pause(cluster));
        if let Some(refusal) = paused.or_else(|| self.automatic_rate(cluster, Class::Primary)) {
            return Some(refusal);
        }
        let last = cluster.witness.as_ref()?;
        if !last.settled {
            return no(format!("the receiver of {} is not seen started again", last.target.address));
        }
        if !last.answered {
            return no(format!(
                "{} was asked already, and the primary was not heard since",
                last.target.address
            ));
        }
        let left_ms = last.at_ms.saturating_add(pause_ms).saturating_sub(log_now_ms);
        (left_ms > 0).then_some(())?;
        no(format!("{} was asked a moment ago; the next may be in {left_ms} ms", last.target.address))
    }

    /// Whether this replica may be the witness: what the record says against it (design §3).
    pub fn witness_fits(
        &self,
        cluster: &Cluster,
        replica: &ServerId,
        candidate: &ServerId,
    ) -> Result<(), String> {
        let member = cluster.members.get(replica).ok_or_else(|| format!("no member {replica}"))?;
        if !cluster.members.contains_key(candidate) {
            return Err(format!("no member {candidate}"));
        }
        if replica == candidate {
            return Err("it is the preferred candidate".into());
        }
        if member.source.is_none() || member.source != cluster.primary {
            return Err("it is no direct replica of the primary".into());
        }
        if member.state != MemberState::Normal || member.channels != 1 {
            return Err("it is not in service, or has several sources".into());
        }
        if self.downtimes.contains_key(replica) {
            return Err("it is in downtime".into());
        }
        if let crate::core::replicated::Durability::SemiSync { acks, ackers } = &cluster.durability {
            let left = ackers.iter().filter(|acker| *acker != replica).count();
            if left < *acks as usize {
                return Err(format!(
                    "a commit waits for {acks} acknowledgements, and {left} ackers would be left"
                ));
            }
        }
        Ok(())
    }
}
