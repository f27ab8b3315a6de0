//! The measuring machine: one CPU that counts its instructions, no disk, an initramfs with the sensor, what measures it,
//! and a dynamic `/bin/true` of the host's.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::bench;
use crate::image;
use crate::tool::{output, root, target};
use crate::vm::initramfs::Archive;
use crate::vm::kernel::Kernel;

const ADVICE: &str = "run `cargo xtask setup --for vm`";
const MEMORY_MIB: u32 = 1024;
const POLL: Duration = Duration::from_millis(50);
/// Shown of the machine's words when it gave no answer.
const TAIL_LINES: usize = 30;

/// Names of the programs on the host.
#[derive(Debug)]
pub struct Programs {
    sensor: PathBuf,
    guest: PathBuf,
}

impl Programs {
    pub fn build(sensor: Option<&Path>) -> Result<Self> {
        Ok(Self { sensor: bench::sensor(sensor)?, guest: image::build_static("xtask", "overhead")? })
    }
}

/// One boot: measures the sensor with `flags`, and gives back what the guest says.
pub fn measure(kernel: &Kernel, programs: &Programs, flags: &[&str], seed: u32, limit: Duration) -> Result<Value> {
    let folder = target().join("vm").join(format!("overhead-{}", std::process::id()));
    fs::create_dir_all(&folder)?;
    let answer = boot(kernel, programs, flags, seed, limit, &folder);
    let _ = fs::remove_dir_all(&folder);
    answer
}

fn boot(
    kernel: &Kernel,
    programs: &Programs,
    flags: &[&str],
    seed: u32,
    limit: Duration,
    folder: &Path,
) -> Result<Value> {
    let (initrd, words, log) = (folder.join("initrd"), folder.join("words"), folder.join("log"));
    fs::write(&initrd, initramfs(programs, flags)?)?;
    let file = |path: &Path| format!("file:{}", path.display());
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-nodefaults", "-no-user-config", "-no-reboot", "-display", "none", "-monitor", "none"])
        // Every instruction takes 1 ns of virtual time, and time in which nothing happens is skipped.
        .args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-icount", "shift=0,sleep=off"])
        // What it draws by lot, RDRAND's numbers and what the boot loader hands over, is drawn alike in every boot.
        .args(["-seed", &seed.to_string()])
        .args(["-rtc", "base=2026-01-01,clock=vm", "-m", &format!("{MEMORY_MIB}M")])
        .args(["-serial", &file(&words), "-serial", &file(&log)])
        .args(["-kernel", &kernel.image.display().to_string(), "-initrd", &initrd.display().to_string()])
        // The counter is what time is: no other clock, and nothing that is drawn by lot.
        .args([
            "-append",
            "console=ttyS1 loglevel=4 panic=-1 oops=panic lsm=landlock,lockdown,yama,bpf tsc=reliable \
                           nokaslr norandmaps",
        ])
        .stdin(Stdio::null())
        .spawn()
        .context("QEMU could not be started")?;
    let started = Instant::now();
    while machine.try_wait()?.is_none() {
        if started.elapsed() > limit {
            let _ = machine.kill();
            let _ = machine.wait();
            bail!("the machine was stopped after {} s. {}", limit.as_secs(), tail(&words, &log));
        }
        sleep(POLL);
    }
    let text = fs::read_to_string(&words).unwrap_or_default();
    let answer = text.lines().rev().find_map(|line| serde_json::from_str::<Value>(line.trim()).ok());
    let answer = answer.with_context(|| format!("the machine gave no figures. {}", tail(&words, &log)))?;
    match answer["error"].as_str() {
        Some(error) => bail!("in the machine: {error}"),
        None => Ok(answer),
    }
}

fn initramfs(programs: &Programs, flags: &[&str]) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| path.display().to_string());
    let busybox = ["/bin/busybox", "/usr/bin/busybox"].map(Path::new).into_iter().find(|path| path.is_file());
    let busybox = busybox.with_context(|| format!("busybox-static is missing: {ADVICE}"))?;
    let mut archive = Archive::default();
    for folder in ["bin", "dev", "etc", "lib", "lib64", "proc", "run", "sys", "tmp", "var"] {
        archive.folder(folder);
    }
    archive.device("dev/console", (5, 1));
    archive.program("bin/busybox", &read(busybox)?);
    archive.program("init", &read(&root().join("tests/vm/overhead"))?);
    archive.program("sensor", &read(&programs.sensor)?);
    archive.program("overhead", &read(&programs.guest)?);
    archive.file("flags", flags.join(" ").as_bytes());
    archive.program("bin/true", &read(Path::new("/bin/true"))?);
    archive.file("etc/ld.so.cache", &read(Path::new("/etc/ld.so.cache"))?);
    for library in libraries("/bin/true")? {
        let mut folder = PathBuf::new();
        for part in library.parent().into_iter().flat_map(Path::components).skip(1) {
            folder.push(part);
            archive.folder(&folder.display().to_string());
        }
        archive.program(library.display().to_string().trim_start_matches('/'), &read(&library)?);
    }
    Ok(archive.finish())
}

/// The loader and the libraries of a dynamic program.
fn libraries(program: &str) -> Result<Vec<PathBuf>> {
    let text = output(Command::new("ldd").arg(program))?;
    let paths = text.lines().flat_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

fn tail(words: &Path, log: &Path) -> String {
    let mut text = String::new();
    for file in [words, log] {
        let all = String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = all.lines().collect();
        let from = lines.len().saturating_sub(TAIL_LINES);
        text.push_str(&format!(
            "\nThe last words of its {}:\n{}",
            file.file_name().unwrap_or_default().display(),
            lines[from..].join("\n")
        ));
    }
    text
}
