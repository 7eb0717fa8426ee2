//! A request, read and taken apart: nothing of it is trusted, everything is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Method, Request};
use bytes::Bytes;
use ottla_engine::broker::Login;
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::problem::Problem;

/// What a client asks for.
#[derive(Debug)]
pub(super) struct Ask {
    pub(super) verb: Verb,
    /// The parts of the path behind `/api`, decoded.
    pub(super) path: Vec<String>,
    pub(super) query: BTreeMap<String, String>,
    pub(super) body: Bytes,
    /// Who asks.
    pub(super) login: Login,
    /// `X-Reason`: why a connection is closed.
    pub(super) reason: Option<String>,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    /// Look. Also for HEAD.
    Get,
    /// Make it so.
    Put,
    /// Do it.
    Post,
    /// Undo it.
    Delete,
    /// Anything else.
    Other,
}

impl Ask {
    /// Reads a whole request of someone who has logged in.
    pub(super) async fn read(request: Request<Body>, login: Login) -> Result<Self, Problem> {
        let (head, body) = request.into_parts();
        let verb = match head.method {
            Method::GET | Method::HEAD => Verb::Get,
            Method::PUT => Verb::Put,
            Method::POST => Verb::Post,
            Method::DELETE => Verb::Delete,
            _ => Verb::Other,
        };
        let path = path(head.uri.path())?;
        let most = if path.first().is_some_and(|first| first == "definitions") {
            DEFINITIONS_BYTES_MAX
        } else {
            BODY_BYTES_MAX
        };
        let reading = axum::body::to_bytes(body, most);
        let body = match tokio::time::timeout(BODY_PATIENCE, reading).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(Problem::too_large(most)),
            Err(_) => return Err(Problem::too_slow()),
        };
        let reason = head.headers.get("x-reason").and_then(|value| value.to_str().ok());
        let reason = reason.map(|reason| reason.chars().take(REASON_CHARS_MAX).collect());
        let query = query(head.uri.query().unwrap_or_default());
        Ok(Self { verb, path, query, body, login, reason })
    }

    /// The body as a JSON object; an empty body is an empty one.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Problem> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        match serde_json::from_slice(&self.body) {
            Ok(Value::Object(object)) => Ok(object),
            _ => Err(Problem::bad("not_json")),
        }
    }

    /// A word of the query string.
    pub(super) fn word(&self, name: &str) -> Option<&str> {
        self.query.get(name).map(String::as_str)
    }

    /// Whether a word of the query string says yes.
    pub(super) fn flag(&self, name: &str) -> bool {
        self.word(name) == Some("true")
    }
}

/// The parts of a path behind `/api`; a `/` at the end says nothing.
fn path(raw: &str) -> Result<Vec<String>, Problem> {
    let rest = raw.strip_prefix("/api").filter(|rest| rest.is_empty() || rest.starts_with('/'));
    let rest = rest.ok_or_else(Problem::missing)?;
    let decoded = |part: &str| {
        percent_decode_str(part)
            .decode_utf8()
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| Problem::bad("the path is no UTF-8"))
    };
    let parts = rest.trim_matches('/').split('/').filter(|part| !part.is_empty());
    parts.take(PARTS_MAX).map(decoded).collect()
}

fn query(raw: &str) -> BTreeMap<String, String> {
    let decoded = |part: &str| {
        let spaced = part.replace('+', " ");
        percent_decode_str(&spaced).decode_utf8_lossy().into_owned()
    };
    let words = raw.split('&').filter(|word| !word.is_empty()).take(PARTS_MAX);
    let pairs = words.map(|word| word.split_once('=').unwrap_or((word, "")));
    pairs.map(|(name, value)| (decoded(name), decoded(value))).collect()
}

/// Parts of a path, and words of a query string, beyond this are not looked at.
const PARTS_MAX: usize = 32;
/// Bytes of a body: a message of 16 MiB in base64.
const BODY_BYTES_MAX: usize = 24 << 20;
/// Bytes of definitions.
const DEFINITIONS_BYTES_MAX: usize = 64 << 20;
/// How long a client may take to send a body.
const BODY_PATIENCE: Duration = Duration::from_secs(30);
const REASON_CHARS_MAX: usize = 200;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_cut_first_and_decoded_afterwards() {
        assert_eq!(path("/api/queues/%2F/a%2Fb/").unwrap(), ["queues", "/", "a/b"]);
        assert!(path("/apiary").is_err());
        assert!(path("/api/queues/%FF").is_err());
        assert!(path("/api").unwrap().is_empty());
    }

    #[test]
    fn the_words_of_a_query_are_decoded() {
        let words = query("page=1&name=%5Ea+b&use_regex");
        assert_eq!(words.get("name").map(String::as_str), Some("^a b"));
        assert_eq!(words.get("use_regex").map(String::as_str), Some(""));
    }
}
