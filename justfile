# Short ways; `.ci/run` is what must pass.

default:
    @just --list

# Format, the rules a script checks, lints
check:
    cargo fmt --all --check
    cargo xtask tidy
    cargo clippy --workspace --all-targets -- -D warnings

# All tests that need nothing but Rust
test:
    cargo test --workspace

# Everything that must pass before a change lands
ci:
    bash .ci/run
