//! Automation: `cargo xtask tidy|codegen|compat|proof`.

fn main() {}
