//! How much is asked of this node at once. One request too many is refused before its message is read, with the reason
//! `OVERLOADED`: what is being answered is answered, and memory stays bounded.

use std::{
    collections::HashMap,
    convert::Infallible,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::{FutureExt as _, TryStreamExt as _, future::BoxFuture};
use http_body::Frame;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::AbortHandle,
    time::{sleep, timeout_at},
};
use tonic::{
    Code, Status,
    codegen::{Body, Bytes, Service, http},
    service::{AxumBody, AxumRouter, Routes},
};

use super::{
    door::{Guests, remote},
    status::status,
};

/// Requests that are answered at once.
const AT_ONCE: usize = 256;
/// What one client's connection may have of them: with at least so many places left, so many requests. Whoever asks one
/// thing at a time finds a place beside those who ask as much as they can.
const OF_ONE_CLIENT: [(usize, usize); 3] = [(128, 64), (64, 8), (0, 1)];
/// Of another node's connection: it asks for many.
const OF_ONE_NODE: [(usize, usize); 1] = [(0, AT_ONCE)];
/// Backups at once: each is a copy of the whole state.
const BACKUPS: usize = 2;
/// Within this a request must have arrived whole.
const ARRIVES_WITHIN: Duration = Duration::from_secs(10);
/// Within this an answer must have been taken; a backup.
const TAKEN_WITHIN: Duration = Duration::from_secs(60);
const BACKUP_WITHIN: Duration = Duration::from_secs(300);
/// When one who was refused may try again, milliseconds.
const AGAIN_MS: u64 = 500;

/// What kind of call it is, by its path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Asked and answered.
    Short,
    /// Lasts as long as its client likes, or as something it waits for.
    Lasting,
    /// The whole state, in pieces.
    Backup,
}

impl Kind {
    fn of(path: &str) -> Self {
        match path {
            "/quorate.v1.Events/WatchEvents"
            | "/quorate.v1.Recovery/WaitRecovery"
            | "/grpc.health.v1.Health/Watch" => Self::Lasting,
            "/quorate.v1.Nodes/Backup" => Self::Backup,
            path if path.starts_with("/grpc.reflection.") => Self::Lasting,
            _ => Self::Short,
        }
    }

    fn taken_within(self) -> Option<Duration> {
        match self {
            Self::Short => Some(TAKEN_WITHIN),
            Self::Backup => Some(BACKUP_WITHIN),
            Self::Lasting => None,
        }
    }
}

/// Places for requests.
#[derive(Clone)]
pub struct Places {
    short: Arc<Semaphore>,
    lasting: Arc<Semaphore>,
    backups: Arc<Semaphore>,
    most_lasting: usize,
    of_one: &'static [(usize, usize)],
    /// Short ones, by connection.
    by_connection: Arc<Mutex<HashMap<SocketAddr, usize>>>,
}

/// A place that is taken; given back when it is dropped.
struct Place {
    _permit: OwnedSemaphorePermit,
    of: Option<(Places, SocketAddr)>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some((places, from)) = &self.of else { return };
        let mut by_connection = places.by_connection.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = by_connection.get_mut(from) {
            *count -= 1;
            if *count == 0 {
                by_connection.remove(from);
            }
        }
    }
}

impl Places {
    /// For clients: `lasting` streams and waits.
    pub fn of_clients(lasting: usize) -> Self {
        Self::new(lasting, &OF_ONE_CLIENT)
    }

    /// For calls that other nodes pass on, each over one connection.
    pub fn of_nodes() -> Self {
        Self::new(AT_ONCE, &OF_ONE_NODE)
    }

    fn new(most_lasting: usize, of_one: &'static [(usize, usize)]) -> Self {
        Self {
            short: Arc::new(Semaphore::new(AT_ONCE)),
            lasting: Arc::new(Semaphore::new(most_lasting)),
            backups: Arc::new(Semaphore::new(BACKUPS)),
            most_lasting,
            of_one,
            by_connection: Arc::default(),
        }
    }

    fn take(&self, kind: Kind, from: Option<SocketAddr>) -> Result<Place, Status> {
        let (places, most, what) = match kind {
            Kind::Short => (&self.short, AT_ONCE, "requests"),
            Kind::Lasting => (&self.lasting, self.most_lasting, "streams and waits"),
            Kind::Backup => (&self.backups, BACKUPS, "backups"),
        };
        let permit =
            places.clone().try_acquire_owned().map_err(|_| overloaded(most, what, "on this node"))?;
        let from = from.filter(|_| kind == Kind::Short);
        if let Some(from) = from {
            let mut by_connection = self.by_connection.lock().unwrap_or_else(PoisonError::into_inner);
            let count = by_connection.entry(from).or_default();
            let left = self.short.available_permits();
            let of_one = self.of_one.iter().find(|(least, _)| left >= *least).map_or(1, |(_, most)| *most);
            if *count >= of_one {
                return Err(overloaded(of_one, what, "on this connection"));
            }
            *count += 1;
        }
        Ok(Place { _permit: permit, of: from.map(|from| (self.clone(), from)) })
    }
}

fn overloaded(most: usize, what: &str, place: &str) -> Status {
    let text = format!("no more than {most} {what} at once {place} now; nothing was done, try again");
    status(Code::ResourceExhausted, "OVERLOADED", text, vec![("most", most.to_string())], Some(AGAIN_MS))
}

/// What stands before routes.
#[derive(Clone, Default)]
pub struct Rules {
    /// How much there may be at once.
    pub places: Option<Places>,
    /// Who is told that a connection has brought a request.
    pub guests: Option<Guests>,
}

/// Puts limits before these routes.
pub fn limited(routes: Routes, rules: Rules) -> Routes {
    let inner = routes.into_axum_router();
    Routes::from(AxumRouter::new().fallback_service(Limited { inner, rules }))
}

#[derive(Clone)]
struct Limited {
    inner: AxumRouter,
    rules: Rules,
}

type Answer = http::Response<AxumBody>;

impl Service<http::Request<AxumBody>> for Limited {
    type Response = Answer;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Answer, Infallible>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Service::<http::Request<AxumBody>>::poll_ready(&mut self.inner, context)
    }

    fn call(&mut self, request: http::Request<AxumBody>) -> Self::Future {
        let Rules { places, guests } = &self.rules;
        if let Some(guests) = guests {
            guests.called(request.extensions());
        }
        let Some(places) = places else {
            return self.inner.call(request).boxed();
        };
        let kind = Kind::of(request.uri().path());
        let place = match places.take(kind, remote(request.extensions())) {
            Ok(place) => place,
            Err(status) => return std::future::ready(Ok(status.into_http())).boxed(),
        };
        let request = match kind {
            Kind::Lasting => request,
            Kind::Short | Kind::Backup => request.map(arriving),
        };
        let answer = self.inner.call(request);
        async move {
            let answer = answer.await?;
            Ok(answer.map(|body| AxumBody::new(Taken::new(body, place, kind.taken_within()))))
        }
        .boxed()
    }
}

/// The body of a request, if it comes within [`ARRIVES_WITHIN`].
fn arriving(body: AxumBody) -> AxumBody {
    let until = tokio::time::Instant::now() + ARRIVES_WITHIN;
    let parts = futures::stream::try_unfold(body.into_data_stream(), move |mut parts| async move {
        match timeout_at(until, parts.try_next()).await {
            Ok(part) => Ok(part?.map(|part| (part, parts))),
            Err(_) => {
                let text = format!("the request did not arrive within {} s", ARRIVES_WITHIN.as_secs());
                let late = status(Code::DeadlineExceeded, "REQUEST_TOO_SLOW", text, vec![], None);
                Err(Box::<dyn std::error::Error + Send + Sync>::from(late))
            }
        }
    });
    AxumBody::from_stream(parts)
}

/// The body of an answer, which is thrown away where its client does not take it. It keeps the request's place.
struct Taken {
    inner: Arc<Mutex<Option<(AxumBody, Place)>>>,
    /// Throws it away.
    end: Option<AbortHandle>,
}

impl Taken {
    fn new(body: AxumBody, place: Place, within: Option<Duration>) -> Self {
        let inner = Arc::new(Mutex::new(Some((body, place))));
        let end = within.filter(|_| !is_whole(&inner)).map(|within| {
            let inner = inner.clone();
            let end = async move {
                sleep(within).await;
                inner.lock().unwrap_or_else(PoisonError::into_inner).take();
            };
            tokio::spawn(end).abort_handle()
        });
        Self { inner, end }
    }
}

/// Nothing of it is still to come.
fn is_whole(inner: &Mutex<Option<(AxumBody, Place)>>) -> bool {
    let inner = inner.lock().unwrap_or_else(PoisonError::into_inner);
    inner.as_ref().is_none_or(|(body, _)| body.is_end_stream())
}

impl Drop for Taken {
    fn drop(&mut self) {
        if let Some(end) = &self.end {
            end.abort();
        }
    }
}

impl Body for Taken {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let Some((body, _)) = inner.as_mut() else {
            return Poll::Ready(Some(Err("the answer was not taken in time".into())));
        };
        let frame = ready!(Pin::new(body).poll_frame(context));
        if frame.is_none() {
            inner.take();
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        is_whole(&self.inner)
    }
}
