//! Who says what to whom: the map of a system that no service has as a whole.
//!
//! In a choreography nobody directs. Each service knows what it listens to and what it says; the map puts
//! that together, as a drawing for people ([`Map::mermaid`]), as [AsyncAPI 3](https://www.asyncapi.com/docs/reference/specification/v3.0.0)
//! for programs ([`Map::asyncapi`]), and as a list of what cannot be right ([`Map::doubts`]).
//!
//! ```
//! use ottla::choreography::{Map, Role};
//! # use ottla::Message;
//! # use serde::{Deserialize, Serialize};
//! # #[derive(Serialize, Deserialize, Message)]
//! # #[message(name = "order.created")]
//! # struct OrderCreated {}
//! # #[derive(Serialize, Deserialize, Message)]
//! # #[message(name = "payment.taken")]
//! # struct PaymentTaken {}
//!
//! let map = Map::named("shop")
//!     .with(Role::named("orders").emits::<OrderCreated>("orders"))
//!     .with(Role::named("payment").hears::<OrderCreated>("orders").emits::<PaymentTaken>("payments"))
//!     .with(Role::named("shipping").hears::<PaymentTaken>("payments"));
//! assert!(map.doubts().is_empty());
//! assert!(map.mermaid().contains("payment -->|payment.taken| shipping"));
//! ```

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map as Object, Value, json};

use crate::address::Address;
use crate::message::Message;
use crate::saga::Saga;

/// A system: its services, and what passes between them.
#[derive(Clone, Debug, Default)]
pub struct Map {
    name: String,
    roles: Vec<Role>,
}

/// A service: what it listens to and what it says.
#[derive(Clone, Debug, Default)]
pub struct Role {
    name: String,
    hears: BTreeSet<Passing>,
    emits: BTreeSet<Passing>,
}

/// A message at an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Passing {
    at: Address,
    message: &'static str,
}

/// What a map cannot be right about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// Somebody listens to what nobody says.
    Unsaid {
        /// Who.
        role: String,
        /// To what.
        message: String,
        /// Where.
        at: Address,
    },
    /// Somebody says what nobody hears. Fine for events that are kept; never for a queue.
    Unheard {
        /// Who.
        role: String,
        /// What.
        message: String,
        /// Where.
        at: Address,
    },
    /// A message may bring about itself, without end.
    Circle {
        /// The services on the way, the first once.
        roles: Vec<String>,
    },
}

impl Role {
    /// A service.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A saga is a service too.
    #[must_use]
    pub fn of<D>(saga: &Saga<D>) -> Self
    where
        D: Clone + Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let passing = |(at, message): (&Address, _)| Passing { at: at.clone(), message };
        let (hears, emits) = (saga.heeds().map(passing), saga.emits().map(passing));
        Self { name: saga.name().to_owned(), hears: hears.collect(), emits: emits.collect() }
    }

    /// It listens to this.
    #[must_use]
    pub fn hears<M: Message>(mut self, at: impl Into<Address>) -> Self {
        self.hears.insert(Passing::of::<M>(at));
        self
    }

    /// It says this.
    #[must_use]
    pub fn emits<M: Message>(mut self, to: impl Into<Address>) -> Self {
        self.emits.insert(Passing::of::<M>(to));
        self
    }
}

impl Passing {
    fn of<M: Message>(at: impl Into<Address>) -> Self {
        Self { at: at.into(), message: M::NAME }
    }
}

impl Map {
    /// A system without services.
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), roles: Vec::new() }
    }

    /// One more service.
    #[must_use]
    pub fn with(mut self, role: Role) -> Self {
        self.roles.push(role);
        self
    }

    /// A Mermaid flowchart: services, and between them the messages.
    #[must_use]
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for role in &self.roles {
            put(&mut text, format_args!("    {}[{}]\n", identifier(&role.name), role.name));
        }
        for (from, message, to) in self.edges() {
            let (from, to) = (identifier(&from.name), identifier(&to.name));
            put(&mut text, format_args!("    {from} -->|{}| {to}\n", message.message));
        }
        text
    }

    /// The system as AsyncAPI 3.0: a channel for each address, an operation for each service that sends to it
    /// or receives from it.
    #[must_use]
    pub fn asyncapi(&self) -> Value {
        let (mut channels, mut operations) = (Object::new(), Object::new());
        let mut messages = Object::new();
        for role in &self.roles {
            let hears = role.hears.iter().map(|passing| ("receive", passing));
            let emits = role.emits.iter().map(|passing| ("send", passing));
            for (action, passing) in hears.chain(emits) {
                let (channel, message) = (identifier(&passing.at.to_string()), passing.message);
                let at = channels
                    .entry(channel.clone())
                    .or_insert_with(|| json!({ "address": passing.at.name(), "messages": {} }));
                let named = json!({ "$ref": format!("#/components/messages/{message}") });
                if let Some(at) = at.get_mut("messages").and_then(Value::as_object_mut) {
                    at.insert(message.to_owned(), named);
                }
                messages.entry(message).or_insert_with(|| json!({ "name": message }));
                let operation = format!("{}_{action}_{channel}", identifier(&role.name));
                let operation = operations.entry(operation).or_insert_with(|| {
                    json!({
                        "action": action,
                        "channel": { "$ref": format!("#/channels/{channel}") },
                        "messages": [],
                    })
                });
                let through = format!("#/channels/{channel}/messages/{message}");
                if let Some(list) = operation.get_mut("messages").and_then(Value::as_array_mut) {
                    list.push(json!({ "$ref": through }));
                }
            }
        }
        json!({
            "asyncapi": "3.0.0",
            "info": { "title": self.name, "version": "1.0.0" },
            "channels": channels,
            "operations": operations,
            "components": { "messages": messages },
        })
    }

    /// What cannot be right: a message that nobody says, that nobody hears, or that goes round in a circle.
    #[must_use]
    pub fn doubts(&self) -> Vec<Doubt> {
        let mut doubts = Vec::new();
        let said: BTreeSet<&Passing> = self.roles.iter().flat_map(|role| &role.emits).collect();
        let heard: BTreeSet<&Passing> = self.roles.iter().flat_map(|role| &role.hears).collect();
        for role in &self.roles {
            for heard in role.hears.iter().filter(|heard| !said.contains(heard)) {
                let (role, message) = (role.name.clone(), heard.message.to_owned());
                doubts.push(Doubt::Unsaid { role, message, at: heard.at.clone() });
            }
            for said in role.emits.iter().filter(|said| !heard.contains(said)) {
                let (role, message) = (role.name.clone(), said.message.to_owned());
                doubts.push(Doubt::Unheard { role, message, at: said.at.clone() });
            }
        }
        doubts.extend(self.circle().map(|roles| Doubt::Circle { roles }));
        doubts
    }

    fn edges(&self) -> impl Iterator<Item = (&Role, &Passing, &Role)> {
        self.roles.iter().flat_map(move |from| {
            from.emits.iter().flat_map(move |said| {
                let hearers = self.roles.iter();
                let hearers = hearers.filter(|to| to.hears.contains(said));
                hearers.map(move |to| (from, said, to))
            })
        })
    }

    /// Services that keep each other busy, if there are any. Services that answer requests, as a saga's
    /// participants do, are not counted: a circle must not pass a queue.
    fn circle(&self) -> Option<Vec<String>> {
        // What nobody in the rest leads to cannot be on a circle: take it away until nothing changes.
        let mut edges: Vec<(&str, &str)> = self
            .edges()
            .filter(|(_, said, _)| !said.at.is_queue())
            .map(|(from, _, to)| (from.name.as_str(), to.name.as_str()))
            .collect();
        loop {
            let before = edges.len();
            let all = edges.clone();
            edges.retain(|(from, to)| {
                all.iter().any(|(_, into)| into == from) && all.iter().any(|(out, _)| out == to)
            });
            if edges.len() == before {
                break;
            }
        }
        let mut roles = vec![edges.first()?.0];
        loop {
            let last = roles.last()?;
            let next = edges.iter().find(|(from, _)| from == last)?.1;
            if let Some(start) = roles.iter().position(|role| *role == next) {
                return Some(roles.split_off(start).into_iter().map(str::to_owned).collect());
            }
            roles.push(next);
        }
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsaid { role, message, at } => {
                write!(f, "{role} listens to {message} at {at}, but nobody says it")
            }
            Self::Unheard { role, message, at } => {
                write!(f, "{role} says {message} to {at}, but nobody listens")
            }
            Self::Circle { roles } => {
                write!(f, "{} keep each other busy without end", roles.join(" → "))
            }
        }
    }
}

/// Letters, digits and underscores: what Mermaid and AsyncAPI take as a name.
fn identifier(name: &str) -> String {
    name.chars().map(|sign| if sign.is_ascii_alphanumeric() { sign } else { '_' }).collect()
}

fn put(text: &mut String, what: fmt::Arguments<'_>) {
    let _written = text.write_fmt(what); // a String takes everything
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;
    use crate::Message;

    #[derive(Serialize, Deserialize, Message)]
    #[message(name = "order.created")]
    struct Created {}
    #[derive(Serialize, Deserialize, Message)]
    #[message(name = "payment.taken", v = 2)]
    struct Taken {}
    #[derive(Serialize, Deserialize, Message)]
    #[message(name = "mail.send")]
    struct Mail {}

    fn shop() -> Map {
        Map::named("shop")
            .with(Role::named("orders").emits::<Created>("orders"))
            .with(Role::named("payment").hears::<Created>("orders").emits::<Taken>("payments"))
            .with(Role::named("mail-room").hears::<Created>("orders").hears::<Taken>("payments"))
    }

    #[test]
    fn the_drawing_has_an_arrow_for_each_message_and_each_who_hears_it() {
        let expected = "\
flowchart LR
    orders[orders]
    payment[payment]
    mail_room[mail-room]
    orders -->|order.created| payment
    orders -->|order.created| mail_room
    payment -->|payment.taken| mail_room
";
        assert_eq!(shop().mermaid(), expected);
        assert_eq!(shop().doubts(), []);
    }

    #[test]
    fn every_reference_of_the_asyncapi_document_leads_somewhere() {
        let document = shop().asyncapi();
        let mut found = 0;
        let mut left = vec![&document];
        while let Some(value) = left.pop() {
            match value {
                Value::Object(fields) => {
                    if let Some(Value::String(reference)) = fields.get("$ref") {
                        let pointer = reference.trim_start_matches('#');
                        assert!(document.pointer(pointer).is_some(), "{reference}");
                        found += 1;
                    }
                    left.extend(fields.values());
                }
                Value::Array(items) => left.extend(items),
                _ => {}
            }
        }
        assert_eq!(found, 12, "2 in channels, and for 5 operations a channel and a message each");
        assert_eq!(document["operations"]["payment_send_payments"]["action"], "send");
        assert_eq!(document["channels"]["orders"]["address"], "orders");
    }

    #[test]
    fn what_nobody_says_nobody_hears_and_what_goes_round_is_doubted() {
        let map =
            shop().with(Role::named("stock").hears::<Mail>("mails").emits::<Mail>("queue:post"));
        let words: Vec<String> = map.doubts().iter().map(ToString::to_string).collect();
        assert_eq!(
            words,
            [
                "stock listens to mail.send at mails, but nobody says it",
                "stock says mail.send to queue:post, but nobody listens",
            ]
        );

        let map = shop()
            .with(Role::named("ledger").hears::<Taken>("payments").emits::<Created>("orders"));
        let words: Vec<String> = map.doubts().iter().map(ToString::to_string).collect();
        assert_eq!(words, ["payment → ledger keep each other busy without end"]);
    }

    #[test]
    fn a_request_and_its_answer_are_no_circle() {
        let map = Map::named("shop")
            .with(Role::named("orders").emits::<Mail>("queue:mail").hears::<Taken>("done"))
            .with(Role::named("post").hears::<Mail>("queue:mail").emits::<Taken>("done"));
        assert_eq!(map.doubts(), []);
    }
}
