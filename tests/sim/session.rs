//! A logged-in session of a node on a server, for steps and for single readings.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use super::{
    fleet::{Account, Answer, Dialled, ServerNo, Statement},
    lines::LineNo,
    net::End,
    world::{POISON, Sim},
};

/// Why there is no session, or no answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Lost {
    /// Nobody listens.
    Refused,
    /// A bounded wait ended without a word. What was asked may still happen.
    Silent(String),
    /// The server, or this node, ended the connection.
    Closed(String),
    /// The server said no to the login.
    TurnedAway(Dialled),
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused => f.write_str("connection refused: nothing listens there"),
            Self::Silent(what) => write!(f, "no {what} in time"),
            Self::Closed(why) => write!(f, "connection closed: {why}"),
            Self::TurnedAway(how) => write!(f, "turned away: {how:?}"),
        }
    }
}

/// The end of a session, however it comes; shared with whoever may cut it.
#[derive(Default)]
struct Ending {
    over: Option<String>,
    waiting: Vec<oneshot::Sender<String>>,
}

/// What can cut a session, whoever uses it.
#[derive(Clone)]
pub struct Cut {
    sim: Sim,
    line: LineNo,
    end: Arc<Mutex<Ending>>,
}

impl Cut {
    /// Ends the session; what was sent may still land.
    pub fn cut(&self) {
        let line = self.line;
        self.sim.leave(move |world| world.hang_up(line));
        finish(&self.end, "cut by this node");
    }

    /// Resolves when the session has ended.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let (tx, rx) = oneshot::channel();
        let mut end = self.end.lock().expect(POISON);
        match &end.over {
            Some(why) => drop(tx.send(why.clone())),
            None => end.waiting.push(tx),
        }
        async move { drop(rx.await) }
    }

    /// Why it is over, if it is.
    pub fn over(&self) -> Option<String> {
        self.end.lock().expect(POISON).over.clone()
    }
}

fn finish(end: &Mutex<Ending>, why: &str) {
    let mut end = end.lock().expect(POISON);
    end.over.get_or_insert_with(|| why.to_owned());
    for waiting in end.waiting.drain(..) {
        let _ = waiting.send(why.to_owned());
    }
}

/// A session; ends when it is dropped.
pub struct SimSession {
    cut: Cut,
}

impl Drop for SimSession {
    fn drop(&mut self) {
        self.cut.cut();
    }
}

impl SimSession {
    /// Dials and logs in, within a bound.
    pub async fn open(
        sim: &Sim,
        (node, boot): (u64, u64),
        server: ServerNo,
        account: Account,
        within: Duration,
    ) -> Result<Self, Lost> {
        let until = Instant::now() + within;
        let (tx, rx) = oneshot::channel();
        let end = Arc::<Mutex<Ending>>::default();
        let line = sim.with(|world| {
            world.dial(End::Node(node), Some((node, boot)), server, account, move |_, end| {
                let _ = tx.send(end);
            })
        });
        let session = Self { cut: Cut { sim: sim.clone(), line, end: end.clone() } };
        let dialled = sim.clock().by(until, rx).await.ok_or_else(|| Lost::Silent("greeting".into()))?;
        match dialled.map_err(|_| Lost::Closed("the process ended".into()))? {
            Dialled::Greeted(_) => {
                sim.with(|world| world.on_closed(line, move |_, why| finish(&end, &why)));
                Ok(session)
            }
            Dialled::Refused => Err(Lost::Refused),
            how => Err(Lost::TurnedAway(how)),
        }
    }

    /// Runs statements in one round trip.
    pub async fn run(&mut self, statements: Vec<Statement>, within: Duration) -> Result<Answer, Lost> {
        let until = Instant::now() + within;
        if let Some(why) = self.cut.over() {
            return Err(Lost::Closed(why));
        }
        let (tx, rx) = oneshot::channel();
        let line = self.cut.line;
        self.cut.sim.with(|world| world.ask(line, statements, move |_, answer| drop(tx.send(answer))));
        let answered = async {
            tokio::select! {
                biased;
                answer = rx => answer.unwrap_or_else(|_| Err("the connection has ended".into())),
                () = self.cut.ended() => Err("the connection has ended".into()),
            }
        };
        match self.cut.sim.clock().by(until, answered).await {
            Some(Ok(answer)) => Ok(answer),
            Some(Err(why)) => Err(Lost::Closed(why)),
            None => {
                // As the real driver: not safe to go on with after a time-out.
                self.cut.cut();
                Err(Lost::Silent("answer".into()))
            }
        }
    }

    /// What can cut it from elsewhere.
    pub fn line(&self) -> Cut {
        self.cut.clone()
    }

    /// Its connection.
    pub fn line_no(&self) -> LineNo {
        self.cut.line
    }

    /// Whether it can still be used.
    pub fn is_open(&self) -> bool {
        self.cut.over().is_none()
    }
}
