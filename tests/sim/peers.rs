//! The other nodes, as one process asks them: over the simulated network, answered by the real answers of the other's
//! actors, in its process.

use std::{future::ready, time::Duration};

use futures::{FutureExt as _, future::BoxFuture};
use quorate::{
    core::{
        analysis::Verdict,
        plan::{marks::Marks, step::StepEnd},
        replicated::{Change, Outcome},
    },
    model::server::ClusterId,
    server::{
        peer::Answers,
        ports::{Delegation, Judged, Peers, Stamp},
    },
};
use tokio::{sync::oneshot, time::Instant};

use super::{
    net::End,
    world::{Sim, World},
};

/// After this long without a word the transport gives a call up, milliseconds.
const CALL_MS: u64 = 2_000;

/// [`Peers`] of one process.
pub struct SimPeers {
    /// The world.
    pub sim: Sim,
    /// Who asks.
    pub node: u64,
    /// Its process.
    pub boot: u64,
}

type Answered<T> = BoxFuture<'static, Result<T, String>>;

impl SimPeers {
    fn call<T: Send + 'static>(
        &self,
        to: u64,
        give_up_ms: u64,
        answer: impl FnOnce(Answers) -> Answered<T> + Send + 'static,
    ) -> Answered<T> {
        let (node, boot) = (self.node, self.boot);
        let (tx, rx) = oneshot::channel();
        self.sim.with(|world| world.call(node, boot, to, answer, tx));
        let clock = self.sim.clock().clone();
        let until = Instant::now() + Duration::from_millis(give_up_ms);
        async move {
            match clock.by(until, rx).await {
                Some(Ok(answer)) => answer,
                Some(Err(_)) => Err("the connection was lost".into()),
                None => Err("no word from there".into()),
            }
        }
        .boxed()
    }
}

impl Peers for SimPeers {
    fn report(&self, node: u64, verdict: Verdict, judged: Option<Judged>) -> Answered<Option<Stamp>> {
        self.call(node, CALL_MS, move |answers| {
            async move { Ok(answers.report(verdict, judged).await) }.boxed()
        })
    }

    fn urgent(&self, node: u64, cluster: ClusterId, bound_ms: u64) -> Answered<Verdict> {
        self.call(node, CALL_MS + bound_ms, move |answers| {
            async move {
                let verdict = answers.urgent(cluster, bound_ms).await;
                verdict.ok_or_else(|| "this node does not watch that cluster".into())
            }
            .boxed()
        })
    }

    fn delegate(&self, node: u64, delegation: Delegation) -> Answered<StepEnd> {
        let limit = CALL_MS + delegation.within.as_millis() as u64;
        self.call(node, limit, move |answers| async move { Ok(answers.delegate(delegation).await) }.boxed())
    }

    fn marks(&self, node: u64, cluster: ClusterId) -> Answered<Marks> {
        self.call(node, CALL_MS, move |answers| {
            async move {
                let marks = answers.marks(cluster).await;
                marks.ok_or_else(|| "this node does not watch that cluster".into())
            }
            .boxed()
        })
    }

    fn level(&self, node: u64) -> Answered<u32> {
        self.call(node, CALL_MS, move |answers| ready(Ok(answers.level())).boxed())
    }

    fn submit(
        &self,
        node: u64,
        change: Change,
        by: String,
        request_id: Option<String>,
    ) -> Answered<(u64, Outcome)> {
        self.call(node, 5 * CALL_MS, move |answers| {
            async move { answers.submit(change, &by, request_id).await.map_err(|e| e.to_string()) }.boxed()
        })
    }
}

impl World {
    fn call<T: Send + 'static>(
        &mut self,
        from: u64,
        boot: u64,
        to: u64,
        answer: impl FnOnce(Answers) -> Answered<T> + Send + 'static,
        reply: oneshot::Sender<Result<T, String>>,
    ) {
        let incarnation = self.nodes.get(&from).map(|n| n.incarnation.clone());
        self.travel(End::Node(from), End::Node(to), move |world| {
            // The gate: members of the group only, by the incarnation that the log names.
            if !incarnation.is_some_and(|incarnation| world.admits(to, from, &incarnation)) {
                return;
            }
            let Some(entry) = world.nodes.get(&to) else { return };
            let Some(process) = &entry.process else { return };
            let (there, Some(actors)) = (process.boot, process.actors.clone()) else { return };
            let sim = world.handle.clone();
            world.as_process(to, there, move |_| {
                let work = answer(actors.answers.clone());
                actors.tools.start(async move {
                    let answer = work.await;
                    sim.with(|world| {
                        world.travel(End::Node(to), End::Node(from), move |world| {
                            world.as_process(from, boot, move |_| {
                                let _ = reply.send(answer);
                            });
                        });
                    });
                });
            });
        });
    }
}
