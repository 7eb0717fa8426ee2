//! What a client says to log in: the responses of PLAIN and AMQPLAIN.

use bytes::Bytes;
use ottla_amqp_proto::{Authenticate, RawTable};

/// A name and a password, not yet judged.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: Bytes,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("user", &self.user).finish_non_exhaustive()
    }
}

/// Reads a response; `None` if it is not what the mechanism says.
pub(super) fn credentials(login: &Authenticate) -> Option<Credentials> {
    match login.mechanism.as_bytes() {
        b"PLAIN" => plain(&login.response),
        b"AMQPLAIN" => amqplain(&login.response),
        _ => None,
    }
}

/// RFC 4505: whoever comes. What is said along is a trace for people.
pub(super) fn is_anonymous(login: &Authenticate) -> bool {
    login.mechanism.as_bytes() == b"ANONYMOUS"
}

/// RFC 4616: authorisation, name and password behind a zero each. Nobody may act for another.
fn plain(response: &Bytes) -> Option<Credentials> {
    let mut parts = response.splitn(3, |octet| *octet == 0);
    let (_authorisation, user, password) = (parts.next()?, parts.next()?, parts.next()?);
    let user = std::str::from_utf8(user).ok()?.to_owned();
    Some(Credentials { user, password: response.slice_ref(password) })
}

/// The content of a field table with LOGIN and PASSWORD.
fn amqplain(response: &Bytes) -> Option<Credentials> {
    let table = RawTable::new(response.clone()).ok()?;
    let user = table.get("LOGIN")?.as_str()?.to_owned();
    let password = Bytes::copy_from_slice(table.get("PASSWORD")?.as_bytes()?);
    Some(Credentials { user, password })
}

#[cfg(test)]
mod tests {
    use ottla_amqp_proto::{ShortStr, Table};

    use super::*;

    fn login(mechanism: &'static str, response: &Bytes) -> Option<Credentials> {
        credentials(&Authenticate {
            mechanism: ShortStr::from_static(mechanism),
            response: response.clone(),
            client_properties: RawTable::default(),
        })
    }

    #[test]
    fn both_mechanisms_name_user_and_password() {
        let expected = Some(Credentials {
            user: "guest".to_owned(),
            password: Bytes::from_static(b"se\0cret"),
        });
        let plain = Bytes::from_static(b"\0guest\0se\0cret");
        assert_eq!(login("PLAIN", &plain), expected);
        let table = Table::new().with("LOGIN", "guest").with("PASSWORD", "se\0cret");
        let amqplain = table.encode().unwrap().as_bytes().clone();
        assert_eq!(login("AMQPLAIN", &amqplain), expected);
    }

    #[test]
    fn half_a_response_is_no_login() {
        for response in ["", "guest", "\0guest"] {
            let response = Bytes::from(response);
            assert_eq!(login("PLAIN", &response), None);
            assert_eq!(login("AMQPLAIN", &response), None);
        }
        assert_eq!(login("EXTERNAL", &Bytes::from_static(b"\0guest\0guest")), None);
    }
}
