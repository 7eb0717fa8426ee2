//! The connection machine.
