//! A server that speaks the MySQL protocol well enough to be read and changed, from recorded answers; and, from some packet
//! on, nonsense.

pub mod answers;
pub mod packets;

use std::{net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::AbortHandle,
};

use crate::{
    mysql::{
        answers::{Table, table},
        packets::{column, end, greeting, header, number, ok, row},
    },
    spoil::Spoil,
};

const MORE_RESULTS: u16 = 8;

/// What is sent in the place of one packet.
#[derive(Debug, Clone)]
pub enum What {
    /// Its payload, spoilt.
    Spoilt(Vec<Spoil>),
    /// Another payload.
    Payload(Vec<u8>),
    /// Other payloads, each after a word of the client.
    Payloads(Vec<Vec<u8>>),
    /// Bytes, whatever they are, and then nothing any more.
    Raw(Vec<u8>),
    /// A part of it, and then the end.
    Half,
    /// A part of it, and then nothing any more.
    HalfAndSilence,
    /// The end of the connection.
    Close,
    /// Nothing any more.
    Silence,
    /// This payload again and again.
    Endless(Vec<u8>),
}

/// How a server behaves.
#[derive(Debug, Clone)]
pub struct Script {
    /// What it greets with.
    pub version: String,
    /// Recorded answers.
    pub answers: String,
    /// From this packet of a connection on (the greeting is 0) ...
    pub from: usize,
    /// ... this happens. `None`: never.
    pub what: Option<What>,
    /// Cells of every answer that are replaced: their number, and what stands there.
    pub cells: Vec<(usize, Option<Vec<u8>>)>,
    /// From this question of a connection on, so many answers are left out at the end of it.
    pub answers_missing: (usize, usize),
    /// Connections with this number and later ones are served well.
    pub well_from: usize,
}

impl Script {
    /// An honest server.
    pub fn honest(version: &str, answers: &str) -> Self {
        Self {
            version: version.to_owned(),
            answers: answers.to_owned(),
            from: 0,
            what: None,
            cells: Vec::new(),
            answers_missing: (0, 0),
            well_from: usize::MAX,
        }
    }

    /// The same, but from packet `from` on.
    pub fn but(self, from: usize, what: What) -> Self {
        Self { from, what: Some(what), ..self }
    }
}

/// A listening server; it ends with this value.
pub struct Server {
    pub address: SocketAddr,
    task: AbortHandle,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Server {
    pub async fn start(script: Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let script = Arc::new(script);
        let task = tokio::spawn(async move {
            let mut number = 0;
            while let Ok((stream, _)) = listener.accept().await {
                let mut script = Script::clone(&script);
                if number >= script.well_from {
                    script = Script { what: None, cells: Vec::new(), answers_missing: (0, 0), ..script };
                }
                number += 1;
                tokio::spawn(async move {
                    let _gone = Connection { stream, script, sent: 0, asked: 0, sequence: 0 }.serve().await;
                });
            }
        })
        .abort_handle();
        Self { address, task }
    }
}

struct Connection {
    stream: TcpStream,
    script: Script,
    sent: usize,
    asked: usize,
    sequence: u8,
}

type Done = std::io::Result<()>;

impl Connection {
    async fn serve(mut self) -> Done {
        self.send(greeting(&self.script.version)).await?;
        self.receive().await?;
        self.send(ok(0)).await?;
        loop {
            let command = self.receive().await?;
            match command.split_first() {
                Some((0x01, _)) => return Ok(()),
                Some((0x03, sql)) => self.answer(&String::from_utf8_lossy(sql)).await?,
                _ => self.send(ok(0)).await?,
            }
        }
    }

    async fn answer(&mut self, sql: &str) -> Done {
        let statements: Vec<&str> = sql.split("; ").collect();
        let (from, missing) = self.script.answers_missing;
        let missing = if self.asked < from { 0 } else { missing.min(statements.len() - 1) };
        let answered = statements.len() - missing;
        self.asked += 1;
        let mut cell = 0;
        for (n, statement) in statements.iter().take(answered).enumerate() {
            let more = if n + 1 < answered { MORE_RESULTS } else { 0 };
            match table(&self.script.answers, statement) {
                None => self.send(ok(more)).await?,
                Some(mut table) => {
                    for value in table.rows.iter_mut().flatten() {
                        if let Some((_, odd)) = self.script.cells.iter().find(|(number, _)| *number == cell) {
                            value.clone_from(odd);
                        }
                        cell += 1;
                    }
                    self.table(&table, more).await?;
                }
            }
        }
        Ok(())
    }

    async fn table(&mut self, table: &Table, more: u16) -> Done {
        let mut head = Vec::new();
        number(&mut head, table.columns.len() as u64);
        self.send(head).await?;
        for name in &table.columns {
            self.send(column(name)).await?;
        }
        for row in &table.rows {
            self.send(self::row(row)).await?;
        }
        self.send(end(more)).await
    }

    /// One packet, or what is sent in its place.
    async fn send(&mut self, payload: Vec<u8>) -> Done {
        let place = self.sent;
        self.sent += 1;
        match self.script.what.clone() {
            Some(what) if place == self.script.from => self.misbehave(what, payload).await,
            Some(What::Spoilt(spoils)) if place > self.script.from && place.is_multiple_of(3) => {
                self.misbehave(What::Spoilt(spoils), payload).await
            }
            _ => self.packet(&payload).await,
        }
    }

    async fn misbehave(&mut self, what: What, mut payload: Vec<u8>) -> Done {
        let over = || std::io::Error::other("over");
        match what {
            What::Spoilt(spoils) => {
                spoils.iter().for_each(|spoil| spoil.apply(&mut payload));
                self.packet(&payload).await
            }
            What::Payload(other) => self.packet(&other).await,
            What::Payloads(others) => {
                for (n, other) in others.iter().enumerate() {
                    if n > 0 {
                        self.receive().await?;
                    }
                    self.packet(other).await?;
                }
                Ok(())
            }
            What::Raw(bytes) => {
                self.stream.write_all(&bytes).await?;
                self.silence().await
            }
            What::Half | What::HalfAndSilence => {
                let mut bytes = header(payload.len() + 10, self.sequence);
                bytes.extend_from_slice(&payload[..payload.len() / 2]);
                self.stream.write_all(&bytes).await?;
                match what {
                    What::Half => Err(over()),
                    _ => self.silence().await,
                }
            }
            What::Close => Err(over()),
            What::Silence => self.silence().await,
            What::Endless(payload) => loop {
                self.packet(&payload).await?;
            },
        }
    }

    /// Keeps the connection, reads what comes, says nothing.
    async fn silence(&mut self) -> Done {
        let mut heard = [0; 4096];
        while self.stream.read(&mut heard).await? > 0 {}
        Ok(())
    }

    async fn packet(&mut self, payload: &[u8]) -> Done {
        let mut bytes = header(payload.len().min(0xff_fffe), self.sequence);
        bytes.extend_from_slice(&payload[..payload.len().min(0xff_fffe)]);
        self.sequence = self.sequence.wrapping_add(1);
        self.stream.write_all(&bytes).await
    }

    async fn receive(&mut self) -> std::io::Result<Vec<u8>> {
        let mut header = [0; 4];
        self.stream.read_exact(&mut header).await?;
        let length = u32::from_le_bytes([header[0], header[1], header[2], 0]) as usize;
        self.sequence = header[3].wrapping_add(1);
        let mut payload = vec![0; length];
        self.stream.read_exact(&mut payload).await?;
        Ok(payload)
    }
}
