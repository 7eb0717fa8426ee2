//! The server over real sockets: what hostile, broken and impatient clients get, and that nobody
//! else notices.
//!
//! With `OTTLA_IT_BROKER=host:port` the stories that need no broker of their own run against that
//! broker instead: Apache Kafka's answer is the truth.

#[cfg(test)]
mod batches;
#[cfg(test)]
mod connections;
#[cfg(test)]
mod fetching;
#[cfg(test)]
mod frames;
#[cfg(test)]
mod groups;
#[cfg(test)]
mod offsets;
#[cfg(test)]
mod producers;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod topics;
