//! `sensor worker process`: reads /proc so that the main loop never does.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use rustix::fs::{Mode, OFlags};

use super::locate::is_local;
use crate::worker::frame::{self, FrameError};
use crate::worker::wire::{Confinement, Details, FromReader, Listed, PIDS_MAX, Raw, ToReader};

/// Processes that are listed.
const PROCESSES_MAX: usize = 65_536;
/// Of one argv.
const ARGV_BYTES_MAX: usize = 4096;
/// Of one executable's path.
const EXE_BYTES_MAX: usize = 4096;
/// Of `/proc/PID/{stat,status,cgroup}`.
const STATUS_BYTES_MAX: u64 = 16 << 10;

/// Serves until the daemon closes `channel`.
pub fn serve(channel: &mut (impl Read + Write), confinement: Confinement) -> Result<(), FrameError> {
    let cgroup_mount = cgroup2();
    let ticks_per_s = rustix::param::clock_ticks_per_second();
    frame::write(channel, &FromReader::Hello(confinement))?;
    loop {
        let omitted = match frame::read(channel)? {
            ToReader::List => list(channel, &mut Listing::new(cgroup_mount.as_ref(), ticks_per_s))?,
            ToReader::Read { pids } => {
                let mut proc = Listing::new(cgroup_mount.as_ref(), ticks_per_s);
                for pid in pids.iter().take(PIDS_MAX) {
                    // Said before the part that can block.
                    let Some(listed) = proc.look(*pid) else {
                        frame::write(channel, &FromReader::Gone { pid: *pid })?;
                        continue;
                    };
                    frame::write(channel, &FromReader::Listed(listed))?;
                    let details = details(*pid, listed.start_ticks);
                    frame::write(channel, &details.map_or(FromReader::Gone { pid: *pid }, FromReader::Read))?;
                }
                pids.len().saturating_sub(PIDS_MAX) as u64
            }
        };
        frame::write(channel, &FromReader::End { omitted })?;
    }
}

fn list(channel: &mut impl Write, proc: &mut Listing<'_>) -> Result<u64, FrameError> {
    let pids = std::fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let (mut listed, mut omitted) = (0, 0);
    for pid in pids {
        if listed == PROCESSES_MAX {
            omitted += 1;
        } else if let Some(process) = proc.look(pid) {
            frame::write(channel, &FromReader::Listed(process))?;
            listed += 1;
        }
    }
    Ok(omitted)
}

/// One look at many processes.
struct Listing<'a> {
    cgroup_mount: Option<&'a PathBuf>,
    /// Path below the mount → id.
    cgroups: HashMap<String, u64>,
    ticks_per_s: u64,
}

impl<'a> Listing<'a> {
    fn new(cgroup_mount: Option<&'a PathBuf>, ticks_per_s: u64) -> Self {
        Self { cgroup_mount, cgroups: HashMap::new(), ticks_per_s }
    }

    /// What can be read of a process without waiting for it; `None` where there is none.
    fn look(&mut self, pid: u32) -> Option<Listed> {
        let (ppid, start_ticks) = stat(pid)?;
        let uid = text(&format!("/proc/{pid}/status")).ok().and_then(|status| real_uid(&status));
        let cgroup_id = self.cgroup_id(pid).unwrap_or(0);
        Some(Listed { pid, ppid, start_ticks, ticks_per_s: self.ticks_per_s, uid, cgroup_id })
    }

    /// The id of a cgroup is the inode number of its folder (kernfs, 64-bit inode numbers).
    fn cgroup_id(&mut self, pid: u32) -> Option<u64> {
        let membership = text(&format!("/proc/{pid}/cgroup")).ok()?;
        let path = membership.lines().find_map(|line| line.strip_prefix("0::/"))?;
        if let Some(id) = self.cgroups.get(path) {
            return Some(*id);
        }
        let id = std::fs::metadata(self.cgroup_mount?.join(path)).ok()?.ino();
        self.cgroups.insert(path.to_owned(), id);
        Some(id)
    }
}

/// `None`: the process that started then is gone.
fn details(pid: u32, start_ticks: u64) -> Option<Details> {
    let mut exe = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default().as_os_str().as_bytes().to_vec();
    exe.truncate(EXE_BYTES_MAX);
    let mut argv = Vec::new();
    let limit = ARGV_BYTES_MAX as u64 + 1;
    File::open(format!("/proc/{pid}/cmdline")).ok()?.take(limit).read_to_end(&mut argv).ok()?;
    let argv_truncated = argv.len() > ARGV_BYTES_MAX;
    argv.truncate(ARGV_BYTES_MAX);
    let script = argv.split(|byte| *byte == 0).skip(1).take(2).find(|argument| argument.starts_with(b"/"));
    let script_is_roots = script.is_some_and(|path| is_roots(pid, path));
    let (_, start_ticks_after) = stat(pid)?;
    (start_ticks == start_ticks_after).then_some(Details {
        pid,
        start_ticks,
        exe: Raw(exe),
        argv: Raw(argv),
        argv_truncated,
        script_is_roots,
    })
}

/// Do a file and its folder, as a process knows them, belong to root, and may nobody else write to them? A file server in
/// somebody's hand says what it likes of owners.
fn is_roots(pid: u32, path: &[u8]) -> bool {
    let Some(slash) = path.iter().rposition(|byte| *byte == b'/') else { return false };
    [path, &path[..=slash]].iter().all(|path| {
        let path = [format!("/proc/{pid}/root").as_bytes(), path].concat();
        let found = rustix::fs::open(&path[..], OFlags::PATH | OFlags::CLOEXEC, Mode::empty());
        let Ok(file) = found else { return false };
        let local = rustix::fs::fstatfs(&file).is_ok_and(|fs| is_local(fs.f_type as u64));
        local && rustix::fs::fstat(&file).is_ok_and(|stat| stat.st_uid == 0 && stat.st_mode & 0o022 == 0)
    })
}

fn text(path: &str) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(STATUS_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn stat(pid: u32) -> Option<(u32, u64)> {
    parent_and_start(&text(&format!("/proc/{pid}/stat")).ok()?)
}

/// Fields 4 and 22 of proc_pid_stat(5). The name in field 2 may hold anything, so count from its last parenthesis.
fn parent_and_start(stat: &str) -> Option<(u32, u64)> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let ppid = fields.nth(1)?.parse().ok()?;
    let start = fields.nth(17)?.parse().ok()?;
    Some((ppid, start))
}

/// First number behind `Uid:` in proc_pid_status(5). A name is escaped there and can't fake the line.
fn real_uid(status: &str) -> Option<u32> {
    status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().next()?.parse().ok())
}

/// Where cgroup2 is mounted (hybrid hosts have it below /sys/fs/cgroup).
fn cgroup2() -> Option<PathBuf> {
    let mounts = text_of_mounts()?;
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, at, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(at.replace("\\040", " ")))
    })
}

fn text_of_mounts() -> Option<String> {
    const MOUNTS_BYTES_MAX: u64 = 1 << 20;
    let mut bytes = Vec::new();
    File::open("/proc/self/mounts").ok()?.take(MOUNTS_BYTES_MAX).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_full_of_parentheses_fakes_no_field() {
        let stat = "7 (a) S 1 (b) R 9) S 42 7 7 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 12345 1000 10";
        assert_eq!(parent_and_start(stat), Some((42, 12345)));
        assert_eq!(parent_and_start("7 (a) S 42"), None);
        assert_eq!(parent_and_start(""), None);
    }

    #[test]
    fn uids_are_the_real_ones() {
        assert_eq!(real_uid("Name:\tUid: 9\\n\nUid:\t1000\t0\t0\t0\n"), Some(1000));
        assert_eq!(real_uid("Name:\tx\n"), None);
    }

    #[test]
    fn this_process_is_described_as_it_is() {
        let pid = std::process::id();
        let listed = Listing::new(cgroup2().as_ref(), 100).look(pid).unwrap();
        assert_eq!(listed.ppid, std::os::unix::process::parent_id());
        assert_eq!(listed.uid, Some(rustix::process::getuid().as_raw()));
        let own = details(pid, listed.start_ticks).unwrap();
        assert_eq!(own.exe.0, std::env::current_exe().unwrap().as_os_str().as_bytes());
        let argv: Vec<u8> = std::env::args_os().flat_map(|a| [a.as_bytes(), b"\0"].concat()).collect();
        assert_eq!(own.argv.0, argv[..argv.len().min(ARGV_BYTES_MAX)]);
        assert_eq!(details(pid, listed.start_ticks + 1), None, "another process by that number");
        assert_eq!(Listing::new(None, 100).look(u32::MAX), None);
    }
}
