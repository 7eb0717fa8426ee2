//! One broker: a request out, its answer in.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use bytes::BytesMut;
use ottla_kafka_proto::frame::take_frame;
use ottla_kafka_proto::messages::ApiVersionsRequest;
use ottla_kafka_proto::{
    ApiKey, ApiVersion, CorrelationId, Request, RequestHeader, Response, Str, decode_response,
    encode_request,
};

use crate::ClientError;

/// A connection to one broker, with the versions it serves.
#[derive(Debug)]
pub struct Connection {
    address: String,
    stream: TcpStream,
    input: BytesMut,
    served: HashMap<i16, (i16, i16)>,
    last: i32,
}

impl Connection {
    /// Connects to `address` (`host:port`) and asks which versions are served.
    pub fn open(address: &str, patience: Duration) -> Result<Self, ClientError> {
        let unreachable = |source| ClientError::Unreachable { address: address.to_owned(), source };
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        let mut connected = None;
        for candidate in address.to_socket_addrs().map_err(unreachable)? {
            match TcpStream::connect_timeout(&candidate, patience) {
                Ok(stream) => {
                    connected = Some(stream);
                    break;
                }
                Err(error) => last = error,
            }
        }
        let stream = connected.ok_or(last).map_err(unreachable)?;
        let set = stream
            .set_nodelay(true)
            .and_then(|()| stream.set_read_timeout(Some(ANSWER_TIMEOUT)))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_TIMEOUT)));
        set.map_err(unreachable)?;
        let mut connection = Self {
            address: address.to_owned(),
            stream,
            input: BytesMut::new(),
            served: HashMap::new(),
            last: 0,
        };
        connection.ask_versions()?;
        Ok(connection)
    }

    /// The broker, as it was given.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// Whether the broker serves this request at all.
    #[must_use]
    pub fn serves(&self, api: ApiKey) -> bool {
        self.served.contains_key(&api.code())
    }

    /// Sends a request in the newest version that both sides speak, and waits for its answer.
    pub fn call(&mut self, request: impl Into<Request>) -> Result<Response, ClientError> {
        let request = request.into();
        let version = self.version(request.api())?;
        self.exchange(&request, version)
    }

    fn version(&self, api: ApiKey) -> Result<ApiVersion, ClientError> {
        let spec = api.spec();
        let common = self
            .served
            .get(&api.code())
            .map(|(first, last)| (spec.first.0.max(*first), newest(api).min(*last)));
        match common {
            Some((first, last)) if first <= last => Ok(ApiVersion(last)),
            _ => Err(self.not_served(spec.name)),
        }
    }

    fn ask_versions(&mut self) -> Result<(), ClientError> {
        let request = Request::from(ApiVersionsRequest {
            client_software_name: Str::from_static("ottla"),
            client_software_version: Str::from_static(env!("CARGO_PKG_VERSION")),
        });
        let mut answer = self.exchange(&request, ApiVersion(3))?;
        if let Response::ApiVersions(refused) = &answer
            && !refused.error_code.is_ok()
        {
            answer = self.exchange(&request, ApiVersion(0))?;
        }
        let Response::ApiVersions(versions) = answer else {
            return Err(self.not_served("ApiVersions"));
        };
        let ranges = versions.api_keys.iter();
        self.served =
            ranges.map(|range| (range.api_key, (range.min_version, range.max_version))).collect();
        Ok(())
    }

    fn exchange(
        &mut self,
        request: &Request,
        version: ApiVersion,
    ) -> Result<Response, ClientError> {
        self.last = self.last.wrapping_add(1);
        let header = RequestHeader {
            api: request.api(),
            version,
            correlation_id: CorrelationId(self.last),
            client_id: Some(Str::from_static("ottla")),
        };
        let frame = encode_request(&header, request)
            .map_err(|error| self.not_served(&error.to_string()))?;
        for piece in frame.pieces() {
            self.stream.write_all(piece).map_err(|source| self.lost(source))?;
        }
        loop {
            let taken = take_frame(&mut self.input, ANSWER_BYTES_MAX);
            if let Some(frame) = taken.map_err(|error| self.not_served(&error.to_string()))? {
                return self.decode(&header, frame);
            }
            self.fill()?;
        }
    }

    fn decode(&self, header: &RequestHeader, frame: bytes::Bytes) -> Result<Response, ClientError> {
        // an ApiVersions answer to a version the broker does not know comes in version 0 (KIP-511)
        let decoded = decode_response(header.api, header.version, frame.clone(), ITEMS_MAX)
            .or_else(|error| match header.api {
                ApiKey::ApiVersions => decode_response(header.api, ApiVersion(0), frame, ITEMS_MAX),
                _ => Err(error),
            });
        match decoded {
            Ok((correlation_id, response)) if correlation_id == header.correlation_id => {
                Ok(response)
            }
            Ok((other, _)) => Err(self.not_served(&format!("requests in order (answer {other})"))),
            Err(error) => Err(self.not_served(&error.to_string())),
        }
    }

    fn fill(&mut self) -> Result<(), ClientError> {
        let mut chunk = [0; 64 << 10];
        let read = self.stream.read(&mut chunk).map_err(|source| self.lost(source))?;
        match chunk.get(..read) {
            Some([]) | None => Err(self.lost(io::ErrorKind::UnexpectedEof.into())),
            Some(bytes) => {
                self.input.extend_from_slice(bytes);
                Ok(())
            }
        }
    }

    fn lost(&self, source: io::Error) -> ClientError {
        ClientError::Lost { address: self.address.clone(), source }
    }

    fn not_served(&self, what: &str) -> ClientError {
        ClientError::NotServed { address: self.address.clone(), what: what.to_owned() }
    }
}

/// The newest version to speak. From version 10 on these two name topics by id alone; here they are named.
fn newest(api: ApiKey) -> i16 {
    match api {
        ApiKey::OffsetCommit | ApiKey::OffsetFetch => 9,
        _ => api.spec().last.0,
    }
}

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 100 << 20;
/// Array items of an answer.
const ITEMS_MAX: usize = 4_000_000;
