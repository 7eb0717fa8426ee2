//! One connection: bytes in, requests to the handlers, answers out in order, each when it is durable.
//!
//! ```text
//!   socket ─► Connection::receive ─► handlers::handle ─► pending (bounded) ─► durable? ─► socket
//! ```
//!
//! The reading half hands over one request after another; what waits for the disk waits in
//! `pending` while later requests are already in hand. Full `pending` stops the reading, which is the
//! back-pressure.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use ottla_engine::Lsn;
use ottla_kafka_proto::messages::Response;
use ottla_kafka_proto::{
    ApiVersion, Connection, CorrelationId, Encoded, Event, Limits, encode_response,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{Peer, handlers};
use crate::release::Release;
use crate::shutdown::Stopping;

/// An answer and the place it waits for.
#[derive(Debug)]
struct Reply {
    lsn: Lsn,
    frame: Encoded,
}

/// A reply with the room it takes among those that wait.
type Held = (Reply, OwnedSemaphorePermit);

/// Serves one connection until either side closes it.
pub(super) async fn drive(stream: TcpStream, peer: Peer, mut stopping: Stopping) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "no TCP_NODELAY");
    }
    let (read, write) = stream.into_split();
    let (replies, pending) = mpsc::channel(PENDING_MAX);
    let release = Arc::clone(&peer.context.release);
    let writing = write_replies(write, &release, pending);
    tokio::pin!(writing);
    let finished = {
        let reading = read_requests(read, &peer, replies);
        tokio::select! {
            () = &mut writing => true, // the client no longer reads
            outcome = reading => {
                if let Err(fault) = outcome {
                    tracing::info!(remote = %peer.remote, %fault, "closing a Kafka connection");
                }
                false
            }
            () = stopping.told() => false,
        }
    };
    if !finished {
        writing.await; // what was accepted is still answered
    }
}

/// Reads until the client closes (`Ok`) or misbehaves (`Err`, the reason for the log).
async fn read_requests(
    mut socket: OwnedReadHalf,
    peer: &Peer,
    replies: mpsc::Sender<Held>,
) -> Result<(), String> {
    let mut connection = Connection::open(Limits::default());
    let mut buffer = BytesMut::new();
    let room = Arc::new(Semaphore::new(PENDING_BYTES_MAX));
    loop {
        while let Some(event) =
            connection.receive(&mut buffer).map_err(|fault| fault.to_string())?
        {
            let Some(reply) = answer(peer, event).await? else { continue };
            let bytes = u32::try_from(reply.frame.len().min(PENDING_BYTES_MAX)).unwrap_or(u32::MAX);
            let Ok(taken) = Arc::clone(&room).acquire_many_owned(bytes).await else {
                return Ok(()); // never closed
            };
            if replies.send((reply, taken)).await.is_err() {
                return Ok(()); // the writing half has ended
            }
        }
        buffer.reserve(READ_BYTES);
        let read = socket.read_buf(&mut buffer).await.map_err(|error| error.to_string())?;
        if read == 0 {
            return Ok(());
        }
    }
}

/// Handles one event; `None` when the protocol has no answer for it (acks=0).
async fn answer(peer: &Peer, event: Event) -> Result<Option<Reply>, String> {
    match event {
        Event::Request { correlation_id, version, client_id, request } => {
            match handlers::handle(peer, client_id.as_deref(), version, request).await? {
                Some(answer) => {
                    reply(correlation_id, version, answer.lsn, &answer.response).map(Some)
                }
                None => Ok(None),
            }
        }
        Event::ApiVersionsTooNew { correlation_id } => {
            let response = handlers::unsupported_api_versions();
            reply(correlation_id, ApiVersion(0), Lsn::ZERO, &response).map(Some)
        }
        other => Err(format!("an event that is not served: {other:?}")),
    }
}

fn reply(
    correlation_id: CorrelationId,
    version: ApiVersion,
    lsn: Lsn,
    response: &Response,
) -> Result<Reply, String> {
    let frame = encode_response(correlation_id, version, response)
        .map_err(|error| format!("an answer that cannot be encoded: {error}"))?;
    Ok(Reply { lsn, frame })
}

/// Writes answers in order, each once the log is durable past what it reveals; those that are ready
/// together go out together.
async fn write_replies(
    mut socket: OwnedWriteHalf,
    release: &Release,
    mut pending: mpsc::Receiver<Held>,
) {
    let mut pieces: Vec<Bytes> = Vec::new();
    let mut rooms: Vec<OwnedSemaphorePermit> = Vec::new();
    let mut held: Option<Held> = None;
    loop {
        let (reply, room) = match held.take() {
            Some(first) => first,
            None => match pending.recv().await {
                Some(first) => first,
                None => return,
            },
        };
        release.reached(reply.lsn).await;
        let mut bytes = reply.frame.len();
        pieces.extend(reply.frame.into_pieces());
        rooms.push(room);
        while bytes < WRITE_BYTES {
            match pending.try_recv() {
                Ok((next, room)) if release.is_durable(next.lsn) => {
                    bytes += next.frame.len();
                    pieces.extend(next.frame.into_pieces());
                    rooms.push(room);
                }
                Ok(next) => {
                    held = Some(next);
                    break;
                }
                Err(_) => break,
            }
        }
        if write_all(&mut socket, &mut pieces).await.is_err() {
            return;
        }
        rooms.clear();
    }
}

/// Writes all pieces with as few calls as the system allows, and leaves `pieces` empty.
async fn write_all(socket: &mut OwnedWriteHalf, pieces: &mut Vec<Bytes>) -> std::io::Result<()> {
    let mut rest: std::collections::VecDeque<Bytes> = pieces.drain(..).collect();
    while !rest.is_empty() {
        let slices: Vec<std::io::IoSlice<'_>> =
            rest.iter().take(SLICES_MAX).map(|piece| std::io::IoSlice::new(piece)).collect();
        let mut written = socket.write_vectored(&slices).await?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        while let Some(first) = rest.front_mut() {
            if written < first.len() {
                bytes::Buf::advance(first, written);
                break;
            }
            written -= first.len();
            rest.pop_front();
        }
    }
    Ok(())
}

/// Answers of one connection that wait for the disk or the socket.
const PENDING_MAX: usize = 256;
/// Bytes of those answers. One that is larger waits alone: a client that asks for much and reads
/// nothing holds no more than that one and the next.
const PENDING_BYTES_MAX: usize = 4 << 20;
/// Room made for one read.
const READ_BYTES: usize = 16 << 10;
/// Answers are gathered into one write up to about this size.
const WRITE_BYTES: usize = 256 << 10;
/// Pieces of one gathered write.
const SLICES_MAX: usize = 256;
