//! Calls between nodes: carried over a connection to the product's service in the other process, and its answer back.

use std::{collections::BTreeMap, future::pending, sync::Arc, time::Duration};

use futures::FutureExt as _;
use quorate::raft::ports::{Carried, Carrier, Line, Net};
use tokio::{
    sync::{Mutex, mpsc, oneshot},
    time::timeout,
};
use tonic::{
    Status,
    body::Body,
    codegen::{Service as _, http},
};

use super::{
    body::{Arriving, Piece, take_apart},
    wire::{ConnNo, Way},
};
use crate::world::{Sim, World};

type Head = http::response::Parts;
type Answered = Result<(Head, Vec<Piece>), String>;

/// The ways from one process.
#[derive(Clone)]
pub struct SimNet {
    /// The world.
    pub sim: Sim,
    /// Whose.
    pub node: u64,
    /// Its process.
    pub boot: u64,
    /// How long a dial may take.
    pub dial_within: Duration,
}

impl Net for SimNet {
    fn dial_lazily(&self, _node_id: u64, address: &str) -> Result<Line, String> {
        let to = address.strip_prefix("node").and_then(|rest| rest.split(':').next()?.parse().ok());
        let to = to.ok_or_else(|| format!("nobody has the address {address:?}"))?;
        Ok(Line::Other(Arc::new(SimLine { net: self.clone(), to, conn: Arc::default() })))
    }
}

#[derive(Clone)]
struct SimLine {
    net: SimNet,
    to: u64,
    conn: Arc<Mutex<Option<ConnNo>>>,
}

impl Carrier for SimLine {
    fn carry(&self, call: http::Request<Body>) -> Carried {
        let line = self.clone();
        async move { Ok(line.carried(call).await?) }.boxed()
    }
}

impl SimLine {
    async fn carried(self, call: http::Request<Body>) -> Result<http::Response<Body>, Status> {
        let (head, body) = call.into_parts();
        let pieces = take_apart(body).await?;
        let conn = self.connected().await.map_err(Status::unavailable)?;
        let (tell, answer) = oneshot::channel();
        let no = self.net.sim.with(|world| world.begin_call(conn, head, pieces, tell));
        let mut guard = Guard { sim: self.net.sim.clone(), call: Some(no) };
        let (head, pieces) = match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(what)) => return Err(Status::unavailable(what)),
            Err(_) => return Err(Status::unavailable("the connection was lost")),
        };
        guard.call = None;
        Ok(http::Response::from_parts(head, Arriving::whole(pieces)))
    }

    /// The connection that is open, or a new one.
    async fn connected(&self) -> Result<ConnNo, String> {
        let mut known = self.conn.lock().await;
        let SimNet { sim, node, boot, dial_within } = &self.net;
        if let Some(conn) = known.filter(|conn| sim.with(|world| world.conn_open(*conn))) {
            return Ok(conn);
        }
        *known = None;
        let (tell, answer) = oneshot::channel();
        sim.with(|world| world.dial_node((*node, *boot), self.to, tell));
        let conn = match timeout(*dial_within, answer).await {
            Ok(Ok(end)) => end?,
            _ => return Err("the dial was not answered in time".to_owned()),
        };
        *known = Some(conn);
        Ok(conn)
    }
}

/// Gives a call up that nobody waits for any more.
struct Guard {
    sim: Sim,
    call: Option<u64>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(call) = self.call {
            self.sim.leave(move |world| world.cancel_call(call));
        }
    }
}

/// A call that has no answer yet.
struct Call {
    conn: ConnNo,
    tell: oneshot::Sender<Answered>,
    /// The rest of its body goes there, once its head has come.
    body: Option<mpsc::UnboundedSender<Piece>>,
    /// Told: its handler ends.
    handler: Option<oneshot::Sender<()>>,
}

/// All calls.
#[derive(Default)]
pub struct Calls {
    calls: BTreeMap<u64, Call>,
    next: u64,
}

impl World {
    fn begin_call(
        &mut self,
        conn: ConnNo,
        head: http::request::Parts,
        pieces: Vec<Piece>,
        tell: oneshot::Sender<Answered>,
    ) -> u64 {
        self.calls.next += 1;
        let no = self.calls.next;
        if !self.conn_open(conn) {
            // Whoever waits hears it at once.
            drop(tell);
            return no;
        }
        self.calls.calls.insert(no, Call { conn, tell, body: None, handler: None });
        let mut pieces = pieces.into_iter();
        let first = pieces.next();
        let rest: Vec<Piece> = pieces.chain([Piece::End]).collect();
        // What is short travels as one; a stream in pieces, each by itself.
        let (together, apart) = if rest.len() == 1 { (rest, Vec::new()) } else { (Vec::new(), rest) };
        let together: Vec<Piece> = first.into_iter().chain(together).collect();
        self.send_over(conn, Way::There, move |world| world.handle(no, head, together));
        for piece in apart {
            self.send_over(conn, Way::There, move |world| world.pass_on(no, piece));
        }
        no
    }

    /// A call has come to a node: the product's service is to answer it.
    fn handle(&mut self, no: u64, head: http::request::Parts, pieces: Vec<Piece>) {
        // Given up, or its connection is.
        let Some(call) = self.calls.calls.get_mut(&no) else { return };
        let conn = call.conn;
        let (tell, body) = Arriving::begun();
        for piece in &pieces {
            let _ = tell.send(piece.clone());
        }
        let (handler, gone) = oneshot::channel();
        call.body = Some(tell);
        call.handler = Some(handler);
        let Some((node, _)) = self.receiver(conn, Way::There) else { return };
        let Some(process) = self.process(node) else { return };
        let Some(member) = &process.member else { return };
        let (mut service, sim) = (member.service.clone(), self.handle.clone());
        let path = head.uri.path().to_owned();
        let asked = pieces.first().cloned();
        let work = async move {
            let answered = service.call(http::Request::from_parts(head, body)).await;
            let (head, body) = match answered {
                Ok(answer) => answer.into_parts(),
                Err(never) => match never {},
            };
            let Ok(pieces) = take_apart(body).await else { return };
            sim.with(|world| {
                world.overhear(node, &path, asked.as_ref(), &pieces);
                world.answer(no, conn, head, pieces);
            });
        };
        let task = async move {
            tokio::select! {
                biased;
                () = told(gone) => {}
                () = work => {}
            }
        };
        let process = self.process(node).expect("looked at above");
        tokio::spawn(process.tasks.task(task.boxed()));
    }

    fn pass_on(&mut self, no: u64, piece: Piece) {
        if let Some(body) = self.calls.calls.get(&no).and_then(|call| call.body.as_ref()) {
            // Its handler may have ended.
            let _ = body.send(piece);
        }
    }

    fn answer(&mut self, no: u64, conn: ConnNo, head: Head, pieces: Vec<Piece>) {
        self.send_over(conn, Way::Back, move |world| {
            if let Some(call) = world.calls.calls.remove(&no) {
                let _ = call.tell.send(Ok((head, pieces)));
            }
        });
    }

    /// The caller waits no more: its handler ends when it hears so.
    fn cancel_call(&mut self, no: u64) {
        if let Some(call) = self.calls.calls.remove(&no)
            && let Some(handler) = call.handler
        {
            self.send_over(call.conn, Way::There, move |_| {
                let _ = handler.send(());
            });
        }
    }

    /// A connection is over: its callers hear so. Handlers on the other side hear nothing of it.
    pub(super) fn calls_lost(&mut self, conn: ConnNo) {
        let lost: Vec<Call> =
            self.calls.calls.extract_if(.., |_, call| call.conn == conn).map(|(_, call)| call).collect();
        for call in lost {
            let _ = call.tell.send(Err("the connection was lost".to_owned()));
        }
    }
}

/// Returns when it was said, never when nobody is left to say it.
async fn told(word: oneshot::Receiver<()>) {
    if word.await.is_err() {
        pending::<()>().await;
    }
}
