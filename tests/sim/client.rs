//! Clients of the servers: each writes rows with numbers of its own to whatever lets it, and remembers what was
//! acknowledged. They know nothing of Quorate: they try the servers they can reach, one after another.

use std::collections::BTreeMap;

use super::{
    fleet::{Account, Answer, Dialled, ServerNo, Statement},
    lines::LineNo,
    net::End,
    trace::Event,
    world::World,
};

/// How long a client waits for an answer before it dials again, milliseconds.
const PATIENCE_MS: u64 = 1_500;

struct Client {
    server: usize,
    line: Option<LineNo>,
    /// Counts its attempts: an answer to an older one is only remembered.
    attempt: u64,
    pause_ms: u64,
}

/// A row that was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// By whom.
    pub server: ServerNo,
    /// When the client heard it, true milliseconds.
    pub at: u64,
}

/// All clients.
#[derive(Default)]
pub struct Clients {
    clients: BTreeMap<u32, Client>,
    next_row: u64,
    /// What was acknowledged.
    pub rows: BTreeMap<u64, Row>,
}

impl Clients {
    /// The last acknowledgement of a server.
    pub fn last(&self, server: ServerNo) -> Option<u64> {
        self.rows.values().rev().find(|row| row.server == server).map(|row| row.at)
    }
}

impl World {
    /// Another client, which begins with this server and pauses so long between two writes.
    pub fn start_client(&mut self, number: u32, server: usize, pause_ms: u64) {
        let client = Client { server, line: None, attempt: 0, pause_ms };
        self.clients.clients.insert(number, client);
        self.client_turn(number, 0);
    }

    fn client(&mut self, number: u32, attempt: u64) -> Option<&mut Client> {
        self.clients.clients.get_mut(&number).filter(|client| client.attempt == attempt)
    }

    /// Writes, over the connection it has or a new one.
    fn client_turn(&mut self, number: u32, attempt: u64) {
        let Some(client) = self.client(number, attempt) else { return };
        client.attempt += 1;
        let (attempt, server, line) = (client.attempt, ServerNo(client.server), client.line);
        match line {
            Some(line) => self.client_writes(number, attempt, line),
            None => {
                let from = End::Client(number);
                let line = self.dial(from, None, server, Account::App, move |world, end| {
                    let Some(client) = world.client(number, attempt) else { return };
                    let Some(line) = client.line else { return };
                    match end {
                        Dialled::Greeted(_) => world.client_writes(number, attempt, line),
                        _ => world.client_moves_on(number, attempt),
                    }
                });
                if let Some(client) = self.client(number, attempt) {
                    client.line = Some(line);
                }
            }
        }
        self.after(PATIENCE_MS, move |world| world.client_moves_on(number, attempt));
    }

    fn client_writes(&mut self, number: u32, attempt: u64, line: LineNo) {
        self.clients.next_row += 1;
        let row = self.clients.next_row;
        let server = ServerNo(self.clients.clients[&number].server);
        self.ask(line, vec![Statement::Insert(row)], move |world, answer| match answer {
            Ok(Answer { error: None, .. }) => {
                world.clients.rows.insert(row, Row { server, at: world.now });
                world.note(Event::Acknowledged { client: number, server, row });
                let Some(client) = world.client(number, attempt) else { return };
                let pause = client.pause_ms;
                // Its patience for this attempt is over with the answer.
                client.attempt += 1;
                let attempt = client.attempt;
                world.after(pause, move |world| world.client_turn(number, attempt));
            }
            // Read-only, closed, turned away: somewhere else.
            _ => world.client_moves_on(number, attempt),
        });
    }

    /// This server will not do, or says nothing: the next.
    fn client_moves_on(&mut self, number: u32, attempt: u64) {
        let servers = self.fleet.servers().len();
        let Some(client) = self.client(number, attempt) else { return };
        client.attempt += 1;
        client.server = (client.server + 1) % servers;
        let (attempt, pause) = (client.attempt, client.pause_ms);
        if let Some(line) = client.line.take() {
            self.hang_up(line);
        }
        self.after(pause.min(100), move |world| world.client_turn(number, attempt));
    }
}
