//! Following the replicated state: who is watched, and how often. Looked at after each applied entry, so that only what
//! differs is copied from the state.

use super::{
    Observer,
    scene::{Shape, Wish},
};
use crate::{
    core::replicated::State,
    model::{
        policy::Policy,
        server::{ClusterId, ServerId},
    },
    probe::ProbeTarget,
};

/// How the state differs from what this node does.
#[derive(Default)]
struct News {
    policy: Option<Policy>,
    /// Members to be watched, or watched otherwise.
    wishes: Vec<Wish>,
    /// Clusters that are new, have another primary, or began or ended a recovery.
    shapes: Vec<(ClusterId, Shape)>,
    /// Servers that are no members any more.
    left: Vec<(ClusterId, ServerId)>,
    /// Clusters that are there no more.
    gone: Vec<ClusterId>,
}

impl Observer {
    pub(super) fn follow_state(&mut self) {
        let news = self.tools.read(|state| self.news(state));
        if let Some(policy) = news.policy {
            self.policy = policy;
        }
        news.wishes.into_iter().for_each(|wish| self.watch(wish));
        news.shapes.into_iter().for_each(|(cluster, shape)| self.reshape(cluster, shape));
        for (cluster, server) in news.left {
            self.leave(&cluster, &server);
        }
        for cluster in news.gone {
            self.forget(&cluster);
        }
        for id in self.clusters() {
            self.publish(&id);
        }
    }

    fn news(&self, state: &State) -> News {
        let mut news = News::default();
        if state.policy != self.policy {
            news.policy = Some(state.policy.clone());
        }
        for (id, cluster) in &state.clusters {
            let scene = self.scenes.get(id);
            let suits = |member| scene.is_some_and(|scene| scene.suits(cluster, member, state));
            let unlike = cluster.members.values().filter(|member| !suits(member));
            news.wishes.extend(unlike.map(|member| Wish::of(cluster, member, state)));
            let shape = Shape::of(cluster);
            if scene.and_then(|scene| scene.shape) != Some(shape) {
                news.shapes.push((id.clone(), shape));
            }
            let watched = scene.into_iter().flat_map(|scene| scene.servers.keys());
            let left = watched.filter(|server| !cluster.members.contains_key(*server));
            news.left.extend(left.map(|server| (id.clone(), server.clone())));
        }
        let gone = self.scenes.keys().filter(|id| !state.clusters.contains_key(*id));
        news.gone.extend(gone.cloned());
        news
    }

    /// Watches a server as is wished; goes on with its prober where it has one at that address.
    fn watch(&mut self, wish: Wish) {
        self.bring_home(&wish);
        let now_ms = self.tools.now_ms();
        let scene = self.scenes.entry(wish.cluster.clone()).or_default();
        let known = scene.servers.get(&wish.target.server);
        if known.is_some_and(|watched| watched.target.address == wish.target.address) {
            return scene.adjust(wish, now_ms);
        }
        let (server, address) = (wish.target.server.clone(), wish.target.address.clone());
        let probed = ProbeTarget { server: Some(server.clone()), address };
        let probe = self.tools.ports.servers.watch(probed, wish.settings, self.probes.clone());
        self.tools.ports.servers.prepare(&wish.target);
        self.homes.insert(server, wish.cluster.clone());
        scene.begin(wish, probe, now_ms);
    }

    /// A server that belongs to another cluster now is not watched twice.
    fn bring_home(&mut self, wish: &Wish) {
        let server = &wish.target.server;
        let Some(home) = self.homes.get_mut(server).filter(|home| **home != wish.cluster) else { return };
        let moved = self.scenes.get_mut(home).and_then(|scene| scene.take(server));
        *home = wish.cluster.clone();
        if let Some(moved) = moved {
            self.scenes.entry(wish.cluster.clone()).or_default().put(server.clone(), moved);
        }
    }

    /// A new primary, or the end of a recovery: who follows whom has just changed, and what was read before is no
    /// longer true. Everyone is asked again at once.
    fn reshape(&mut self, cluster: ClusterId, shape: Shape) {
        let scene = self.scenes.entry(cluster).or_default();
        scene.reprobe();
        (scene.shape, scene.shape_since_ms) = (Some(shape), self.tools.now_ms());
    }

    /// Stops watching a server, unless another cluster has it now.
    fn leave(&mut self, cluster: &ClusterId, server: &ServerId) {
        if self.scenes.get_mut(cluster).and_then(|scene| scene.take(server)).is_some() {
            self.homes.remove(server);
            self.tools.ports.servers.forget(server);
        }
    }

    fn forget(&mut self, cluster: &ClusterId) {
        let servers: Vec<ServerId> =
            self.scenes.get(cluster).into_iter().flat_map(|scene| scene.servers.keys()).cloned().collect();
        servers.iter().for_each(|server| self.leave(cluster, server));
        self.scenes.remove(cluster);
        self.views.forget(cluster);
    }
}
