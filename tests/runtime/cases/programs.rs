//! A payload runs programs, by every call that there is and under names that are none of theirs. The truth: what was run
//! says its pid.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::payload::Trace;
use crate::alert::Alerts;
use crate::harness::Case;
use crate::model::Content;

/// Says who it is, as a shell does.
const SAY: &str = r#"echo '{"ran":'$$'}'"#;

struct Run {
    name: &'static str,
    /// `SHELL` is a copy of a shell in the room, called `update`; `SAY` is what it is to do.
    code: &'static str,
    rule: &'static str,
}

#[rustfmt::skip]
const RUNS: [Run; 11] = [
    run("execve", "child(lambda: os.execve('/bin/sh', ['sh', '-c', SAY], {}))", "shell-after-load"),
    run("execveat", "child(lambda: libc.syscall(EXECVEAT, os.open('/bin', os.O_PATH), b'sh', argv, None, 0))", "shell-after-load"),
    run("fexecve", "child(lambda: os.execve(os.open('/bin/sh', os.O_RDONLY), ['sh', '-c', SAY], {}))", "shell-after-load"),
    run("posix_spawn", "os.waitpid(os.posix_spawn('/bin/sh', ['sh', '-c', SAY], {}), 0)", "shell-after-load"),
    run("vfork", "import subprocess\nsubprocess.run(['/bin/sh', '-c', SAY], close_fds=False)", "shell-after-load"),
    run("script", "open('x', 'w').write('#!/bin/sh\\n' + SAY)\nos.chmod('x', 0o755)\nchild(lambda: os.execv('./x', ['x']))", "shell-after-load"),
    run("memory", "fd = os.memfd_create('x')\nos.write(fd, open('/bin/sh', 'rb').read())\nchild(lambda fd=fd: os.execve(fd, ['x', '-s', '-c', SAY], {}))", "memory-program-after-load"),
    run("memory_called_a_shell", "fd = os.memfd_create('x')\nos.write(fd, open('/bin/sh', 'rb').read())\nchild(lambda fd=fd: os.execve(fd, ['sh', '-c', SAY], {}))", "shell-after-load"),
    run("copy_called_a_shell", "child(lambda: os.execv(SHELL, ['-sh', '-c', SAY]))", "shell-after-load"),
    run("copy_under_another_name", "child(lambda: os.execv(SHELL, ['update', '-c', SAY]))", "shell-after-load"),
    run("link_to_a_shell", "os.symlink('/bin/sh', 'worker')\nchild(lambda: os.execv('./worker', ['worker', '-c', SAY]))", "shell-after-load"),
];

const fn run(name: &'static str, code: &'static str, rule: &'static str) -> Run {
    Run { name, code, rule }
}

pub fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> =
        RUNS.into_iter().map(|run| ran(run.name, run.code, run.rule, Path::new("/bin/sh"))).collect();
    // One program that is many, by what it is called.
    cases.push(ran(
        "busybox_under_another_name",
        "child(lambda: os.execv(SHELL, ['sh', '-c', SAY]))",
        "shell-after-load",
        Path::new("/bin/busybox"),
    ));
    cases
}

fn ran(name: &str, code: &'static str, rule: &'static str, shell: &'static Path) -> Case {
    Case::shared(format!("programs::{name}"), move |room| {
        let copy = room.dir.join("update");
        // By a process of its own: whoever is forked from this one while it is written would keep it busy.
        room.run(Command::new("cp").arg(shell).arg(&copy))?;
        let code = format!(
            "import ctypes, os\nSHELL, SAY = {copy:?}, {SAY:?}\nlibc = ctypes.CDLL(None)\n\
             EXECVEAT = {{'x86_64': 322, 'aarch64': 281}}[os.uname().machine]\n\
             argv = (ctypes.c_char_p * 4)(b'sh', b'-c', SAY.encode(), None)\n\
             globals().update(libc=libc, argv=argv, os=os, SHELL=SHELL, SAY=SAY, EXECVEAT=EXECVEAT)\n{code}"
        );
        let model = room.model("model.pkl", Content::Payload(&code))?;
        let truth = room.run_python("load()", &model)?;
        let pid = truth.what("ran")?["ran"].clone();
        ensure!(pid != Value::Null, "nothing was run: {truth:?}");
        let room = Trace::of(room);
        Ok(move |alerts: &Alerts| -> Result<()> {
            let own = alerts.filter(|alert| room.own(alert) && alert.at("/process/pid") == &pid).kind("exec");
            let alert = own.0.iter().rfind(|alert| alert.text("/rule/id") == rule);
            let alert = alert.with_context(|| format!("no alert of {rule} among {:?}", own.0))?;
            alert.is("/severity", "critical")?.is("/event/in_load", true)?.names(&model).map(|_| ())
        })
    })
}
