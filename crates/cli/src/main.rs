//! The command `ottla`.

fn main() {}
