//! How a request is answered: RabbitMQ's status codes and its words for what went wrong.

use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use ottla_engine::broker::{BrokerError, ErrorKind};
use serde_json::{Value, json};

/// An answer.
#[derive(Debug)]
pub(super) enum Reply {
    /// 200 with JSON.
    Json(Value),
    /// 200 with text.
    Text(String),
    /// 201; with where it is now.
    Created(Option<String>),
    /// 204
    Done,
    /// 503 with JSON: a check that failed.
    Failed(Value),
}

/// A refusal: what RabbitMQ's management plugin says with which status.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    error: &'static str,
    reason: Value,
    allow: Option<&'static str>,
    busy: bool,
}

impl Problem {
    fn new(status: StatusCode, error: &'static str, reason: impl Into<Value>) -> Self {
        Self { status, error, reason: reason.into(), allow: None, busy: false }
    }

    /// 400
    pub(super) fn bad(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_request", reason)
    }

    /// 400: keys that must be there.
    pub(super) fn keys(missing: &[&str]) -> Self {
        let words: Vec<String> =
            missing.iter().map(|key| format!("{{key_missing,{key}}}")).collect();
        Self::bad(format!("[{}]", words.join(",")))
    }

    /// 404
    pub(super) fn missing() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Object Not Found", "Not Found")
    }

    /// 404 of something an operation needs.
    pub(super) fn not_found(reason: impl Into<Value>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", reason)
    }

    /// 401: who you are is known, what you want is not yours.
    pub(super) fn not_yours(reason: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorised", reason)
    }

    /// 401: name or password.
    pub(super) fn unknown() -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "not_authorized", "Not_Authorized")
    }

    /// 405
    pub(super) fn method(allow: &'static str) -> Self {
        let text = format!("this path answers {allow}");
        let problem = Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", text);
        Self { allow: Some(allow), ..problem }
    }

    /// 413
    pub(super) fn too_large(most: usize) -> Self {
        let text = format!("a request here has at most {most} bytes");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", text)
    }

    /// 408
    pub(super) fn too_slow() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the request did not come in time")
    }

    /// 500
    pub(super) fn internal() -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal_error", "see the log of the node")
    }

    /// 503
    pub(super) fn stopping() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the node is stopping")
    }

    /// 503
    pub(super) fn overloaded() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the disk is too far behind")
    }

    /// Whether the same request may succeed in a moment.
    pub(super) const fn is_busy(&self) -> bool {
        self.busy
    }

    /// What is said, without the status.
    pub(super) fn reason(&self) -> String {
        self.reason.as_str().map_or_else(|| self.reason.to_string(), str::to_owned)
    }

    pub(super) fn into_response(self) -> Response<Body> {
        let body = json!({"error": self.error, "reason": self.reason});
        let mut response = respond(self.status, Some(&body));
        let headers = response.headers_mut();
        if let Some(allow) = self.allow {
            headers.insert(header::ALLOW, HeaderValue::from_static(allow));
        }
        if self.error == "not_authorized" {
            let realm = HeaderValue::from_static("Basic realm=\"RabbitMQ Management\"");
            headers.insert(header::WWW_AUTHENTICATE, realm);
        }
        response
    }
}

impl From<BrokerError> for Problem {
    fn from(error: BrokerError) -> Self {
        let text = error.text().to_owned();
        match error.kind() {
            ErrorKind::AccessRefused => Self::not_yours(&text),
            ErrorKind::NotFound => Self::not_found(text),
            ErrorKind::Busy => Self { busy: true, ..Self::overloaded() },
            ErrorKind::DiskFull => Self::new(
                StatusCode::INSUFFICIENT_STORAGE,
                "disk_full",
                "there is no room on the disk",
            ),
            ErrorKind::MemoryFull => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "memory_full", "low on memory")
            }
            ErrorKind::ResourceError => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "resource_error", text)
            }
            ErrorKind::Internal => Self::internal(),
            _ => Self::bad(text),
        }
    }
}

impl Reply {
    pub(super) fn into_response(self) -> Response<Body> {
        match self {
            Self::Json(value) => respond(StatusCode::OK, Some(&value)),
            Self::Failed(value) => respond(StatusCode::SERVICE_UNAVAILABLE, Some(&value)),
            Self::Done => respond(StatusCode::NO_CONTENT, None),
            Self::Text(text) => {
                let mut response = Response::new(Body::from(text));
                let plain = HeaderValue::from_static("text/plain; version=0.0.4");
                response.headers_mut().insert(header::CONTENT_TYPE, plain);
                response
            }
            Self::Created(place) => {
                let mut response = respond(StatusCode::CREATED, None);
                let place = place.and_then(|place| HeaderValue::try_from(place).ok());
                if let Some(place) = place {
                    response.headers_mut().insert(header::LOCATION, place);
                }
                response
            }
        }
    }
}

fn respond(status: StatusCode, body: Option<&Value>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = status;
    if let Some(value) = body {
        *response.body_mut() = Body::from(value.to_string());
        let json = HeaderValue::from_static("application/json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
    }
    let none = HeaderValue::from_static("no-cache");
    response.headers_mut().insert(header::CACHE_CONTROL, none);
    response
}
