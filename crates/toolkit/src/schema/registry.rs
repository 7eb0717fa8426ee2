//! A client of a registry that speaks Confluent's REST API. Calls run on tokio's threads for blocking work: there are few.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use percent::encoded;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::Agent;

use super::{Codec, Format, Reference, Schema};
use crate::error::{Error, Result};

/// A schema registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    agent: Agent,
    url: String,
    authorization: Option<String>,
    /// By id: what an id means never changes.
    known: Mutex<HashMap<u32, Arc<Codec>>>,
}

/// A schema as a registry has it.
#[derive(Clone, Debug)]
pub struct Registered {
    /// The same wherever the same schema is registered.
    pub id: u32,
    /// Of its subject, from 1.
    pub version: u32,
    /// The schema.
    pub schema: Schema,
}

/// What may change between versions of a subject.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Level {
    /// Anything.
    None,
    /// Who reads by the new version can read what was written by the old one.
    #[default]
    Backward,
    /// Who reads by the old version can read what is written by the new one.
    Forward,
    /// Both.
    Full,
}

impl Level {
    fn of(name: &str) -> Self {
        match name.trim_end_matches("_TRANSITIVE") {
            "NONE" => Self::None,
            "FORWARD" => Self::Forward,
            "FULL" => Self::Full,
            _ => Self::Backward,
        }
    }
}

impl Registry {
    /// A registry at `http://…` or `https://…`. Nothing is asked yet.
    ///
    /// # Errors
    /// [`Error::Address`]
    pub fn open(url: &str) -> Result<Self> {
        Self::build(url, None)
    }

    /// The same, with this text in the header `Authorization` (`Bearer …`, `Basic …`).
    ///
    /// # Errors
    /// [`Error::Address`]
    pub fn open_as(url: &str, authorization: impl Into<String>) -> Result<Self> {
        Self::build(url, Some(authorization.into()))
    }

    fn build(url: &str, authorization: Option<String>) -> Result<Self> {
        let url = url.trim_end_matches('/');
        if !url.starts_with("http://") && !url.starts_with("https://") {
            let hint = "a schema registry is at http://HOST:PORT or https://HOST:PORT";
            return Err(Error::address(url, hint));
        }
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build();
        let (agent, known) = (config.into(), Mutex::default());
        Ok(Self { inner: Arc::new(Inner { agent, url: url.to_owned(), authorization, known }) })
    }

    /// The subjects it has.
    ///
    /// # Errors
    /// [`Error::Unreachable`], [`Error::Refused`].
    pub async fn subjects(&self) -> Result<Vec<String>> {
        read(self.get("/subjects".to_owned()).await?.ok("listing subjects")?)
    }

    /// The versions of a subject; none if it is not there.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects).
    pub async fn versions(&self, subject: &str) -> Result<Vec<u32>> {
        let said = self.get(format!("/subjects/{}/versions", encoded(subject))).await?;
        said.found("listing versions")?.map_or(Ok(Vec::new()), read)
    }

    /// The newest version of a subject.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects).
    pub async fn latest(&self, subject: &str) -> Result<Option<Registered>> {
        self.at(subject, "latest").await
    }

    /// One version of a subject.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects).
    pub async fn version(&self, subject: &str, version: u32) -> Result<Option<Registered>> {
        self.at(subject, &version.to_string()).await
    }

    async fn at(&self, subject: &str, version: &str) -> Result<Option<Registered>> {
        let said = self.get(format!("/subjects/{}/versions/{version}", encoded(subject))).await?;
        let found: Option<Told> = said.found("reading a version")?.map(read).transpose()?;
        found.map(Told::registered).transpose()
    }

    /// This very schema, if it is registered under the subject.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects); a schema that the registry cannot read is refused.
    pub async fn lookup(&self, subject: &str, schema: &Schema) -> Result<Option<Registered>> {
        let said = self.post(format!("/subjects/{}", encoded(subject)), asked(schema)).await?;
        let found: Option<Told> = said.found("looking a schema up")?.map(read).transpose()?;
        let of =
            |told: Told| Registered { id: told.id, version: told.version, schema: schema.clone() };
        Ok(found.map(of))
    }

    /// Registers a schema; its id. Registering it again changes nothing.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects); a change that the subject's level does not allow is refused.
    pub async fn register(&self, subject: &str, schema: &Schema) -> Result<u32> {
        let path = format!("/subjects/{}/versions", encoded(subject));
        let said = self.post(path, asked(schema)).await?.ok(&format!("registering {subject}"))?;
        Ok(read::<Id>(said)?.id)
    }

    /// What the registry has against a schema as the subject's next version; nothing if it is compatible.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects).
    pub async fn objections(&self, subject: &str, schema: &Schema) -> Result<Vec<String>> {
        let subject = encoded(subject);
        let path = format!("/compatibility/subjects/{subject}/versions/latest?verbose=true");
        let said = self.post(path, asked(schema)).await?;
        let Some(said) = said.found("checking compatibility")? else { return Ok(Vec::new()) };
        let judged: Judged = read(said)?;
        match judged {
            Judged { is_compatible: true, .. } => Ok(Vec::new()),
            Judged { messages, .. } if messages.is_empty() => {
                Ok(vec!["it is incompatible".to_owned()])
            }
            Judged { messages, .. } => Ok(messages),
        }
    }

    /// What may change between versions of a subject.
    ///
    /// # Errors
    /// As [`subjects`](Self::subjects).
    pub async fn level(&self, subject: &str) -> Result<Level> {
        let path = format!("/config/{}?defaultToGlobal=true", encoded(subject));
        let said = self.get(path).await?.found("reading the compatibility level")?;
        let told = said.map(read::<Config>).transpose()?;
        Ok(told.map_or(Level::default(), |told| Level::of(&told.compatibility_level)))
    }

    /// The schema of an id, understood. Asked for once: what an id means never changes.
    pub(super) async fn codec(&self, id: u32) -> Result<Arc<Codec>> {
        let known =
            self.inner.known.lock().unwrap_or_else(PoisonError::into_inner).get(&id).cloned();
        if let Some(codec) = known {
            return Ok(codec);
        }
        let said =
            self.get(format!("/schemas/ids/{id}")).await?.ok(&format!("reading schema {id}"))?;
        let told: Whole = read(said)?;
        let schema = told.text.schema()?;
        let codec = Arc::new(self.understood(&schema).await?);
        let mut known = self.inner.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(id, Arc::clone(&codec));
        Ok(codec)
    }

    /// A schema with all that it refers to.
    pub(super) async fn understood(&self, schema: &Schema) -> Result<Codec> {
        let mut others: Vec<(String, Arc<str>)> = Vec::new();
        let mut wanted = schema.references.clone();
        while let Some(reference) = wanted.pop() {
            if others.iter().any(|(name, _)| *name == reference.name) {
                continue;
            }
            if others.len() >= REFERENCES_MAX {
                let why = format!("it refers to more than {REFERENCES_MAX} others");
                return Err(Error::refused("reading a schema", why));
            }
            let Reference { name, subject, version } = reference;
            let found = self.version(&subject, version).await?.ok_or_else(|| {
                Error::refused(
                    "reading a schema",
                    format!("{name} is not version {version} of {subject}"),
                )
            })?;
            wanted.extend(found.schema.references.iter().cloned());
            others.insert(0, (name, Arc::clone(&found.schema.text)));
        }
        Codec::of(schema, &others).map_err(|error| {
            Error::refused(format!("reading a schema in {}", schema.format.name()), error)
        })
    }

    async fn get(&self, path: String) -> Result<Answer> {
        self.ask(move |inner| {
            let mut request =
                inner.agent.get(format!("{}{path}", inner.url)).header("accept", TYPE);
            if let Some(authorization) = &inner.authorization {
                request = request.header("authorization", authorization);
            }
            request.call()
        })
        .await
    }

    async fn post(&self, path: String, body: Value) -> Result<Answer> {
        self.ask(move |inner| {
            let mut request =
                inner.agent.post(format!("{}{path}", inner.url)).header("accept", TYPE);
            if let Some(authorization) = &inner.authorization {
                request = request.header("authorization", authorization);
            }
            request.header("content-type", TYPE).send(body.to_string())
        })
        .await
    }

    async fn ask(
        &self,
        call: impl FnOnce(&Inner) -> Result<ureq::http::Response<ureq::Body>, ureq::Error>
        + Send
        + 'static,
    ) -> Result<Answer> {
        let inner = Arc::clone(&self.inner);
        let asked = tokio::task::spawn_blocking(move || {
            let mut response = call(&inner)?;
            let status = response.status().as_u16();
            let body =
                response.body_mut().with_config().limit(ANSWER_BYTES_MAX).read_to_string()?;
            Ok::<_, ureq::Error>(Answer { status, body })
        });
        let said =
            asked.await.map_err(|error| Error::refused("asking the schema registry", error))?;
        said.map_err(|error| Error::Unreachable {
            address: format!("the schema registry at {}", self.inner.url),
            source: error.into(),
            hint: "Is it running, and is that its address?".to_owned(),
        })
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry").field("url", &self.inner.url).finish_non_exhaustive()
    }
}

/// What was answered.
struct Answer {
    status: u16,
    body: String,
}

impl Answer {
    fn ok(self, doing: &str) -> Result<String> {
        if self.status < 300 {
            return Ok(self.body);
        }
        let said: Option<Problem> = serde_json::from_str(&self.body).ok();
        let said = said.map_or_else(|| self.body.chars().take(200).collect(), |said| said.message);
        Err(Error::refused(doing, format!("the schema registry says {}: {said}", self.status)))
    }

    /// `None`: there is no such thing.
    fn found(self, doing: &str) -> Result<Option<String>> {
        if self.status == 404 { Ok(None) } else { self.ok(doing).map(Some) }
    }
}

fn read<T: serde::de::DeserializeOwned>(body: String) -> Result<T> {
    serde_json::from_str(&body)
        .map_err(|error| Error::refused("reading the schema registry's answer", error))
}

fn asked(schema: &Schema) -> Value {
    json!({"schema": schema.text, "schemaType": schema.format.name(), "references": schema.references})
}

#[derive(Deserialize)]
struct Problem {
    message: String,
}

#[derive(Deserialize)]
struct Id {
    id: u32,
}

#[derive(Deserialize)]
struct Text {
    schema: String,
    #[serde(default, rename = "schemaType")]
    kind: Option<String>,
    #[serde(default)]
    references: Option<Vec<Reference>>,
}

#[derive(Deserialize)]
struct Whole {
    #[serde(flatten)]
    text: Text,
}

#[derive(Deserialize)]
struct Told {
    id: u32,
    version: u32,
    #[serde(flatten)]
    text: Text,
}

#[derive(Deserialize)]
struct Config {
    #[serde(rename = "compatibilityLevel")]
    compatibility_level: String,
}

#[derive(Deserialize)]
struct Judged {
    is_compatible: bool,
    #[serde(default)]
    messages: Vec<String>,
}

impl Text {
    fn schema(self) -> Result<Schema> {
        let format = match self.kind.as_deref() {
            None | Some("AVRO") => Format::Avro,
            Some("JSON") => Format::Json,
            Some("PROTOBUF") => Format::Protobuf,
            Some(other) => {
                return Err(Error::refused("reading a schema", format!("{other} is unknown")));
            }
        };
        let schema = Schema::of(format, self.schema);
        Ok(Schema { references: self.references.unwrap_or_default(), ..schema })
    }
}

impl Told {
    fn registered(self) -> Result<Registered> {
        Ok(Registered { id: self.id, version: self.version, schema: self.text.schema()? })
    }
}

/// Subjects in paths.
mod percent {
    use std::fmt::Write as _;

    pub(super) fn encoded(text: &str) -> String {
        let mut path = String::with_capacity(text.len());
        for byte in text.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                    path.push(char::from(byte));
                }
                _ => write!(path, "%{byte:02X}").unwrap_or_default(), // a String takes everything
            }
        }
        path
    }
}

const TYPE: &str = "application/vnd.schemaregistry.v1+json";
const PATIENCE: Duration = Duration::from_secs(10);
const ANSWER_BYTES_MAX: u64 = 16 * 1024 * 1024;
const REFERENCES_MAX: usize = 64;
/// More schemas than that are read anew from time to time.
const KNOWN_MAX: usize = 10_000;
