//! Topic bindings as a trie of words. Matching walks all branches at once, so that its work is bounded
//! by words × nodes however many `#` the patterns hold.

use std::collections::{BTreeSet, HashMap};

use super::Destination;

/// The patterns of one topic exchange.
#[derive(Debug)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    free: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    words: HashMap<Box<str>, u32>,
    star: Option<u32>,
    hash: Option<u32>,
    is_hash: bool,
    targets: BTreeSet<Destination>,
}

impl Default for Trie {
    fn default() -> Self {
        Self { nodes: vec![Node::default()], free: Vec::new() }
    }
}

impl Trie {
    pub(super) fn insert(&mut self, pattern: &str, destination: Destination) {
        let mut at = ROOT;
        for word in words(pattern) {
            at = match self.child(at, word) {
                Some(next) => next,
                None => self.grow(at, word),
            };
        }
        if let Some(node) = self.node_mut(at) {
            node.targets.insert(destination);
        }
    }

    /// Removes one target and every node that led only there.
    pub(super) fn remove(&mut self, pattern: &str, destination: &Destination) {
        let mut path = Vec::new();
        let mut at = ROOT;
        for word in words(pattern) {
            path.push((at, word));
            let Some(next) = self.child(at, word) else { return };
            at = next;
        }
        if let Some(node) = self.node_mut(at) {
            node.targets.remove(destination);
        }
        while let Some((parent, word)) = path.pop() {
            if !self.node(at).is_some_and(Node::is_idle) {
                return;
            }
            self.cut(parent, word, at);
            at = parent;
        }
    }

    pub(super) fn collect<'a>(&'a self, key: &str, found: &mut Vec<&'a Destination>) {
        let mut active = vec![ROOT];
        self.add_empty_hashes(&mut active);
        for word in words(key) {
            let mut next = Vec::with_capacity(active.len() + 1);
            for &at in &active {
                let Some(node) = self.node(at) else { continue };
                if node.is_hash {
                    next.push(at); // `#` takes one more word
                }
                next.extend(node.words.get(word));
                next.extend(node.star);
            }
            self.add_empty_hashes(&mut next);
            next.sort_unstable();
            next.dedup();
            active = next;
            if active.is_empty() {
                return;
            }
        }
        for at in active {
            found.extend(self.node(at).into_iter().flat_map(|node| &node.targets));
        }
    }

    /// `#` matches no word at all, too.
    fn add_empty_hashes(&self, active: &mut Vec<u32>) {
        let mut done = 0;
        while let Some(&at) = active.get(done) {
            active.extend(self.node(at).and_then(|node| node.hash));
            done += 1;
        }
    }

    fn child(&self, at: u32, word: &str) -> Option<u32> {
        let node = self.node(at)?;
        match word {
            "*" => node.star,
            "#" => node.hash,
            _ => node.words.get(word).copied(),
        }
    }

    fn grow(&mut self, at: u32, word: &str) -> u32 {
        let fresh = Node { is_hash: word == "#", ..Node::default() };
        let index = match self.free.pop() {
            Some(index) => {
                if let Some(slot) = self.node_mut(index) {
                    *slot = fresh;
                }
                index
            }
            None => {
                self.nodes.push(fresh);
                u32::try_from(self.nodes.len() - 1).unwrap_or(u32::MAX)
            }
        };
        if let Some(node) = self.node_mut(at) {
            match word {
                "*" => node.star = Some(index),
                "#" => node.hash = Some(index),
                _ => drop(node.words.insert(word.into(), index)),
            }
        }
        index
    }

    fn cut(&mut self, parent: u32, word: &str, child: u32) {
        if let Some(node) = self.node_mut(parent) {
            match word {
                "*" => node.star = None,
                "#" => node.hash = None,
                _ => drop(node.words.remove(word)),
            }
        }
        self.free.push(child);
    }

    fn node(&self, at: u32) -> Option<&Node> {
        self.nodes.get(usize::try_from(at).ok()?)
    }

    fn node_mut(&mut self, at: u32) -> Option<&mut Node> {
        self.nodes.get_mut(usize::try_from(at).ok()?)
    }

    #[cfg(test)]
    pub(super) fn live_nodes(&self) -> usize {
        self.nodes.len() - self.free.len()
    }
}

impl Node {
    fn is_idle(&self) -> bool {
        self.targets.is_empty()
            && self.words.is_empty()
            && self.star.is_none()
            && self.hash.is_none()
    }
}

/// The empty key has no words, as in RabbitMQ; `a.` has two.
fn words(key: &str) -> impl Iterator<Item = &str> {
    key.split('.').take(if key.is_empty() { 0 } else { usize::MAX })
}

const ROOT: u32 = 0;
