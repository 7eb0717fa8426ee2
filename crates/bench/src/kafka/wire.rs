//! One connection with little work on it: gathered writes of ready bytes, answers out of one buffer.

use std::io::{Error, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;
use std::thread::park_timeout;
use std::time::Duration;

use bytes::BytesMut;
use ottla_kafka_proto::messages::FindCoordinatorRequest;
use ottla_kafka_proto::{
    ApiKey, ApiVersion, Request, Response, Str, decode_response, encode_request, take_frame,
};

use super::batch::header;
use crate::Failure;

/// What has a coordinator.
#[derive(Clone, Copy, Debug)]
pub(super) enum Coordinated {
    Group,
    Transactions,
}

#[derive(Debug)]
pub(super) struct Wire {
    stream: TcpStream,
    input: BytesMut,
}

impl Wire {
    pub(super) fn connect(broker: &str) -> Result<Self, Failure> {
        let stream = TcpStream::connect(broker).map_err(|error| format!("{broker}: {error}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream, input: BytesMut::new() })
    }

    /// The same connection for another thread; answers are read by one of the two.
    pub(super) fn twin(&self) -> Result<Self, Failure> {
        Ok(Self { stream: self.stream.try_clone()?, input: BytesMut::new() })
    }

    /// Sends all pieces.
    pub(super) fn send<'a>(
        &mut self,
        pieces: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), Failure> {
        let mut slices: Vec<IoSlice<'a>> = pieces.map(IoSlice::new).collect();
        let mut rest = slices.as_mut_slice();
        while !rest.is_empty() {
            let part = rest.get(..SLICES_MAX).unwrap_or(rest);
            let written = self.stream.write_vectored(part)?;
            if written == 0 {
                return Err("the broker closed the connection".into());
            }
            IoSlice::advance_slices(&mut rest, written);
        }
        Ok(())
    }

    /// How long one `fill` or `glance` waits.
    pub(super) fn patience(&self, patience: Duration) -> Result<(), Failure> {
        Ok(self.stream.set_read_timeout(Some(patience))?)
    }

    /// Sends a request.
    pub(super) fn tell(
        &mut self,
        version: ApiVersion,
        request: impl Into<Request>,
    ) -> Result<(), Failure> {
        let request = request.into();
        let frame = encode_request(&header(request.api(), version), &request)?;
        self.send(frame.pieces().iter().map(|piece| &**piece))
    }

    /// Sends a request and waits for its answer.
    pub(super) fn ask(
        &mut self,
        version: ApiVersion,
        request: impl Into<Request>,
    ) -> Result<Response, Failure> {
        let request = request.into();
        let api = request.api();
        self.tell(version, request)?;
        self.answer(api, version)
    }

    /// Asks for the coordinator of a group or of a transactional id until there is one: the first
    /// question makes the topic behind it.
    pub(super) fn find_coordinator(&mut self, key: Str, of: Coordinated) -> Result<(), Failure> {
        for _ in 0..LOOKS_MAX {
            let key_type = match of {
                Coordinated::Group => 0,
                Coordinated::Transactions => 1,
            };
            let request =
                FindCoordinatorRequest { key: key.clone(), key_type, ..Default::default() };
            match self.ask(FIND_COORDINATOR, request)? {
                Response::FindCoordinator(found) if found.error_code.is_ok() => return Ok(()),
                _ => park_timeout(LOOK_EVERY),
            }
        }
        Err("no coordinator".into())
    }

    /// The next answer if it has come already.
    pub(super) fn ready(
        &mut self,
        api: ApiKey,
        version: ApiVersion,
    ) -> Result<Option<Response>, Failure> {
        let Some(frame) = take_frame(&mut self.input, ANSWER_BYTES_MAX)? else { return Ok(None) };
        let (_, response) = decode_response(api, version, frame, ITEMS_MAX)?;
        Ok(Some(response))
    }

    /// Waits for more bytes.
    pub(super) fn fill(&mut self) -> Result<(), Failure> {
        let filled = self.input.len();
        self.input.resize(filled + READ_BYTES, 0);
        let read = self.stream.read(self.input.get_mut(filled..).unwrap_or_default());
        self.input.truncate(filled + read.as_ref().copied().unwrap_or(0));
        match read? {
            0 => Err("the broker closed the connection".into()),
            _ => Ok(()),
        }
    }

    /// As `fill`; `false` if nothing came in time.
    pub(super) fn glance(&mut self) -> Result<bool, Failure> {
        match self.fill() {
            Ok(()) => Ok(true),
            Err(failure) => match failure.downcast_ref::<Error>().map(Error::kind) {
                Some(ErrorKind::WouldBlock | ErrorKind::TimedOut) => Ok(false),
                _ => Err(failure),
            },
        }
    }

    /// Waits for the next answer.
    pub(super) fn answer(&mut self, api: ApiKey, version: ApiVersion) -> Result<Response, Failure> {
        loop {
            if let Some(response) = self.ready(api, version)? {
                return Ok(response);
            }
            self.fill()?;
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(60);
const FIND_COORDINATOR: ApiVersion = ApiVersion(3);
const LOOK_EVERY: Duration = Duration::from_millis(10);
const LOOKS_MAX: u32 = 3_000;
const READ_BYTES: usize = 128 << 10;
const SLICES_MAX: usize = 512;
const ANSWER_BYTES_MAX: usize = 1 << 30;
const ITEMS_MAX: usize = 1_000_000;
