//! Acts for the tests of everything that is made from acts.

use std::sync::Arc;

use crate::event::{
    Act, ActKind, Artifact, ContentClass, Destination, Family, InodeKey, Lineage, Model, Process, Proto, Role, TaskKey,
    Verdict,
};

pub fn key(tgid: u32) -> TaskKey {
    TaskKey { tgid, start_boottime_ns: 100 + u64::from(tgid) }
}

pub fn process(tgid: u32, exe: &str, argv: &[&str]) -> Process {
    Process {
        key: key(tgid),
        start_unix_ns: 1_790_000_000_000_000_000,
        exe: exe.into(),
        argv: argv.iter().map(|text| text.as_bytes().to_vec()).collect(),
        argv_truncated: false,
        uid: Some(1000),
    }
}

pub fn model(ino: u64) -> Model {
    Model {
        sight: ino,
        inode: InodeKey { dev: 8 << 20 | 1, generation: 7, ino },
        path: format!("/models/{ino}.pt").into_bytes(),
        size: 4096,
        format: Some("torch-zip".into()),
        class: ContentClass::Code,
        verdict: Verdict::Clean,
        findings: Vec::new(),
        sha256: None,
        repo: None,
        revision: None,
        destroyed: None,
        all_globals_safe: false,
    }
}

/// Opened by process 1, an hour ago, window over.
pub fn artifact(ino: u64) -> Artifact {
    Artifact {
        model: Arc::new(model(ino)),
        opener: key(1),
        opened_boottime_ns: 1_000,
        in_window: false,
        born: false,
        basis: None,
        since_ns: 3_600_000_000_000,
        bystander: false,
    }
}

/// Of process 1, a child of the shell 2, that opened the model 1.
pub fn act(kind: ActKind) -> Act {
    Act {
        time_unix_ns: 1_790_000_000_123_456_789,
        time_boottime_ns: 13_001_000,
        kind,
        role: Role::Loader,
        lineage: Arc::new(Lineage {
            process: process(1, "/usr/bin/python3.11", &["python3", "load.py"]),
            ancestors: vec![process(2, "/usr/bin/bash", &["bash"])],
            cgroup_id: 42,
        }),
        artifacts: vec![artifact(1)],
        times: 1,
        artifacts_omitted: 0,
    }
}

/// [`act`] with another model in place of the only artifact's.
pub fn act_with(kind: ActKind, change: impl FnOnce(&mut Artifact, &mut Model)) -> Act {
    let mut act = act(kind);
    let mut model = model(1);
    change(&mut act.artifacts[0], &mut model);
    act.artifacts[0].model = Arc::new(model);
    act
}

pub fn exec(exe: &str, argv: &[&str]) -> ActKind {
    ActKind::Exec {
        exe: exe.into(),
        argv: argv.iter().map(|text| text.as_bytes().to_vec()).collect(),
        argv_truncated: false,
    }
}

pub fn destination(ip: &str, port: u16, proto: Proto) -> Destination {
    let ip: std::net::IpAddr = ip.parse().expect("an address");
    let family = if ip.is_ipv4() { Family::Inet } else { Family::Inet6 };
    Destination { family, proto, ip: Some(ip), port: Some(port), domain: None }
}

pub fn connect(ip: &str, port: u16) -> ActKind {
    ActKind::Connect(destination(ip, port, Proto::Tcp))
}

pub fn send(ip: &str, port: u16) -> ActKind {
    ActKind::Send(destination(ip, port, Proto::Udp))
}
