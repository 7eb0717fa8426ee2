//! The binary as people meet it: what it says when it cannot start, how it stops, and the commands.

#[cfg(test)]
mod bounded;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod rig;
#[cfg(test)]
mod stories;
