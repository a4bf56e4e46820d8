//! The gRPC API `quorate.v1`: services over a [`backend::Backend`], errors with reasons, forwarding to the leader,
//! health and reflection. It translates, routes and words; what may be done is judged by `core`.

pub mod backend;
mod call;
mod convert;
mod desk;
mod door;
mod events;
mod forward;
mod home;
mod limit;
mod listener;
mod nodes;
mod operations;
mod policy;
mod recovery;
mod status;
mod topology;

pub use self::{
    door::Door,
    listener::{ClientTls, Limits, ListenError, bind, serve},
    status::{DOMAIN, ErrorInfo, error_info},
};

use std::sync::Arc;

use tokio::sync::watch;
use tonic::service::{Interceptor, InterceptorLayer, Routes, RoutesBuilder};

use self::{backend::Backend, call::Port, desk::Desk};
use crate::proto::v1::{
    events_server::EventsServer, nodes_server::NodesServer, operations_server::OperationsServer,
    policy_server::PolicyServer, recovery_server::RecoveryServer, topology_server::TopologyServer,
};

/// Longest request that is read.
pub const REQUEST_BYTES_MAX: usize = 1 << 20;
/// Longest answer that is sent.
pub const ANSWER_BYTES_MAX: usize = 32 << 20;

macro_rules! mount {
    ($routes:expr, $desk:expr, $($server:ident: $module:ident::$service:ident),* $(,)?) => { $(
        $routes.add_service(
            $server::new($module::$service { desk: $desk.clone() })
                .max_decoding_message_size(REQUEST_BYTES_MAX)
                .max_encoding_message_size(ANSWER_BYTES_MAX),
        );
    )* };
}

/// The client services for the node port, where peers pass their clients' calls on: `gate` lets members of the group
/// in only.
pub fn peer_routes<G>(backend: Arc<dyn Backend>, gate: G) -> Routes
where
    G: Interceptor + Clone + Send + Sync + 'static,
{
    let applied = backend.applied();
    let routes = mounted(Desk { backend, applied, port: Port::Nodes });
    let limited = limit::limited(
        routes,
        limit::Rules { places: Some(limit::Places::of_nodes()), ..Default::default() },
    );
    Routes::from(limited.into_axum_router().layer(InterceptorLayer::new(gate)))
}

/// The client services, for the client port.
fn routes(backend: Arc<dyn Backend>, applied: watch::Receiver<u64>) -> Routes {
    mounted(Desk { backend, applied, port: Port::Clients })
}

fn mounted(desk: Desk) -> Routes {
    let mut routes = RoutesBuilder::default();
    mount!(
        routes,
        desk,
        TopologyServer: topology::Topology,
        RecoveryServer: recovery::Recovery,
        OperationsServer: operations::Operations,
        PolicyServer: policy::Policy,
        NodesServer: nodes::Nodes,
        EventsServer: events::Events,
    );
    routes.routes()
}
