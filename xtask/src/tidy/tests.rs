//! The repository keeps its rules, and each rule catches what it is for.

use std::path::Path;

use serde_json::json;

use super::source::Source;
use super::{check, layers, modules, papers, purity, shape};
use crate::root;

fn texts(findings: Vec<super::Finding>) -> Vec<String> {
    findings.iter().map(ToString::to_string).collect()
}

#[test]
fn this_repository_is_tidy() {
    let findings = texts(check(&root::folder()));
    assert!(findings.is_empty(), "\n{}", findings.join("\n"));
}

fn package(name: &str, folder: &str, dependencies: &[(&str, Option<&str>)]) -> serde_json::Value {
    let dependencies: Vec<_> =
        dependencies.iter().map(|(name, kind)| json!({"name": name, "kind": kind})).collect();
    json!({"name": name, "manifest_path": format!("/r/{folder}/Cargo.toml"), "dependencies": dependencies})
}

fn judge(packages: Vec<serde_json::Value>) -> Vec<String> {
    texts(layers::judge(Path::new("/r"), &json!({"packages": packages})))
}

#[test]
fn an_import_that_points_up_is_found_by_folder_not_by_name() {
    let store = package("any-name", "crates/store", &[("engine-x", None)]);
    let engine = package("engine-x", "crates/engine", &[("any-name", None)]);
    assert_eq!(
        judge(vec![store, engine]),
        [
            "crates/store/Cargo.toml: must not use crates/engine: imports point down (docs/style.md 3)"
        ]
    );
}

#[test]
fn a_runtime_in_a_pure_crate_is_found_but_not_in_its_tests() {
    let pure = package("e", "crates/engine", &[("tokio", None), ("rand", Some("dev"))]);
    let server = package("s", "crates/server", &[("tokio", None)]);
    assert_eq!(
        judge(vec![pure, server]),
        ["crates/engine/Cargo.toml: must not use tokio: a pure crate has no runtime"]
    );
}

#[test]
fn a_crate_without_a_layer_is_found() {
    let found = judge(vec![package("common", "crates/common", &[])]);
    assert_eq!(
        found,
        ["crates/common/Cargo.toml: new crate: give it a layer in xtask/src/tidy/layers.rs"]
    );
}

#[test]
fn a_dependency_from_outside_a_registry_is_found() {
    let lock = "name = \"a\"\nsource = \"registry+x\"\nname = \"b\"\nsource = \"git+y\"\n";
    assert_eq!(
        texts(layers::judge_sources(lock)),
        ["Cargo.lock:4: a dependency from outside a registry"]
    );
}

fn impure(file: &str, text: &str) -> Vec<String> {
    texts(purity::check(&Source::new(file, text)))
}

#[test]
fn files_clocks_and_async_are_found_in_pure_crates_however_they_are_imported() {
    let text = "use std::{collections, fs::File};\nfn f() { std::time::Instant::now(); }\nasync fn g() {}\n";
    assert_eq!(
        impure("crates/store/src/wal.rs", text),
        [
            "crates/store/src/wal.rs:1: `std::fs` in a pure crate: the disk comes in as `dyn Disk`",
            "crates/store/src/wal.rs:2: `Instant::now` in a pure crate: time comes in as an argument",
            "crates/store/src/wal.rs:3: `async` in a pure crate: machines are driven, they do not wait",
        ]
    );
    assert_eq!(impure("crates/server/src/x.rs", text), [""; 0]);
}

#[test]
fn a_loop_may_park_its_thread_but_not_spawn_one() {
    let text = "fn f() { std::thread::park_timeout(IDLE); std::thread::spawn(f); }";
    assert_eq!(
        impure("crates/engine/src/engine.rs", text),
        ["crates/engine/src/engine.rs:1: `std::thread` in a pure crate: threads are spawned by \
          crates/server or the embedded broker"]
    );
}

#[test]
fn the_real_disk_may_use_files_but_no_clock() {
    let text = "use std::fs::File;\nuse std::time::SystemTime;\n";
    for file in ["crates/store/src/disk.rs", "crates/store/src/disk/real.rs"] {
        let expected =
            format!("{file}:2: `SystemTime` in a pure crate: time comes in as an argument");
        assert_eq!(impure(file, text), [expected]);
    }
}

#[test]
fn comments_literals_and_tests_say_what_they_like() {
    let text = r##"
//! std::fs
/* std::fs /* nested */ std::fs */
const A: &str = "std::fs \" std::fs";
const B: &str = r#"std::fs " "#;
const C: char = '"';
fn f<'a>(x: &'a str) -> &'a str { x }
#[cfg(test)]
mod tests { use std::fs; fn g() { if true { } } }
"##;
    assert_eq!(impure("crates/store/src/a.rs", text), [""; 0]);
    let after = format!("{text}use std::fs;");
    assert_eq!(impure("crates/store/src/a.rs", &after).len(), 1, "the text behind tests counts");
}

fn modules_of(files: &[(&str, &str)]) -> Vec<String> {
    let sources: Vec<Source> = files.iter().map(|(file, text)| Source::new(file, text)).collect();
    texts(modules::check(&sources))
}

#[test]
fn a_cycle_of_modules_is_found_with_its_way_round() {
    let found = modules_of(&[
        ("crates/x/src/lib.rs", "pub mod a; pub mod b; mod c; pub use c::Thing;"),
        ("crates/x/src/a.rs", "use crate::b::B;"),
        ("crates/x/src/b/deep.rs", "use super::super::c;"),
        ("crates/x/src/c.rs", "fn f() -> crate::a::A { todo() }"),
    ]);
    assert_eq!(found, ["crates/x/src/a.rs:1: import cycle of modules: a → b → c → a"]);
}

#[test]
fn a_cycle_through_names_of_the_root_is_found() {
    let found = modules_of(&[
        ("crates/x/src/lib.rs", "mod a; mod b; pub use a::A; pub use b::{B, C};"),
        ("crates/x/src/a.rs", "use crate::C;"),
        ("crates/x/src/b.rs", "use crate::A;"),
    ]);
    assert_eq!(found, ["crates/x/src/a.rs:1: import cycle of modules: a → b → a"]);
}

#[test]
fn modules_that_only_point_down_are_fine() {
    let found = modules_of(&[
        ("crates/x/src/lib.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("crates/x/src/a.rs", "use crate::B; #[cfg(test)] mod tests { use crate::A; }"),
        ("crates/x/src/b.rs", "use self::inner::X; mod inner { use super::Y; }"),
    ]);
    assert_eq!(found, [""; 0]);
}

#[test]
fn front_doors_that_meet_are_found() {
    let found = modules_of(&[
        ("crates/server/src/kafka/driver.rs", "use crate::{codes, amqp::driver::Driver};"),
        ("crates/server/src/amqp/driver.rs", ""),
        ("crates/server/src/codes.rs", ""),
    ]);
    assert_eq!(
        found,
        ["crates/server/src/kafka/driver.rs:1: `kafka` imports `amqp`: front doors never meet"]
    );
}

#[test]
fn a_long_file_a_missing_head_and_an_ignored_test_are_found() {
    let long = format!("fn f() {{}}\n#[ignore]\nfn g() {{}}\n{}", "\n".repeat(800));
    assert_eq!(
        texts(shape::check_source(&Source::new("crates/x/src/a.rs", &long))),
        [
            "crates/x/src/a.rs:1: no `//!` head that says the file's one job",
            "crates/x/src/a.rs: 803 lines without tests, 800 at most",
            "crates/x/src/a.rs:2: an ignored test proves nothing: mend it or delete it",
        ]
    );
    let tested = format!("//! Job.\n#[cfg(test)]\nmod tests {{{}}}\n", "\n".repeat(900));
    assert_eq!(texts(shape::check_source(&Source::new("crates/x/src/a.rs", &tested))), [""; 0]);
}

#[test]
fn a_path_of_one_machine_and_two_titles_are_found() {
    let text = format!("# A\n```\n# no title\n```\nsee {}x\n# B\n", concat!("/ho", "me/"));
    let found = texts(shape::check_text("a.md", &text));
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn a_crate_missing_from_the_map_and_a_path_to_nowhere_are_found() {
    let files = ["crates/a/Cargo.toml".to_owned(), "crates/b/Cargo.toml".to_owned()];
    let map = "`crates/a` is here, `no/such/file.rs` is not, `GET /x` and `a::b` are no paths";
    assert_eq!(
        texts(papers::check_map(&root::folder(), &files, map)),
        [
            "ARCHITECTURE.md: does not mention `crates/b`",
            "ARCHITECTURE.md:1: `crates/a` does not exist",
            "ARCHITECTURE.md:1: `no/such/file.rs` does not exist",
        ]
    );
}

#[test]
fn a_decision_without_its_number_or_a_part_is_found() {
    let whole = |number| format!("# {number} T\n## Context\n## Decision\n## Consequence\n");
    let decisions =
        [("0001-a.md", whole("0001")), ("0003-b.md", whole("0003").replace("## Decision\n", ""))];
    assert_eq!(
        texts(papers::check_decisions(&decisions)),
        [
            "docs/adr/0003-b.md: should be `0002-name.md`",
            "docs/adr/0003-b.md:1: its title should be `# 0002 …`",
            "docs/adr/0003-b.md: has no `## Decision`",
        ]
    );
}
