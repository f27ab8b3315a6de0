//! One boot: initramfs, file server, QEMU, and the exit status out of it.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::arch::Arch;
use super::initramfs::Archive;
use super::kernel::Kernel;
use super::userland;
use crate::tool::{as_root, is_root, root, run as run_command, target};

const ADVICE: &str = "run `cargo xtask setup --for vm`";
/// In the order of their dependencies. A kernel that has one built in has no such file.
const MODULES: [&str; 8] = [
    "virtio_ring",
    "virtio",
    "virtio_pci_legacy_dev",
    "virtio_pci_modern_dev",
    "virtio_pci",
    "fuse",
    "virtiofs",
    "overlay",
];
/// The file server makes its socket within this time, or not at all.
const SERVER_START_LIMIT: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_millis(50);
/// Shown of the kernel's log when the machine said nothing.
const LOG_TAIL_LINES: usize = 40;
/// Variables that are handed on into the machine where they are set.
pub const VARIABLES: [&str; 7] =
    ["CI", "SENSOR_CORPUS", "RUST_BACKTRACE", "RUST_LOG", "RUST_TEST_THREADS", "PYTHONPATH", "NO_COLOR"];

/// What the machine is started for.
#[derive(Debug)]
pub struct Job<'a> {
    pub series: &'a str,
    pub arch: Arch,
    pub words: &'a [String],
    pub time_limit_s: u64,
    pub processors: u32,
    pub memory_mib: u32,
    pub kvm: bool,
    /// Where the job's output is written to as well.
    pub output: Option<&'a Path>,
    /// Is `bpf` in `lsm=`?
    pub bpf_lsm: bool,
}

/// Boots, prints the job's output line by line, so that machines can run side by side, and returns the job's exit status.
pub fn run(job: &Job<'_>) -> Result<i32> {
    static BOOTS: AtomicU32 = AtomicU32::new(0);
    if let Some(missing) = job.arch.missing() {
        bail!(missing);
    }
    let kernel = Kernel::get_for(job.series, job.arch)?;
    let boot_number = BOOTS.fetch_add(1, Ordering::Relaxed);
    let name = format!("{}-{}-{}-{boot_number}", job.series, job.arch.name(), std::process::id());
    let folder = target().join("vm").join(name);
    fs::create_dir_all(&folder)?;
    let status = boot(job, &kernel, &folder);
    let _ = fs::remove_dir_all(&folder);
    status
}

fn boot(job: &Job<'_>, kernel: &Kernel, folder: &Path) -> Result<i32> {
    let (socket, log, answer, initrd) =
        (folder.join("fs.sock"), folder.join("kernel.log"), folder.join("status"), folder.join("initrd"));
    fs::write(&initrd, initramfs(job, kernel)?)?;

    let _server = Stopped(serve(&socket)?);
    let started = Instant::now();
    let mut machine = Stopped(qemu(job, kernel, &initrd, &socket, &log, &answer)?);
    let said = machine.0.stdout.take().context("no output")?;
    let printer = std::thread::spawn(move || print_lines(said));
    let limit = Duration::from_secs(job.time_limit_s);
    let ended = loop {
        if let Some(status) = machine.0.try_wait()? {
            break status;
        }
        if started.elapsed() > limit {
            bail!("the machine was stopped after {} s (--time-limit). {}", limit.as_secs(), tail(&log));
        }
        sleep(POLL);
    };
    let _ = printer.join();
    let answer = fs::read_to_string(&answer).unwrap_or_default();
    let status = answer.lines().find_map(|line| line.trim().strip_prefix("status ")?.parse().ok());
    let Some(status) = status else {
        let how = match (ended.code(), ended.signal()) {
            (_, Some(signal)) => format!("QEMU was ended by signal {signal}"),
            (code, _) => format!("QEMU ended with {}", code.unwrap_or_default()),
        };
        bail!("the machine ended without a status ({how}). {} {}", answer.trim(), tail(&log));
    };
    println!("Linux {}: status {status} after {:.1} s", kernel.release, started.elapsed().as_secs_f32());
    Ok(status)
}

/// A child that doesn't outlive its owner.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts virtiofsd on the host's root: QEMU's own (Debian 12) or the one that came after it.
fn serve(socket: &Path) -> Result<Child> {
    let old = Path::new("/usr/lib/qemu/virtiofsd");
    let new = ["/usr/libexec/virtiofsd", "/usr/lib/virtiofsd"].map(Path::new).into_iter().find(|path| path.is_file());
    let mut command = if let Some(new) = new {
        let mut command = as_root(new);
        command.args(["--shared-dir=/", "--cache=always", "--sandbox=chroot", "--log-level=error"]);
        command
    } else if old.is_file() {
        let mut command = as_root(old);
        command.args(["-o", "source=/,cache=always,sandbox=chroot,log_level=err"]);
        command
    } else {
        bail!("virtiofsd is missing: {ADVICE}");
    };
    command.arg(format!("--socket-path={}", socket.display()));
    // It complains when the machine is gone; what it says matters only where it doesn't start.
    let words = socket.with_extension("log");
    let mut server = command
        .stdin(Stdio::null())
        .stderr(fs::File::create(&words)?)
        .spawn()
        .context("virtiofsd could not be started")?;
    let started = Instant::now();
    while !fs::metadata(socket).is_ok_and(|file| file.file_type().is_socket()) {
        if let Some(status) = server.try_wait()? {
            bail!("virtiofsd ended at once ({status}): {}", fs::read_to_string(&words).unwrap_or_default().trim());
        }
        if started.elapsed() > SERVER_START_LIMIT {
            let _ = server.kill();
            bail!("virtiofsd made no socket {}", socket.display());
        }
        sleep(POLL);
    }
    if !is_root() {
        run_command(as_root("chmod").arg("0666").arg(socket))?;
    }
    Ok(server)
}

fn qemu(job: &Job<'_>, kernel: &Kernel, initrd: &Path, socket: &Path, log: &Path, answer: &Path) -> Result<Child> {
    let memory = format!("{}M", job.memory_mib);
    let copy = job.output.map(|path| format!(",logfile={}", path.display())).unwrap_or_default();
    let modules = if job.bpf_lsm { "landlock,lockdown,yama,bpf" } else { "landlock,lockdown,yama" };
    let mut command = Command::new(job.arch.qemu());
    command
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"])
        .args(job.arch.board(job.kvm))
        .args(["-smp", &job.processors.to_string(), "-m", &memory])
        .args(["-object", &format!("memory-backend-memfd,id=ram,size={memory},share=on")])
        .args(["-chardev", &format!("socket,id=fs,path={}", socket.display())])
        .args(["-device", "vhost-user-fs-pci,chardev=fs,tag=host,queue-size=1024"])
        .args(["-chardev", &format!("stdio,id=out,signal=on{copy}")])
        .args(["-chardev", &format!("file,id=log,path={}", log.display())])
        .args(["-chardev", &format!("file,id=answer,path={}", answer.display())]);
    // ttyS0 to ttyS2 in this order; the boards differ in what serial lines they have by themselves.
    for line in ["out", "log", "answer"] {
        match job.arch {
            Arch::Amd64 => command.args(["-serial", &format!("chardev:{line}")]),
            Arch::Arm64 => command.args(["-device", &format!("pci-serial,chardev={line}")]),
        };
    }
    command
        .args(["-kernel", &kernel.image.display().to_string(), "-initrd", &initrd.display().to_string()])
        .args(["-append", &format!("console=ttyS1 loglevel=5 panic=-1 oops=panic lsm={modules}")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("QEMU could not be started")
}

/// Hands a machine's output on, whole lines only.
fn print_lines(said: impl std::io::Read) {
    for line in BufReader::new(said).split(b'\n').map_while(Result::ok) {
        println!("{}", String::from_utf8_lossy(&line));
    }
}

fn initramfs(job: &Job<'_>, kernel: &Kernel) -> Result<Vec<u8>> {
    // Where the machine's userland is on the host, and which folders of the host it has to have besides.
    let (userland, shared) = match job.arch {
        Arch::Amd64 => (PathBuf::from("/"), Vec::new()),
        arch => (userland::get(arch)?, vec![root(), target()]),
    };
    let busybox = ["bin/busybox", "usr/bin/busybox"].iter().find_map(|path| fs::read(userland.join(path)).ok());
    let busybox = busybox.with_context(|| format!("busybox-static is missing: {ADVICE}"))?;
    let scripts = root().join("tests/vm");
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "proc", "sys", "modules"] {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.program("bin/busybox", &busybox);
    archive.program("init", &fs::read(scripts.join("init"))?);
    archive.program("guest", &fs::read(scripts.join("guest"))?);
    archive.file("job", script(job, kernel)?.as_bytes());
    archive.file("userland", format!("{}\n", userland.display()).as_bytes());
    let shared: String = shared.iter().map(|folder| format!("{}\n", folder.display())).collect();
    archive.file("shared", shared.as_bytes());
    let mut order = String::new();
    for name in MODULES {
        if let Some(bytes) = kernel.module(name)? {
            archive.file(&format!("modules/{name}.ko"), &bytes);
            order.push_str(&format!("{name}.ko\n"));
        }
    }
    archive.file("modules/order", order.as_bytes());
    Ok(archive.finish())
}

/// The part of `tests/vm/guest` that differs from run to run.
fn script(job: &Job<'_>, kernel: &Kernel) -> Result<String> {
    let mut text = String::new();
    let mut set = |name: &str, value: &str| text.push_str(&format!("export {name}={}\n", quoted(value)));
    set("KERNEL_MODULES", &kernel.modules.canonicalize()?.display().to_string());
    set("HOME", "/root");
    for name in VARIABLES {
        if let Ok(value) = std::env::var(name) {
            set(name, &value);
        }
    }
    // What lies below /tmp on the host has to be seen, so there it stays a layer over the host's.
    let hidden = [root(), target(), PathBuf::from(std::env::var_os("SENSOR_CORPUS").unwrap_or_default())];
    let private = !hidden.iter().any(|path| path.starts_with("/tmp"));
    set("PRIVATE_TMP", if private { "yes" } else { "" });
    let words: Vec<String> = job.words.iter().map(|word| quoted(word)).collect();
    // The package's folder is where cargo starts its tests too.
    let folder = root().join(if job.words[0] == "sh" { "." } else { "sensor" });
    text.push_str(&format!(
        "job() (\n    cd {} && exec {}\n)\n",
        quoted(&folder.display().to_string()),
        words.join(" ")
    ));
    Ok(text)
}

/// One word of a shell command.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn tail(log: &Path) -> String {
    let text = String::from_utf8_lossy(&fs::read(log).unwrap_or_default()).into_owned();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LOG_TAIL_LINES);
    let _ = std::io::stdout().flush();
    format!("The kernel's last words:\n{}", lines[from..].join("\n"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quoted_word_is_one_word() {
        let word = "a 'b' $c `d`";
        let echoed = std::process::Command::new("sh").args(["-c", &format!("printf %s {}", quoted(word))]).output();
        assert_eq!(String::from_utf8(echoed.unwrap().stdout).unwrap(), word);
    }
}
