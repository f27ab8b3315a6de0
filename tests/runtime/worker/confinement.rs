//! What a child can't do, each layer by itself and all together.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use crate::fixture::SENSOR;
use crate::worker::child::check::{POSSIBLE, REFUSED};
use crate::worker::pool::Confinements;
use crate::worker::spawn::{Role, Worker};
use crate::worker::wire::Landlock;

#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Refused,
    Killed,
    Possible,
    Other(String),
}

fn attempt(role: &str, act: &str, without: &[&str]) -> Tried {
    let mut command = Command::new(SENSOR);
    command.args(["worker", "check", role, act]).args(without).stdout(Stdio::null());
    let status = command.stdin(Stdio::null()).stderr(Stdio::null()).status().expect("the binary runs");
    match (status.code().and_then(|code| u8::try_from(code).ok()), status.signal()) {
        (Some(REFUSED), _) => Tried::Refused,
        (Some(POSSIBLE | 0), _) => Tried::Possible,
        (None, Some(libc::SIGSYS)) => Tried::Killed,
        _ => Tried::Other(format!("{status}")),
    }
}

const ACTS: [&str; 5] = ["read", "write", "connect", "exec", "signal"];
const BARE: [&str; 2] = ["--without-seccomp", "--without-landlock"];

#[test]
fn the_scanner_is_killed_whatever_it_tries() {
    for act in ACTS {
        assert_eq!(attempt("scan", act, &[]), Tried::Killed, "{act}");
    }
}

#[test]
fn opener_and_process_reader_can_look_and_nothing_else() {
    for role in ["open", "process"] {
        assert_eq!(attempt(role, "read", &[]), Tried::Possible, "{role}: it has to");
        for act in ["write", "connect", "exec", "signal"] {
            assert_eq!(attempt(role, act, &[]), Tried::Refused, "{role}: {act}");
        }
    }
}

/// The acts themselves work: what was refused above was refused by the confinement.
#[test]
fn without_the_layers_every_act_is_possible() {
    for act in ["read", "connect", "exec"] {
        assert_eq!(attempt("scan", act, &BARE), Tried::Possible, "{act}");
    }
}

#[tokio::test]
async fn landlock_holds_by_itself_or_says_that_it_is_absent() {
    let mut scanner = Worker::spawn(SENSOR.as_ref(), Role::Scan, None).unwrap();
    let confinement = scanner.hello(Role::Scan).await.unwrap();
    scanner.stop().await;
    assert!(confinement.seccomp && confinement.capabilities, "{confinement:?}");
    let expected = match confinement.landlock {
        Landlock::Full | Landlock::Partial => Tried::Refused,
        Landlock::Absent | Landlock::NotForThisRole => Tried::Possible,
    };
    for act in ["read", "write", "exec"] {
        let tried = attempt("scan", act, &["--without-seccomp"]);
        // Files of others can't be made without capabilities either.
        assert!(tried == expected || (act == "write" && tried == Tried::Refused), "{act}: {tried:?}");
    }
    if confinement.landlock == Landlock::Full {
        for act in ["connect", "signal"] {
            assert_eq!(attempt("scan", act, &["--without-seccomp"]), Tried::Refused, "{act}");
        }
    }
}

#[tokio::test]
async fn a_probe_tells_what_this_host_lacks() {
    let held = Confinements::probe(SENSOR.as_ref()).await.unwrap();
    assert_eq!(held.open.landlock, Landlock::NotForThisRole);
    assert!(held.open.seccomp && held.scan.seccomp && held.open.capabilities && held.scan.capabilities);
    assert!(Confinements::probe("/bin/true".as_ref()).await.is_err());
}

#[tokio::test]
async fn every_child_ends_when_its_channel_does() {
    for role in [Role::Open, Role::Scan, Role::Process] {
        let mut child = Worker::spawn(SENSOR.as_ref(), role, None).unwrap();
        child.hello(role).await.unwrap();
        let (closed, _) = tokio::net::UnixStream::pair().unwrap();
        child.channel = closed;
        assert!(child.reap().await.is_some_and(|status| status.success()), "{role:?}");
    }
}
