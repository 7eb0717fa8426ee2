//! A few requests of HTTP/1.1: enough for our own interface, and for RabbitMQ's management plugin.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;

use crate::exit::{Code, Failure};

/// The HTTP interface of one broker, for one user.
#[derive(Clone)]
pub(super) struct Api {
    address: String,
    user: String,
    authorization: String,
}

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Api").field("address", &self.address).finish_non_exhaustive()
    }
}

/// What was answered: the status and the body.
struct Told {
    status: u16,
    body: Vec<u8>,
}

impl Api {
    /// `http://` before the address and a path behind it say nothing new.
    pub(super) fn new(address: &str, user: &str, password: &str) -> Self {
        let address = address.strip_prefix("http://").unwrap_or(address);
        let address = address.split('/').next().unwrap_or(address);
        let authorization = format!("Basic {}", STANDARD.encode(format!("{user}:{password}")));
        Self { address: address.to_owned(), user: user.to_owned(), authorization }
    }

    pub(super) fn get(&self, path: &[&str]) -> Result<Value, Failure> {
        self.call("GET", path, "", None)
    }

    /// With words of a query string, `?` included.
    pub(super) fn ask(&self, path: &[&str], query: &str) -> Result<Value, Failure> {
        self.call("GET", path, query, None)
    }

    pub(super) fn put(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call("PUT", path, "", Some(body))
    }

    pub(super) fn post(&self, path: &[&str], body: &Value) -> Result<Value, Failure> {
        self.call("POST", path, "", Some(body))
    }

    /// With words of a query string, `?` included.
    pub(super) fn delete(&self, path: &[&str], query: &str) -> Result<Value, Failure> {
        self.call("DELETE", path, query, None)
    }

    fn call(
        &self,
        method: &str,
        path: &[&str],
        query: &str,
        body: Option<&Value>,
    ) -> Result<Value, Failure> {
        let parts = path.iter().map(|part| utf8_percent_encode(part, NON_ALPHANUMERIC).to_string());
        let target = format!("/api/{}{query}", parts.collect::<Vec<_>>().join("/"));
        let told =
            self.exchange(method, &target, body).map_err(|error| self.unreachable(&error))?;
        match told.status {
            200..=299 if told.body.is_empty() => Ok(Value::Null),
            200..=299 => serde_json::from_slice(&told.body).map_err(|_| self.no_api(&told)),
            _ => Err(self.refused(&told)),
        }
    }

    fn exchange(&self, method: &str, target: &str, body: Option<&Value>) -> io::Result<Told> {
        let address = self.address.to_socket_addrs()?.next();
        let address = address.ok_or_else(|| io::Error::other("the name has no address"))?;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT_PATIENCE)?;
        stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
        stream.set_write_timeout(Some(ANSWER_PATIENCE))?;
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {target} HTTP/1.1\r\nhost: {}\r\nauthorization: {}\r\naccept: application/json\r\n\
             content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            self.address,
            self.authorization,
            body.len()
        );
        stream.write_all(head.as_bytes())?;
        stream.write_all(body.as_bytes())?;
        read(BufReader::new(stream))
    }

    fn unreachable(&self, error: &io::Error) -> Failure {
        let what = format!("{}: {error}", self.address);
        let remedy = match error.kind() {
            io::ErrorKind::InvalidData => {
                "that is no HTTP: the port is that of another protocol; name the broker's HTTP \
                 interface with --http HOST:PORT (15672 by default)"
            }
            _ => {
                "start a broker with `ottla serve` (its HTTP interface must not be off), or name another \
                 with --http HOST:PORT"
            }
        };
        Failure::new(Code::Unavailable, what).remedy(remedy)
    }

    fn no_api(&self, told: &Told) -> Failure {
        let what = format!("{} answers {} with what is no JSON", self.address, told.status);
        Failure::new(Code::Unavailable, what)
            .remedy("is that a broker's HTTP interface? name it with --http HOST:PORT")
    }

    fn refused(&self, told: &Told) -> Failure {
        let body: Value = serde_json::from_slice(&told.body).unwrap_or(Value::Null);
        let reason = body
            .get("reason")
            .map(|reason| reason.as_str().map_or_else(|| reason.to_string(), str::to_owned));
        let reason = reason.unwrap_or_else(|| format!("status {}", told.status));
        match told.status {
            401 if reason == "Not_Authorized" => {
                let what =
                    format!("{} does not know user {} with this password", self.address, self.user);
                Failure::new(Code::NoPermission, what).remedy(
                    "say who you are with --user NAME and --password-file FILE; guest is let in from the same \
                     machine only",
                )
            }
            401 if reason == "Not management user" => {
                let what = format!("user {} may not use this interface", self.user);
                Failure::new(Code::NoPermission, what).remedy(
                    "an administrator can give it a tag: ottla user set NAME --tags management",
                )
            }
            401 | 403 => Failure::new(Code::NoPermission, reason)
                .remedy(format!("user {} may not do this: see `ottla permission list`", self.user)),
            404 if reason == "Not Found" => Failure::new(Code::Data, "there is no such thing")
                .remedy("look with `list`; another virtual host is named with --vhost NAME"),
            404 => Failure::new(Code::Data, reason),
            503 | 507 => Failure::new(Code::Unavailable, reason),
            _ => Failure::new(Code::Data, reason.trim()),
        }
    }
}

/// One answer (RFC 9112): a status line, headers, and a body of a known length, in chunks, or to the end.
fn read(mut stream: impl BufRead) -> io::Result<Told> {
    let bad = || io::Error::from(io::ErrorKind::InvalidData);
    let status = line(&mut stream)?;
    let status = status.strip_prefix("HTTP/1.").and_then(|rest| rest.get(2..5)).ok_or_else(bad)?;
    let status = status.parse().map_err(|_| bad())?;
    let (mut length, mut chunked) = (None, false);
    for _ in 0..HEADERS_MAX {
        let header = line(&mut stream)?;
        let Some((name, value)) = header.split_once(':') else { break };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = Some(value.trim().parse().map_err(|_| bad())?),
            "transfer-encoding" => chunked = value.trim().eq_ignore_ascii_case("chunked"),
            _ => {}
        }
    }
    let mut body = Vec::new();
    if chunked {
        loop {
            let size = line(&mut stream)?;
            let size = size.split(';').next().unwrap_or_default();
            let size = u64::from_str_radix(size.trim(), 16).map_err(|_| bad())?;
            if size == 0 {
                break;
            }
            (&mut stream).take(size).read_to_end(&mut body)?;
            line(&mut stream)?;
        }
    } else {
        let most = length.unwrap_or(BODY_MAX).min(BODY_MAX);
        if status != 204 {
            stream.take(most).read_to_end(&mut body)?;
        }
    }
    Ok(Told { status, body })
}

fn line(stream: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    stream.take(LINE_MAX).read_until(b'\n', &mut line)?;
    let text = String::from_utf8(line).map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    Ok(text.trim_end().to_owned())
}

const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
const ANSWER_PATIENCE: Duration = Duration::from_secs(60);
const LINE_MAX: u64 = 16 << 10;
const HEADERS_MAX: usize = 100;
const BODY_MAX: u64 = 256 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    fn told(text: &str) -> io::Result<(u16, String)> {
        read(text.as_bytes()).map(|told| (told.status, String::from_utf8(told.body).unwrap()))
    }

    #[test]
    fn an_answer_has_a_length_or_comes_in_chunks() {
        let sized = told("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}more");
        assert_eq!(sized.unwrap(), (200, "{}".to_owned()));
        let chunked =
            "HTTP/1.1 400 Bad\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n";
        assert_eq!(told(chunked).unwrap(), (400, "abc".to_owned()));
        assert_eq!(told("HTTP/1.1 204 No Content\r\n\r\n").unwrap(), (204, String::new()));
    }

    #[test]
    fn another_protocol_is_no_answer() {
        for other in ["AMQP\0\0\t\u{1}", "", "HTTP/1.1 abc"] {
            assert_eq!(told(other).unwrap_err().kind(), io::ErrorKind::InvalidData, "{other}");
        }
    }
}
