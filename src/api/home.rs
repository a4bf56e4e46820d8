//! The node as the clients' thread asks it: what takes time is done where the node's other work is, what many ask at once
//! is asked once, and what is read from the state is read right here.

use std::{
    collections::BTreeMap,
    future::{Future, pending},
    sync::{Arc, Mutex, PoisonError},
};

use futures::{
    FutureExt as _,
    future::{BoxFuture, Shared},
};
use tokio::{
    runtime::Handle,
    sync::{Semaphore, watch},
    task::JoinSet,
};

use super::backend::{
    Backend, Backup, DiscoverWish, Discovered, Failure, GroupChange, GroupView, LeaderChannel, LiveServer,
    PlanView, ProblemView, Wish,
};
use crate::{
    core::replicated::{Change, Outcome, State, recovery::Testimony},
    model::{
        address::Address,
        server::{ClusterId, ServerId},
    },
};

/// Questions of one kind that are under way at once; who asks meanwhile shares the next.
const AT_ONCE: usize = 4;

/// A node whose runtime is another than the caller's.
pub struct AtHome {
    node: Arc<dyn Backend>,
    home: Handle,
    barriers: Together<Result<(), Failure>>,
    groups: Together<GroupView>,
}

impl AtHome {
    /// That node, whose work is done there.
    pub fn new(node: Arc<dyn Backend>, home: Handle) -> Self {
        Self { node, home, barriers: Together::new(AT_ONCE), groups: Together::new(AT_ONCE) }
    }

    /// Does it at home; who does not wait for it any more ends it.
    fn there<T, F>(&self, work: impl FnOnce(Arc<dyn Backend>) -> F) -> BoxFuture<'static, T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let (work, home) = (work(self.node.clone()), self.home.clone());
        async move {
            let mut task = JoinSet::new();
            task.spawn_on(work, &home);
            match task.join_next().await {
                Some(Ok(done)) => done,
                Some(Err(error)) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                // The node ends, and its clients with it.
                _ => pending().await,
            }
        }
        .boxed()
    }
}

#[tonic::async_trait]
impl Backend for AtHome {
    fn node_id(&self) -> u64 {
        self.node.node_id()
    }

    fn look(&self, see: &mut dyn FnMut(&State)) {
        self.node.look(see);
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.node.applied()
    }

    fn leader(&self) -> watch::Receiver<Option<u64>> {
        self.node.leader()
    }

    fn leader_channel(&self) -> Option<LeaderChannel> {
        // Whoever asks first opens it for all.
        let _there = self.home.enter();
        self.node.leader_channel()
    }

    async fn barrier(&self) -> Result<(), Failure> {
        let ask = self.there(|node| async move { node.barrier().await });
        self.barriers.ask(ask).await
    }

    async fn submit(
        &self,
        change: Change,
        by: &str,
        request_id: Option<&str>,
    ) -> Result<(u64, Outcome), Failure> {
        let (by, id) = (by.to_owned(), request_id.map(str::to_owned));
        self.there(|node| async move { node.submit(change, &by, id.as_deref()).await }).await
    }

    fn live(&self, cluster: &ClusterId) -> BTreeMap<ServerId, LiveServer> {
        self.node.live(cluster)
    }

    fn problems(&self, cluster: &ClusterId) -> Vec<ProblemView> {
        self.node.problems(cluster)
    }

    async fn testimonies(&self, cluster: &ClusterId) -> Vec<Testimony> {
        let cluster = cluster.clone();
        self.there(|node| async move { node.testimonies(&cluster).await }).await
    }

    async fn discover(&self, wish: DiscoverWish) -> Result<Discovered, Failure> {
        self.there(|node| async move { node.discover(wish).await }).await
    }

    async fn plan(&self, wish: &Wish) -> Result<PlanView, Failure> {
        let wish = wish.clone();
        self.there(|node| async move { node.plan(&wish).await }).await
    }

    async fn start(&self, wish: &Wish, by: &str, request_id: Option<&str>) -> Result<u64, Failure> {
        let (wish, by, id) = (wish.clone(), by.to_owned(), request_id.map(str::to_owned));
        self.there(|node| async move { node.start(&wish, &by, id.as_deref()).await }).await
    }

    async fn init_group(&self, nodes: Vec<(u64, Address)>) -> Result<GroupView, Failure> {
        self.there(|node| async move { node.init_group(nodes).await }).await
    }

    async fn group(&self) -> GroupView {
        let ask = self.there(|node| async move { node.group().await });
        self.groups.ask(ask).await
    }

    async fn change_group(&self, change: GroupChange, by: &str) -> Result<String, Failure> {
        let by = by.to_owned();
        self.there(|node| async move { node.change_group(change, &by).await }).await
    }

    async fn backup(&self) -> Result<Backup, Failure> {
        self.there(|node| async move { node.backup().await }).await
    }
}

/// A question that many ask at once. Nobody gets an answer that was begun before they asked.
struct Together<T: Clone> {
    turns: Arc<Semaphore>,
    /// The one that waits for its turn.
    next: Arc<Mutex<Option<Answer<T>>>>,
}

type Answer<T> = Shared<BoxFuture<'static, T>>;

impl<T: Clone + Send + Sync + 'static> Together<T> {
    fn new(at_once: usize) -> Self {
        Self { turns: Arc::new(Semaphore::new(at_once)), next: Arc::default() }
    }

    /// The answer to `ask`, or to one that was asked before and is not begun yet.
    fn ask(&self, ask: BoxFuture<'static, T>) -> Answer<T> {
        let mut next = lock(&self.next);
        if let Some(answer) = &*next {
            return answer.clone();
        }
        let (turns, place) = (self.turns.clone(), self.next.clone());
        let answer = async move {
            let _turn = turns.acquire().await;
            lock(&place).take();
            ask.await
        };
        next.insert(answer.boxed().shared()).clone()
    }
}

fn lock<T: Clone>(next: &Mutex<Option<Answer<T>>>) -> std::sync::MutexGuard<'_, Option<Answer<T>>> {
    next.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn what_many_ask_at_once_is_asked_once_and_never_before_they_asked() {
        let (asked, gate) = (Arc::new(AtomicU32::new(0)), Arc::new(Semaphore::new(0)));
        let ask = || {
            let (asked, gate) = (asked.clone(), gate.clone());
            async move {
                let number = asked.fetch_add(1, Ordering::SeqCst) + 1;
                gate.acquire().await.expect("open").forget();
                number
            }
            .boxed()
        };
        let together = Together::new(2);
        let (mut first, mut second) = (together.ask(ask()), None);
        assert!((&mut first).now_or_never().is_none());
        assert!(second.insert(together.ask(ask())).now_or_never().is_none());
        let crowd: Vec<_> = (0..100).map(|_| tokio::spawn(together.ask(ask()))).collect();
        tokio::task::yield_now().await;
        assert_eq!(asked.load(Ordering::SeqCst), 2);
        // One who asked and went leaves the others their answer.
        crowd[0].abort();
        gate.add_permits(3);
        assert_eq!(first.await, 1);
        let answers = join_all(crowd.into_iter().skip(1)).await;
        assert!(answers.into_iter().all(|answer| answer.expect("answered") == 3));
        gate.add_permits(1);
        assert_eq!(together.ask(ask()).await, 4);
    }
}
