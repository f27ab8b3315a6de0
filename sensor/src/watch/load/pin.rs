//! What outlives the daemon, so that a restart, an upgrade or kill -9 loses no mark: maps, and every attachment that is a
//! link, in a folder of the BPF file system.
//!
//! The folder is named by the ABI and by a hash of the maps' definitions: whoever finds it there can use what is in it.
//! (The loader would take any map of the right name.) The next sensor attaches its own programs before it lets go of the
//! ones that it finds. A clean end lets go of the links and keeps the maps.

#![expect(unsafe_code, reason = "BPF_OBJ_PIN has no safe wrapper for any kind of link")]

use std::collections::HashMap;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use aya::Ebpf;
use aya::maps::{HashMap as BpfHashMap, Map, MapData};
use aya_obj::Object;
use aya_obj::generated::bpf_cmd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open, statfs};
use sensor_abi::ABI_VERSION;
use sensor_abi::mark::{Mark, role};
use sha2::{Digest, Sha256};
use thiserror::Error;
use zerocopy::FromBytes;

/// Maps that are kept. The others hold what is of no use to a later sensor.
const KEPT: [&str; 10] = [
    "TASKS",
    "TASK_SLOTS",
    "LOAD_SETS",
    "THREADS",
    "PYTHONS",
    "INODES",
    "INODES_MALICIOUS",
    "INODE_SLOTS",
    "EXES",
    "NEXT_SET",
];
/// Those that speak of each other: one of them alone is worth nothing.
const MARKS: [&str; 5] = ["TASKS", "TASK_SLOTS", "PYTHONS", "LOAD_SETS", "NEXT_SET"];
/// The same of files.
const FILES: [&str; 3] = ["INODES", "INODES_MALICIOUS", "INODE_SLOTS"];
/// `include/uapi/linux/magic.h`
const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// Marks that are counted before they are dropped.
const COUNTED_MAX: usize = 262_144;
/// Ends the names of programs that only prove a rung: they stay loaded, and are attached no more.
const CANARY: &str = "task_getscheduler";
/// The program whose absence makes marks go stale.
const EXIT: &str = "sched_process_exit";

/// Why nothing is kept.
#[derive(Debug, Error)]
pub enum PinError {
    #[error("another sensor keeps its marks in {}: stop it first", .0.display())]
    Taken(PathBuf),
    #[error("{} is not on a BPF file system (`mount -t bpf bpf /sys/fs/bpf`)", .0.display())]
    NoBpfFs(PathBuf),
    #[error("{}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("the kernel object can't be read: {0}")]
    Object(String),
}

/// The folder, while it is ours.
#[derive(Debug)]
pub struct Pins {
    dir: PathBuf,
    /// Our links: a folder of their own, because those of the sensor before stay until ours are attached.
    links: PathBuf,
    /// Links of the sensor before; let go when ours are attached.
    links_before: Vec<PathBuf>,
    /// Folders of other versions.
    retired: Vec<PathBuf>,
    /// Remove everything at the end.
    probe: bool,
    /// Marks that were found and could not be used.
    pub marks_dropped: u64,
    /// Marks were found and are used.
    pub resumed: bool,
    /// Nobody freed the marks of processes that ended meanwhile.
    pub stale: bool,
    /// Held as long as this lives.
    lock: Option<OwnedFd>,
}

impl Pins {
    /// Takes the folder below `root` that belongs to `object`. What is there and doesn't fit is thrown away, and counted.
    pub fn take(root: &Path, object: &[u8]) -> Result<Self, PinError> {
        make(root)?;
        let at = |error: rustix::io::Errno| PinError::File { path: root.to_owned(), error: error.into() };
        let lock = open(root, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).map_err(at)?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|_| PinError::Taken(root.to_owned()))?;
        let definitions = definitions(object)?;
        let dir = root.join(folder_name(&definitions));
        let mut pins = Self::empty(dir);
        pins.lock = Some(lock);
        for other in entries(root) {
            if other != pins.dir {
                pins.marks_dropped += count_marks(&other.join("TASKS"));
                pins.links_before.extend(link_folders(&other));
                pins.retired.push(other);
            }
        }
        make(&pins.dir)?;
        pins.links_before.extend(link_folders(&pins.dir));
        pins.check(&definitions);
        pins.resumed = pins.dir.join("TASKS").exists();
        let exits_seen = |folder: &PathBuf| entries(folder).iter().any(|link| is_of(link, EXIT));
        pins.stale = pins.resumed && !pins.links_before.iter().any(exits_seen);
        Ok(pins)
    }

    /// A folder of its own, removed when dropped: could anything be kept here?
    pub fn probe(root: &Path) -> Result<Self, PinError> {
        make(root)?;
        let mut pins = Self::empty(root.join(format!("probe-{}", std::process::id())));
        pins.probe = true;
        make(&pins.dir)?;
        Ok(pins)
    }

    fn empty(dir: PathBuf) -> Self {
        let number = (0u64..).find(|number| !dir.join(format!("{LINKS}-{number}")).exists()).unwrap_or_default();
        Self {
            links: dir.join(format!("{LINKS}-{number}")),
            dir,
            links_before: Vec::new(),
            retired: Vec::new(),
            probe: false,
            marks_dropped: 0,
            resumed: false,
            stale: false,
            lock: None,
        }
    }

    /// Every kept map, and where it is pinned.
    pub fn maps(&self) -> impl Iterator<Item = (&'static str, PathBuf)> {
        KEPT.into_iter().map(|name| (name, self.dir.join(name)))
    }

    /// Throws away what has the right name and isn't the right map.
    fn check(&mut self, definitions: &[Definition]) {
        let fits = |wanted: &Definition| {
            let path = self.dir.join(wanted.name);
            !path.exists() || Definition::of_pin(wanted.name, &path).as_ref() == Some(wanted)
        };
        let unfit: Vec<&str> = definitions.iter().filter(|wanted| !fits(wanted)).map(|wanted| wanted.name).collect();
        let lacks = |set: &[&str]| set.iter().any(|name| unfit.contains(name) || !self.dir.join(name).exists());
        let (marks, files) = (lacks(&MARKS), lacks(&FILES));
        if marks {
            self.marks_dropped += count_marks(&self.dir.join("TASKS"));
        }
        let falls = |name: &&&str| {
            unfit.contains(*name) || (marks && MARKS.contains(*name)) || (files && FILES.contains(*name))
        };
        for name in KEPT.iter().filter(falls) {
            let _ = fs::remove_file(self.dir.join(name));
        }
    }

    /// Pins every link that this process holds. Gives the names of attached programs that have none.
    pub fn pin_links(&self, ebpf: &Ebpf) -> Result<Vec<String>, PinError> {
        let folder = &self.links;
        make(folder)?;
        let mut programs: HashMap<u32, &str> = HashMap::new();
        for (name, program) in ebpf.programs() {
            if let Ok(info) = program.info()
                && !matches!(program, aya::programs::Program::Iter(_))
                && !name.ends_with(CANARY)
            {
                programs.insert(info.id(), name);
            }
        }
        let mut pinned = Vec::new();
        for (fd, link, program) in
            own_links().map_err(|error| PinError::File { path: "/proc/self/fdinfo".into(), error })?
        {
            let Some(name) = programs.get(&program) else { continue };
            let path = folder.join(format!("{name}-{link}"));
            pin(fd, &path).map_err(|error| PinError::File { path, error })?;
            pinned.push(program);
        }
        let mut unpinned: Vec<String> =
            programs.iter().filter(|(id, _)| !pinned.contains(id)).map(|(_, name)| (*name).to_owned()).collect();
        unpinned.sort_unstable();
        Ok(unpinned)
    }

    /// Lets go of what the sensor before left: ours is attached.
    pub fn retire(&mut self) {
        for folder in self.links_before.drain(..) {
            remove(&folder);
        }
        for folder in self.retired.drain(..) {
            remove(&folder);
        }
    }

    /// Lets go of our links; the maps stay.
    pub fn release(&self) {
        remove(&self.links);
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if self.probe {
            remove(&self.dir);
        }
    }
}

/// Begins the name of every folder of links.
const LINKS: &str = "links";

/// What has to agree between a map that is found and the one that is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Definition {
    name: &'static str,
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

impl Definition {
    fn of_pin(name: &'static str, path: &Path) -> Option<Self> {
        let info = MapData::from_pin(path).ok()?.info().ok()?;
        Some(Self {
            name,
            kind: info.map_type().ok()? as u32,
            key_size: info.key_size(),
            value_size: info.value_size(),
            max_entries: info.max_entries(),
        })
    }
}

fn definitions(object: &[u8]) -> Result<Vec<Definition>, PinError> {
    let object = Object::parse(object).map_err(|error| PinError::Object(error.to_string()))?;
    let known = KEPT.iter().filter_map(|name| {
        let map = object.maps.get(*name)?;
        Some(Definition {
            name,
            kind: map.map_type(),
            key_size: map.key_size(),
            value_size: map.value_size(),
            max_entries: if *name == "TASKS" { super::tasks_max() } else { map.max_entries() },
        })
    });
    Ok(known.collect())
}

/// The number of entries is no part of the name: a map that is too small for this host is replaced where it is.
fn folder_name(definitions: &[Definition]) -> String {
    let mut hash = Sha256::new();
    for Definition { name, kind, key_size, value_size, .. } in definitions {
        hash.update(format!("{name}\0{kind}\0{key_size}\0{value_size}\n"));
    }
    let digest: String = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    format!("abi{ABI_VERSION}-{digest}")
}

/// Marks of strangers in a pinned map; 0 where it is no map of marks.
fn count_marks(path: &Path) -> u64 {
    const MARK: usize = size_of::<Mark>();
    let Ok(map) = MapData::from_pin(path).and_then(Map::from_map_data) else { return 0 };
    match BpfHashMap::<_, u32, [u8; MARK]>::try_from(&map) {
        Ok(marks) => {
            let strangers = marks
                .iter()
                .take(COUNTED_MAX)
                .flatten()
                .filter(|(_, mark)| Mark::read_from_bytes(mark).is_ok_and(|mark| mark.role != role::OWN));
            strangers.count() as u64
        }
        // Of another layout: then only their number is known.
        Err(_) => other_marks(&map),
    }
}

/// Layouts that marks had or may have: the size of their value, bytes.
fn other_marks(map: &Map) -> u64 {
    fn count<const N: usize>(map: &Map) -> Option<u64> {
        let marks = BpfHashMap::<_, u32, [u8; N]>::try_from(map).ok()?;
        Some(marks.keys().take(COUNTED_MAX).flatten().count() as u64)
    }
    count::<32>(map).or_else(|| count::<40>(map)).or_else(|| count::<56>(map)).or_else(|| count::<64>(map)).unwrap_or(0)
}

/// Links that this process has a descriptor of: descriptor, link and program (kernel/bpf/syscall.c: bpf_link_show_fdinfo).
fn own_links() -> io::Result<Vec<(RawFd, u32, u32)>> {
    let mut links = Vec::new();
    for entry in fs::read_dir("/proc/self/fdinfo")? {
        let entry = entry?;
        let Some(fd) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let Ok(text) = fs::read_to_string(entry.path()) else { continue };
        let number = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u32>().ok());
        if let (Some(link), Some(program)) = (number("link_id:"), number("prog_id:")) {
            links.push((fd, link, program));
        }
    }
    Ok(links)
}

/// `bpf(BPF_OBJ_PIN)`, include/uapi/linux/bpf.h.
fn pin(fd: RawFd, path: &Path) -> io::Result<()> {
    #[repr(C)]
    struct ObjPin {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
    }
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attr = ObjPin { pathname: path.as_ptr() as u64, bpf_fd: fd as u32, file_flags: 0 };
    // SAFETY: the attribute and the path that it names live until the call returns; the size is that of the attribute.
    let done = unsafe {
        libc::syscall(libc::SYS_bpf, bpf_cmd::BPF_OBJ_PIN as libc::c_long, &raw const attr, size_of::<ObjPin>())
    };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn make(dir: &Path) -> Result<(), PinError> {
    let at = |error| PinError::File { path: dir.to_owned(), error };
    let parent = dir.parent().unwrap_or(dir);
    let is_bpf = |path: &Path| statfs(path).is_ok_and(|found| found.f_type & 0xffff_ffff == BPF_FS_MAGIC);
    if !is_bpf(parent) && !is_bpf(dir) {
        return Err(PinError::NoBpfFs(dir.to_owned()));
    }
    match fs::DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(at(error)),
        _ => Ok(()),
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

fn link_folders(dir: &Path) -> Vec<PathBuf> {
    entries(dir).into_iter().filter(|path| is_of(path, LINKS)).collect()
}

/// Is the path named `name-…`?
fn is_of(path: &Path, name: &str) -> bool {
    let text = path.file_name().and_then(|text| text.to_str()).unwrap_or_default();
    text.strip_prefix(name).is_some_and(|rest| rest.starts_with('-'))
}

fn remove(path: &Path) {
    for entry in entries(path) {
        remove(&entry);
    }
    let gone = if path.is_dir() { fs::remove_dir(path) } else { fs::remove_file(path) };
    if let Err(error) = gone
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, path = %path.display(), "a pin could not be removed");
    }
}
