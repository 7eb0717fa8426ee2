//! Users and their passwords.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ottla_engine::Lsn;
use ottla_engine::broker::{NewUser, SecretImage, UserView};
use serde_json::{Map, Value, json};

use super::api::{Answer, Call};
use super::ask::Verb;
use super::problem::{Problem, Reply};
use super::{limits, listing};

/// `whoami`
pub(super) fn whoami(call: &Call<'_>) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    let login = &call.ask.login;
    let told = json!({"name": login.user(), "tags": login.tags(), "is_internal_user": true});
    Ok(Reply::Json(told))
}

/// All users.
pub(super) fn list(call: &Call<'_>) -> Answer {
    if call.verb() != Verb::Get {
        return Err(Problem::method("HEAD, GET, OPTIONS"));
    }
    call.need_admin()?;
    listing::reply(call.ask, call.broker().users().iter().map(user_json).collect())
}

/// Those who may enter no virtual host.
pub(super) fn without_permissions(call: &Call<'_>) -> Answer {
    call.need_admin()?;
    let users = call.broker().users();
    let idle = users.iter().filter(|user| user.permissions.is_empty());
    Ok(Reply::Json(Value::Array(idle.map(user_json).collect())))
}

/// `POST users/bulk-delete`
pub(super) fn bulk_delete(call: &mut Call<'_>) -> Answer {
    if call.verb() != Verb::Post {
        return Err(Problem::method("POST, OPTIONS"));
    }
    call.need_admin()?;
    let body = call.ask.object()?;
    let Some(Value::Array(names)) = body.get("users") else {
        return Err(Problem::keys(&["users"]));
    };
    let mut newest = Lsn::ZERO;
    for name in names.iter().filter_map(Value::as_str) {
        newest = newest.max(call.broker().delete_user(name)?);
    }
    call.done(newest)
}

/// One user.
pub(super) fn one(call: &mut Call<'_>, name: &str) -> Answer {
    call.need_admin()?;
    let known = find(call, name);
    match call.verb() {
        Verb::Get => Ok(Reply::Json(user_json(&known.ok_or_else(Problem::missing)?))),
        Verb::Put => {
            let body = call.ask.object()?;
            if !body.contains_key("tags") && !body.contains_key("administrator") {
                return Err(Problem::bad("tags_not_present"));
            }
            let lsn = put(call, name, &body)?;
            call.put(lsn, known.is_some())
        }
        Verb::Delete => {
            known.ok_or_else(Problem::missing)?;
            let lsn = call.broker().delete_user(name)?;
            call.done(lsn)
        }
        _ => Err(Problem::method("HEAD, GET, PUT, DELETE, OPTIONS")),
    }
}

pub(super) fn find(call: &Call<'_>, name: &str) -> Option<UserView> {
    call.broker().users().into_iter().find(|user| *user.name == *name)
}

/// Makes a user what a body says; also from definitions.
pub(super) fn put(call: &Call<'_>, name: &str, body: &Map<String, Value>) -> Result<Lsn, Problem> {
    let tags = tags(body.get("tags"))?;
    let password = body.get("password").and_then(Value::as_str);
    let hash = body.get("password_hash").and_then(Value::as_str);
    let secret;
    let opens = match (password, hash) {
        (Some(_), Some(_)) => {
            return Err(Problem::bad("both_password_and_password_hash_are_provided"));
        }
        (Some(password), None) => NewUser::Password(password.as_bytes()),
        (None, Some(hash)) => {
            secret = secret_of(hash, body)?;
            NewUser::Hash(&secret)
        }
        (None, None) => NewUser::Unchanged,
    };
    Ok(call.broker().define_user(name, opens, tags)?)
}

/// A list, or words with commas between them.
pub(super) fn tags(value: Option<&Value>) -> Result<Vec<String>, Problem> {
    let words: Vec<&str> = match value {
        None | Some(Value::Null) => Vec::new(),
        Some(Value::String(text)) => text.split(',').collect(),
        Some(Value::Array(words)) => words.iter().filter_map(Value::as_str).collect(),
        Some(_) => return Err(Problem::bad("tags must be a list or a text")),
    };
    let words = words.iter().map(|word| word.trim()).filter(|word| !word.is_empty());
    Ok(words.map(str::to_owned).collect())
}

fn secret_of(hash: &str, body: &Map<String, Value>) -> Result<SecretImage, Problem> {
    if hash.is_empty() {
        return Ok(SecretImage::None);
    }
    let Ok(octets) = STANDARD.decode(hash) else {
        return Err(Problem::bad(json!(["not_base64", hash])));
    };
    let algorithm = body.get("hashing_algorithm").and_then(Value::as_str).unwrap_or(SHA256);
    match algorithm {
        SHA256 => Ok(SecretImage::Sha256(octets)),
        SHA512 => Ok(SecretImage::Sha512(octets)),
        other => Err(Problem::bad(format!(
            "hashing_algorithm {other} is not supported: give the user a password instead"
        ))),
    }
}

pub(super) fn user_json(user: &UserView) -> Value {
    let (hash, algorithm) = match &user.secret {
        SecretImage::None => (String::new(), SHA256),
        SecretImage::Sha256(octets) => (STANDARD.encode(octets), SHA256),
        SecretImage::Sha512(octets) => (STANDARD.encode(octets), SHA512),
    };
    json!({
        "name": *user.name,
        "password_hash": hash,
        "hashing_algorithm": algorithm,
        "tags": user.tags,
        "limits": limits::limits_json(&user.limits),
    })
}

const SHA256: &str = "rabbit_password_hashing_sha256";
const SHA512: &str = "rabbit_password_hashing_sha512";
