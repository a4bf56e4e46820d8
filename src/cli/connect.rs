//! Asks nodes in turn until one answers.

use std::{fs, future::Future, time::Duration};

use tonic::{
    Request, Response, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{
    args::Connect,
    error::{CliError, EXIT_NO_LEADER, EXIT_UNREACHABLE, is_transport, transport_text},
};

/// How long one dial may take.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// Open ways to the group.
pub struct Session {
    ways: Vec<(String, Channel)>,
    first: usize,
    timeout: Duration,
    /// Read without a leader.
    pub stale: bool,
    /// Who asks.
    pub by: String,
    /// Id of the change that is made, if one is.
    pub request_id: String,
}

impl Session {
    /// Prepares the ways; nothing is dialled yet.
    pub fn new(connect: &Connect) -> Result<Self, CliError> {
        let tls = tls_of(connect)?;
        let mut ways = Vec::new();
        for text in &connect.endpoints {
            ways.push((text.clone(), way(text, tls.as_ref())?));
        }
        if ways.is_empty() {
            return Err(CliError::usage("no endpoint; give --endpoint HOST:PORT or set QUORATE_ENDPOINTS"));
        }
        Ok(Self {
            ways,
            first: 0,
            timeout: connect.timeout.0,
            stale: connect.stale,
            by: connect.by.clone().unwrap_or_else(whoami),
            request_id: connect.request_id.clone().unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
        })
    }

    /// How many ways there are.
    pub fn ways(&self) -> usize {
        self.ways.len()
    }

    /// Starts with the next way from now on.
    pub fn turn(&mut self) {
        self.first = (self.first + 1) % self.ways.len();
    }

    /// The way that answered last.
    pub fn channel(&self) -> (String, Channel) {
        self.ways[self.first].clone()
    }

    /// Asks each node in turn. A change carries its request id, so asking another node after a broken connection is no
    /// second change.
    pub async fn ask<I, O, F>(
        &mut self,
        input: I,
        call: impl Fn(Channel, Request<I>) -> F,
    ) -> Result<O, CliError>
    where
        I: Clone,
        F: Future<Output = Result<Response<O>, Status>>,
    {
        self.ask_for(self.timeout, input, call).await
    }

    /// The same with a bound of its own.
    pub async fn ask_for<I, O, F>(
        &mut self,
        bound: Duration,
        input: I,
        call: impl Fn(Channel, Request<I>) -> F,
    ) -> Result<O, CliError>
    where
        I: Clone,
        F: Future<Output = Result<Response<O>, Status>>,
    {
        let mut unreachable = Vec::new();
        let mut leaderless: Option<CliError> = None;
        for _ in 0..self.ways.len() {
            let (name, channel) = self.channel();
            let mut request = Request::new(input.clone());
            request.set_timeout(bound);
            match call(channel, request).await {
                Ok(answer) => return Ok(answer.into_inner()),
                Err(status) if is_transport(&status) => {
                    unreachable.push(format!("{name}: {}", transport_text(&status)));
                }
                Err(status) => {
                    let mut error = CliError::from_status(&status);
                    if error.reason == "FATE_UNKNOWN" {
                        error.text.push_str(&format!(" (--request-id {})", self.request_id));
                    }
                    if error.exit != EXIT_NO_LEADER {
                        return Err(error);
                    }
                    leaderless = Some(error);
                }
            }
            self.turn();
        }
        Err(leaderless.unwrap_or_else(|| none_reachable(&unreachable)))
    }

    /// Turns a stream's end into an error, or `None` when another way may do.
    pub fn stream_error(&self, status: &Status) -> Option<CliError> {
        if is_transport(status) { None } else { Some(CliError::from_status(status)) }
    }
}

/// No way led anywhere.
pub fn none_reachable(each: &[String]) -> CliError {
    // How the transport puts it when a port that wants TLS is spoken to in plain text.
    let other_protocol = each.iter().any(|why| why.contains("frame with invalid size"));
    let hint = match other_protocol {
        true => {
            "what answers there does not speak plain gRPC: a node with certificates? Give --tls-ca, --tls-cert and --tls-key"
        }
        false => "is `quorate serve` running there? --endpoint names others",
    };
    CliError::new(
        EXIT_UNREACHABLE,
        "UNREACHABLE",
        format!("no node can be reached ({}); {hint}", each.join("; ")),
    )
}

fn way(text: &str, tls: Option<&ClientTlsConfig>) -> Result<Channel, CliError> {
    let bad = |why: String| CliError::usage(format!("endpoint `{text}`: {why}"));
    let bare = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://")).unwrap_or(text);
    let address: crate::model::address::Address =
        bare.trim_end_matches('/').parse().map_err(|e| bad(format!("{e}")))?;
    if text.starts_with("https://") && tls.is_none() {
        return Err(bad("https needs --tls-ca".into()));
    }
    let scheme = if tls.is_some() { "https" } else { "http" };
    let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
        .map_err(|e| bad(e.to_string()))?
        .connect_timeout(DIAL_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(Duration::from_secs(10))
        .keep_alive_timeout(Duration::from_secs(5));
    if let Some(tls) = tls {
        endpoint = endpoint.tls_config(tls.clone()).map_err(|e| bad(e.to_string()))?;
    }
    Ok(endpoint.connect_lazy())
}

fn tls_of(connect: &Connect) -> Result<Option<ClientTlsConfig>, CliError> {
    let read = |path: &std::path::Path| {
        fs::read(path).map_err(|e| CliError::usage(format!("{} cannot be read: {e}", path.display())))
    };
    let Some(ca) = &connect.tls_ca else {
        return match connect.tls_cert.is_some() || connect.tls_name.is_some() {
            true => Err(CliError::usage("--tls-cert, --tls-key and --tls-name need --tls-ca")),
            false => Ok(None),
        };
    };
    let mut config = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(ca)?));
    if let (Some(cert), Some(key)) = (&connect.tls_cert, &connect.tls_key) {
        config = config.identity(Identity::from_pem(read(cert)?, read(key)?));
    }
    if let Some(name) = &connect.tls_name {
        config = config.domain_name(name);
    }
    Ok(Some(config))
}

/// Login and host, as far as the environment knows them.
fn whoami() -> String {
    let login = ["SUDO_USER", "USER", "LOGNAME"].into_iter().find_map(|name| std::env::var(name).ok());
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = format!("{}@{host}", login.unwrap_or_else(|| "somebody".into()));
    name.chars().take(64).filter(|c| !c.is_control()).collect()
}
