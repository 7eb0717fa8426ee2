//! What shows that a transport keeps its promises.

mod cases;
mod rig;

use crate::connection::Connection;
use crate::error::Result;
use crate::transport::{BoxFuture, Caps};

/// Opens a connection to the broker under test; called more than once.
pub type Open = fn() -> BoxFuture<'static, Result<Connection>>;

/// One promise of a transport.
#[derive(Clone, Copy)]
pub struct Case {
    /// The promise, as a sentence with underscores.
    pub name: &'static str,
    needs: fn(Caps) -> bool,
    run: fn(rig::Rig) -> BoxFuture<'static, rig::Shown>,
}

/// What became of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Kept.
    Kept,
    /// The transport does not promise it ([`Caps`]).
    NotPromised,
    /// Broken, and how.
    Broken(String),
}

/// Every case of the suite.
#[must_use]
pub fn cases() -> &'static [Case] {
    cases::ALL
}

/// Runs the whole suite, each case with names of its own. Panics with what is broken; returns what was
/// shown.
///
/// ```
/// # use ottla::{Connection, Mint, testing};
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let shown = testing::conformance(|| Box::pin(Connection::open("memory:"))).await;
/// assert!(shown.len() > 10);
/// # }
/// ```
pub async fn conformance(open: Open) -> Vec<(&'static str, Outcome)> {
    let mut outcomes = Vec::new();
    for case in cases() {
        outcomes.push((case.name, case.run(open).await));
    }
    let broken: Vec<String> = outcomes
        .iter()
        .filter_map(|(name, outcome)| match outcome {
            Outcome::Broken(how) => Some(format!("{name}: {how}")),
            _ => None,
        })
        .collect();
    assert!(broken.is_empty(), "the transport breaks its promises:\n{}", broken.join("\n"));
    outcomes
}

impl Case {
    /// Runs the case.
    pub async fn run(&self, open: Open) -> Outcome {
        let connection = match open().await {
            Ok(connection) => connection,
            Err(error) => return Outcome::Broken(error.to_string()),
        };
        if !(self.needs)(connection.caps()) {
            return Outcome::NotPromised;
        }
        let rig = rig::Rig::new(connection, open);
        match tokio::time::timeout(rig::CASE_MAX, (self.run)(rig)).await {
            Ok(Ok(())) => Outcome::Kept,
            Ok(Err(broken)) => Outcome::Broken(broken.0),
            Err(_) => Outcome::Broken(format!("not done after {:?}", rig::CASE_MAX)),
        }
    }
}

impl std::fmt::Debug for Case {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Case").field(&self.name).finish()
    }
}
