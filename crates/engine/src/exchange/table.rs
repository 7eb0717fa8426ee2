//! The bindings of one exchange, and whatever index its type needs to choose among them.

use std::collections::{BTreeMap, HashMap};

use super::hash::{self, Ring};
use super::headers::{self, HeadersIndex};
use super::topic::Trie;
use super::{BindingFault, Destination, Publication, Routing};
use crate::value::Arguments;

/// Invariant: `index` holds exactly what `by_key` holds, in the form the type searches.
#[derive(Debug)]
pub(super) struct Table {
    by_key: HashMap<Box<str>, BTreeMap<Destination, Vec<Arguments>>>,
    count: usize,
    index: Index,
}

#[derive(Debug)]
enum Index {
    /// `by_key` is enough.
    Direct,
    Fanout,
    Topic(Trie),
    Headers(HeadersIndex),
    Ring(Ring),
    /// Distinct destinations in order, with the number of their bindings.
    Set(BTreeMap<Destination, usize>),
}

impl Table {
    pub(super) fn new(routing: &Routing) -> Self {
        let index = match routing {
            Routing::Direct => Index::Direct,
            Routing::Fanout | Routing::RecentHistory { .. } => Index::Fanout,
            Routing::Topic => Index::Topic(Trie::default()),
            Routing::Headers => Index::Headers(HeadersIndex::default()),
            Routing::ConsistentHash(_) => Index::Ring(Ring::default()),
            Routing::ModulusHash | Routing::Random | Routing::LocalRandom => {
                Index::Set(BTreeMap::new())
            }
        };
        Self { by_key: HashMap::new(), count: 0, index }
    }

    pub(super) const fn len(&self) -> usize {
        self.count
    }

    /// Adds a binding; false if it was there.
    pub(super) fn insert(
        &mut self,
        key: &str,
        destination: &Destination,
        arguments: &Arguments,
    ) -> Result<bool, BindingFault> {
        match &self.index {
            Index::Headers(_) => headers::validate(arguments)?,
            Index::Ring(_) => drop(hash::weight(key)?),
            _ => {}
        }
        if !self.by_key.contains_key(key) {
            self.by_key.insert(key.into(), BTreeMap::new());
        }
        let Some(destinations) = self.by_key.get_mut(key) else { return Ok(false) };
        let all = destinations.entry(destination.clone()).or_default();
        if all.iter().any(|other| other.same_as(arguments)) {
            return Ok(false);
        }
        all.push(arguments.clone());
        let first = all.len() == 1;
        self.count += 1;
        match &mut self.index {
            Index::Topic(trie) if first => trie.insert(key, destination.clone()),
            Index::Headers(index) => index.insert(destination.clone(), arguments),
            Index::Ring(ring) if first => ring.insert(destination.clone(), key),
            Index::Set(set) if first => *set.entry(destination.clone()).or_default() += 1,
            _ => {}
        }
        Ok(true)
    }

    /// Removes a binding; false if there is none.
    pub(super) fn remove(
        &mut self,
        key: &str,
        destination: &Destination,
        arguments: &Arguments,
    ) -> bool {
        let Some(destinations) = self.by_key.get_mut(key) else { return false };
        let Some(all) = destinations.get_mut(destination) else { return false };
        let Some(position) = all.iter().position(|other| other.same_as(arguments)) else {
            return false;
        };
        all.remove(position);
        let last = all.is_empty();
        if last {
            destinations.remove(destination);
        }
        if destinations.is_empty() {
            self.by_key.remove(key);
        }
        self.count -= 1;
        match &mut self.index {
            Index::Topic(trie) if last => trie.remove(key, destination),
            Index::Headers(index) => index.remove(destination, arguments),
            Index::Ring(ring) if last => ring.remove(destination, key),
            Index::Set(set) if last => {
                if let Some(bindings) = set.get_mut(destination) {
                    *bindings -= 1;
                    if *bindings == 0 {
                        set.remove(destination);
                    }
                }
            }
            _ => {}
        }
        true
    }

    /// The arguments of all bindings of that key to that destination.
    pub(super) fn of(&self, key: &str, destination: &Destination) -> &[Arguments] {
        let found = self.by_key.get(key).and_then(|all| all.get(destination));
        found.map_or(&[], Vec::as_slice)
    }

    /// All bindings, in the order of their keys and destinations.
    pub(super) fn all(&self) -> Vec<(&str, &Destination, &Arguments)> {
        let mut found: Vec<_> = self
            .by_key
            .iter()
            .flat_map(|(key, all)| all.iter().map(move |(to, with)| (&**key, to, with)))
            .flat_map(|(key, to, with)| with.iter().map(move |arguments| (key, to, arguments)))
            .collect();
        found.sort_by(|a, b| (a.0, a.1).cmp(&(b.0, b.1)));
        found
    }

    /// Where the message goes by its keys and headers; a destination may come more than once.
    pub(super) fn collect<'a>(
        &'a self,
        routing: &Routing,
        publication: &Publication<'_>,
        found: &mut Vec<&'a Destination>,
    ) {
        match &self.index {
            Index::Direct => {
                let hits = publication.keys.iter().filter_map(|key| self.by_key.get(*key));
                found.extend(hits.flat_map(BTreeMap::keys));
            }
            Index::Fanout => found.extend(self.by_key.values().flat_map(BTreeMap::keys)),
            Index::Topic(trie) => publication.keys.iter().for_each(|key| trie.collect(key, found)),
            Index::Headers(index) => index.collect(publication.headers, found),
            Index::Ring(ring) => {
                let Routing::ConsistentHash(on) = routing else { return };
                let keys = match on {
                    super::HashOn::RoutingKey => publication.keys,
                    _ => publication.keys.get(..1).unwrap_or_default(),
                };
                let picks = keys.iter().map(|key| hash::consistent(on, publication, key));
                found.extend(picks.filter_map(|hash| ring.pick(hash)));
            }
            Index::Set(set) => {
                let hash = match routing {
                    Routing::ModulusHash => hash::of_keys(publication.keys),
                    _ => publication.chance,
                };
                found.extend(set.keys().nth(hash::modulo(hash, set.len())));
            }
        }
    }
}
