//! Bodies of HTTP messages, taken apart and put together again: what gRPC's own encoders and decoders made is what
//! travels.

use std::{
    future::poll_fn,
    pin::Pin,
    task::{Context, Poll},
};

use http_body::{Body as _, Frame};
use tokio::sync::mpsc;
use tonic::{
    Status,
    body::Body,
    codegen::{Bytes, http::HeaderMap},
};

/// A piece of a body.
#[derive(Debug, Clone)]
pub enum Piece {
    /// Bytes.
    Data(Bytes),
    /// What gRPC ends with.
    Trailers(HeaderMap),
    /// Nothing more comes.
    End,
}

/// All of a body but its end. It must not wait for anything that comes from the other side.
pub async fn take_apart(mut body: Body) -> Result<Vec<Piece>, Status> {
    let mut pieces = Vec::new();
    while let Some(frame) = poll_fn(|context| Pin::new(&mut body).poll_frame(context)).await {
        pieces.push(match frame?.into_data() {
            Ok(data) => Piece::Data(data),
            Err(frame) => Piece::Trailers(frame.into_trailers().unwrap_or_default()),
        });
    }
    Ok(pieces)
}

/// A body as it arrives.
pub struct Arriving {
    pieces: mpsc::UnboundedReceiver<Piece>,
    ended: bool,
}

impl Arriving {
    /// A body, and where its pieces go.
    pub fn begun() -> (mpsc::UnboundedSender<Piece>, Body) {
        let (tell, pieces) = mpsc::unbounded_channel();
        (tell, Body::new(Arriving { pieces, ended: false }))
    }

    /// A body that is there.
    pub fn whole(pieces: Vec<Piece>) -> Body {
        let (tell, body) = Arriving::begun();
        for piece in pieces.into_iter().chain([Piece::End]) {
            // The receiving end is right here.
            let _ = tell.send(piece);
        }
        body
    }
}

impl http_body::Body for Arriving {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        self.pieces.poll_recv(context).map(|piece| match piece {
            Some(Piece::Data(data)) => Some(Ok(Frame::data(data))),
            Some(Piece::Trailers(trailers)) => Some(Ok(Frame::trailers(trailers))),
            Some(Piece::End) => {
                self.ended = true;
                None
            }
            None => {
                self.ended = true;
                Some(Err(Status::unavailable("the connection was lost")))
            }
        })
    }
}
