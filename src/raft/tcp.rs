//! Ways to other nodes over TCP, with HTTP/2 and, where there are certificates, TLS.

use std::sync::Arc;
use std::time::Duration;

use tonic::transport::Endpoint;

use super::options::Profile;
use super::ports::{Line, Net};
use super::tls::Tls;

/// How this node dials.
pub struct Tcp {
    group: String,
    profile: Profile,
    tls: Option<Tls>,
}

impl Tcp {
    /// Those of a node of `group`.
    pub fn ways(group: &str, profile: Profile, tls: Option<Tls>) -> Arc<dyn Net> {
        Arc::new(Tcp { group: group.to_owned(), profile, tls })
    }

    fn keep_alive(&self) -> Duration {
        self.profile.election_timeout_max().max(Duration::from_millis(500))
    }
}

impl Net for Tcp {
    fn dial_lazily(&self, node_id: u64, address: &str) -> Result<Line, String> {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|error| error.to_string())?
            .connect_timeout(self.profile.connect_timeout())
            .tcp_nodelay(true)
            // A peer that vanished without a word is noticed within two of these, whatever is in flight.
            .http2_keep_alive_interval(self.keep_alive())
            .keep_alive_timeout(self.keep_alive())
            .keep_alive_while_idle(true);
        if endpoint.uri().port().is_none() {
            return Err("HOST:PORT is needed".to_owned());
        }
        if let Some(tls) = &self.tls {
            endpoint =
                endpoint.tls_config(tls.client(node_id, &self.group)).map_err(|error| error.to_string())?;
        }
        Ok(Line::Tcp(endpoint.connect_lazy()))
    }
}
