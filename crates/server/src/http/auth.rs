//! Who asks: Basic authentication against the broker's users.

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ottla_engine::broker::{Broker, Login, Peer};

use super::problem::Problem;

/// A name and a password, not yet judged.
#[derive(Clone)]
pub(super) struct Credentials {
    user: String,
    password: Vec<u8>,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// A user with a password and one of the tags that open this door.
pub(super) fn judge(
    broker: &Broker,
    credentials: &Credentials,
    remote: SocketAddr,
) -> Result<Login, Problem> {
    let local = remote.ip().to_canonical().is_loopback();
    let peer = if local { Peer::Loopback } else { Peer::Remote };
    let login = broker.authenticate(&credentials.user, &credentials.password, peer);
    let Some(login) = login else {
        tracing::warn!(user = credentials.user, %remote, "HTTP login refused");
        return Err(Problem::unknown());
    };
    match login.tags().iter().any(|tag| DOOR.contains(&tag.as_str())) {
        true => Ok(login),
        false => Err(Problem::not_yours("Not management user")),
    }
}

/// What the request says of who asks.
pub(super) fn credentials(headers: &HeaderMap) -> Result<Credentials, Problem> {
    let told = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let basic = told.and_then(|told| {
        let (scheme, rest) = told.split_once(' ')?;
        scheme.eq_ignore_ascii_case("basic").then_some(rest.trim())
    });
    let decoded =
        basic.and_then(|basic| STANDARD.decode(basic).ok()).ok_or_else(Problem::unknown)?;
    let colon = decoded.iter().position(|octet| *octet == b':').ok_or_else(Problem::unknown)?;
    let (user, password) = decoded.split_at(colon);
    Ok(Credentials {
        user: String::from_utf8_lossy(user).into_owned(),
        password: password.get(1..).unwrap_or_default().to_vec(),
    })
}

/// The tags that open this door.
const DOOR: [&str; 4] = ["administrator", "monitoring", "policymaker", "management"];

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn told(value: &'static str) -> Option<(String, Vec<u8>)> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, HeaderValue::from_static(value));
        credentials(&headers).ok().map(|credentials| (credentials.user, credentials.password))
    }

    // RFC 7617 §2
    #[test]
    fn a_password_may_have_colons_and_half_a_header_is_none() {
        let anna = Some(("anna".to_owned(), b"a:b".to_vec()));
        assert_eq!(told("Basic YW5uYTphOmI="), anna);
        assert_eq!(told("basic  YW5uYTphOmI="), anna);
        for bad in ["Basic", "Basic %%", "Basic YW5uYQ==", "Bearer YW5uYTphOmI="] {
            assert_eq!(told(bad), None, "{bad}");
        }
    }
}
