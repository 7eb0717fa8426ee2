//! The first day: each reason not to start has its message, its remedy and its exit code.

use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::Command;
use std::time::Duration;

use crate::rig::{Broker, Scratch, ottla, run, told};

/// `ottla serve` on free ports with data in `scratch/data`.
fn serve(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command =
        ottla(scratch, &["serve", "--data", "data", "--amqp", "off", "--http", "off"]);
    command.args(arguments);
    command
}

const FREE: [&str; 2] = ["--kafka", "127.0.0.1:0"];

#[test]
fn a_port_that_is_taken_is_named_with_a_way_out() {
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let scratch = Scratch::new();
    for listener in ["--kafka", "--amqp"] {
        let mut command =
            ottla(&scratch, &["serve", "--data", "data", "--http", "off", listener, &address]);
        let free = if listener == "--kafka" { "--amqp" } else { "--kafka" };
        let told = run(command.args([free, "off"]));
        let cause = format!("{}: {address} is taken by another program", &listener[2..]);
        told.failed(73, &[&cause, &format!("{listener} 127.0.0.1:0 picks a free one")]);
    }
    assert!(!scratch.path().join("data").exists(), "nothing was begun");
}

#[test]
fn a_directory_that_another_ottla_serves_is_named_with_its_process() {
    let broker = Broker::start();
    let told = run(&mut serve(&broker.scratch, &FREE));
    let holder = format!("in use by process {}", broker.process());
    told.failed(73, &["data", &holder, "--data"]);
}

#[test]
fn a_directory_of_a_newer_version_is_left_alone() {
    let scratch = Broker::start().into_scratch();
    let path = scratch.path().join("data/FORMAT");
    let format = std::fs::read_to_string(&path).unwrap();
    let newer = format.replace('1', "9");
    assert_ne!(format, newer);
    std::fs::write(&path, &newer).unwrap();
    run(&mut serve(&scratch, &FREE)).failed(65, &["FORMAT", "9", "newer"]);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn a_directory_that_may_not_be_written_is_named() {
    let scratch = Scratch::new();
    let data = scratch.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::set_permissions(&data, PermissionsExt::from_mode(0o555)).unwrap();
    let is_root = std::fs::metadata("/proc/self").unwrap().uid() == 0;
    let told = if is_root {
        // root may write everywhere: run as somebody who may not, from where everybody may read
        let program = scratch.path().join("ottla");
        std::fs::copy(env!("CARGO_BIN_EXE_ottla"), &program).unwrap();
        let mut nobody = Command::new("setpriv");
        nobody.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(&program);
        nobody
            .args(["serve", "--amqp", "off", "--http", "off"])
            .args(FREE)
            .arg("--data")
            .arg(&data);
        run(nobody.current_dir("/"))
    } else {
        run(&mut serve(&scratch, &FREE))
    };
    told.failed(77, &["data", "ermission denied", "make the directory writable", "--data"]);
}

#[test]
fn a_file_where_the_directory_should_be_is_no_panic() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("data"), "not a directory").unwrap();
    run(&mut serve(&scratch, &FREE)).failed(74, &["data"]);
}

/// A file system of two MiB, in a mount namespace of its own (user namespaces, or root).
#[test]
fn a_full_disk_is_named() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=2m none small && exec timeout 60 \"$0\" serve \
                  --data small/data --kafka 127.0.0.1:0 --amqp off --http off";
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
    command.arg(env!("CARGO_BIN_EXE_ottla")).current_dir(scratch.path());
    told(command.output().unwrap()).failed(74, &["small", "no space", "free some space", "--data"]);
}

#[test]
fn an_unknown_setting_is_named_with_its_nearest_neighbour() {
    let scratch = Scratch::new();
    std::fs::write(scratch.path().join("ottla.toml"), "kafak = \"off\"\n").unwrap();
    let words = ["ottla.toml", "there is no setting `kafak`", "did you mean `kafka`?"];
    run(&mut serve(&scratch, &[])).failed(78, &words);
    let scratch = Scratch::new();
    let mut command = serve(&scratch, &FREE);
    let words = ["environment", "there is no setting `durabilty`", "did you mean `durability`?"];
    run(command.env("OTTLA_DURABILTY", "os")).failed(78, &words);
    let mut command = serve(&scratch, &["--durability", "maybe"]);
    run(&mut command).failed(78, &["durability = maybe", "must be one of: sync, os"]);
    let mut command = serve(&scratch, &["--config", "nowhere.toml"]);
    run(&mut command).failed(78, &["nowhere.toml", "No such file"]);
    assert!(!scratch.path().join("data").exists(), "nothing was begun");
}

#[test]
fn a_check_tells_what_a_start_would_and_leaves_no_sign_of_one() {
    let scratch = Scratch::new();
    let check = ["--check", "--ready-file", "ready.json", FREE[0], FREE[1]];
    let told = run(&mut serve(&scratch, &check));
    assert!(told.err.contains("in order"), "{}", told.err);
    told.ok();
    assert!(!scratch.path().join("ready.json").exists(), "nobody may take it for ready");
    let other = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = other.local_addr().unwrap().to_string();
    let told = run(&mut serve(&scratch, &["--check", "--kafka", &address]));
    told.failed(73, &["is taken by another program"]);
}

#[test]
fn a_stop_is_in_order_and_within_five_seconds_whoever_is_connected() {
    let mut broker = Broker::start();
    let idle = std::net::TcpStream::connect(&broker.kafka).unwrap();
    let (code, took) = broker.stop();
    assert_eq!(code, Some(0), "{}", broker.log());
    assert!(took < Duration::from_secs(5), "{took:?}");
    drop(idle);
    let log = broker.log();
    assert!(log.contains("Server startup complete") && log.contains("stopped"), "{log}");
}

#[test]
fn a_ready_file_names_every_bound_address() {
    let broker = Broker::with(&["--kafka", "127.0.0.1:0,127.0.0.1:0", "--amqp", "127.0.0.1:0"]);
    let text = std::fs::read_to_string(broker.scratch.path().join("ready.json")).unwrap();
    let ready: serde_json::Value = serde_json::from_str(&text).unwrap();
    let kafka = ready["kafka"].as_array().unwrap();
    assert_eq!(kafka.len(), 2);
    assert_eq!(ready["amqp"].as_array().unwrap().len(), 1);
    for address in kafka.iter().chain(ready["amqp"].as_array().unwrap()) {
        let address = address.as_str().unwrap();
        std::net::TcpStream::connect(address).unwrap();
        assert!(broker.log().contains(address), "the banner has it too");
    }
}

#[test]
fn acknowledging_before_the_sync_is_warned_about() {
    assert!(!Broker::start().log().contains("WARN"));
    let broker = Broker::with(&["--durability", "os"]);
    let log = broker.log();
    let warning = log.lines().find(|line| line.contains("WARN")).unwrap_or_default();
    assert!(warning.contains("durability"), "{log}");
}
