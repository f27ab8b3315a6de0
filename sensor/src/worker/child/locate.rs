//! Where can the file that a process opened be got hold of? Every place is looked at without opening it (`O_PATH`), so
//! that a FIFO doesn't block, a device isn't woken and a lease isn't broken.

use std::ffi::CString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, Stat};
use sensor_abi::record::PATH_BYTES_MAX;

use crate::worker::wire::{NotRead, OpenRequest, Stamp};

/// Descriptors of a process that are looked at when the one that was told is gone.
const DESCRIPTORS_MAX: usize = 4096;
/// Of `/proc/PID/maps`, bytes.
const MAPS_BYTES_MAX: u64 = 8 << 20;
/// Mappings of the inode that are tried.
const MAPPINGS_MAX: usize = 4;

/// What stands behind the name of a file that has none any more (fs/d_path.c: path_with_deleted).
const DELETED: &[u8] = b" (deleted)";

const LOOK: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// A place that holds a regular file with the right inode number.
#[derive(Debug)]
pub struct Candidate {
    /// `O_PATH`
    pub place: OwnedFd,
    pub stamp: Stamp,
}

/// What the visitor of candidates says to one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Visit {
    /// That was it.
    Done,
    /// It wasn't.
    Next,
}

/// Shows `visit` every candidate, best place first, until it is done; then `None`. Else says why there was none.
pub fn search<E>(
    request: &OpenRequest,
    mut visit: impl FnMut(Candidate) -> Result<Visit, E>,
) -> Result<Option<NotRead>, E> {
    let mut seen = Seen::default();
    let mut look = |place: rustix::io::Result<OwnedFd>, named: bool, seen: &mut Seen| -> Result<bool, E> {
        match seen.sort(place, request.identity.ino, named) {
            Some(candidate) => {
                let done = visit(candidate)? == Visit::Done;
                seen.refused |= !done;
                Ok(done)
            }
            None => Ok(false),
        }
    };
    let pid = request.pid;
    if let Some(fd) = request.fd
        && look(open(&format!("/proc/{pid}/fd/{fd}")), true, &mut seen)?
    {
        return Ok(None);
    }
    for fd in descriptors(pid) {
        if Some(fd) != request.fd && look(open(&format!("/proc/{pid}/fd/{fd}")), false, &mut seen)? {
            return Ok(None);
        }
    }
    for range in mappings(pid, request.identity.ino) {
        if look(open(&format!("/proc/{pid}/map_files/{range}")), false, &mut seen)? {
            return Ok(None);
        }
    }
    if !request.path.0.is_empty() {
        for root in [format!("/proc/{pid}/root"), "/".to_owned()] {
            if look(below(&root, &request.path.0), true, &mut seen)? {
                return Ok(None);
            }
        }
    }
    // A hook that runs before the descriptor is installed: by now it is, even if nothing else leads to the file any more.
    if request.fd.is_none() {
        for fd in descriptors(pid) {
            if look(open(&format!("/proc/{pid}/fd/{fd}")), false, &mut seen)? {
                return Ok(None);
            }
        }
    }
    Ok(Some(seen.reason()))
}

/// What was met on the way, for the reason.
#[derive(Debug, Default)]
struct Seen {
    refused: bool,
    another: bool,
    not_regular: bool,
    denied: bool,
}

impl Seen {
    /// A candidate, or a note why not. Only places that the request named (`named`) are worth a note.
    fn sort(&mut self, place: rustix::io::Result<OwnedFd>, ino: u64, named: bool) -> Option<Candidate> {
        let (place, stat) = match place.and_then(|place| rustix::fs::fstat(&place).map(|stat| (place, stat))) {
            Ok(found) => found,
            Err(error) => {
                self.denied |= named && matches!(error, rustix::io::Errno::ACCESS | rustix::io::Errno::PERM);
                return None;
            }
        };
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            self.not_regular |= named;
            return None;
        }
        if stat.st_ino != ino {
            self.another |= named;
            return None;
        }
        Some(Candidate { place, stamp: stamp(&stat) })
    }

    fn reason(&self) -> NotRead {
        match self {
            Self { refused: true, .. } => NotRead::Swapped,
            Self { not_regular: true, .. } => NotRead::NotRegular,
            Self { another: true, .. } => NotRead::Swapped,
            Self { denied: true, .. } => NotRead::Denied,
            _ => NotRead::Gone,
        }
    }
}

/// Size and change time of a `stat`.
pub fn stamp(stat: &Stat) -> Stamp {
    Stamp { size: stat.st_size as u64, ctime_s: stat.st_ctime, ctime_ns: stat.st_ctime_nsec as u32 }
}

/// What a place is called, as its mount namespace sees it (proc_pid_fd(5)): empty where it is called nothing.
pub fn path_of(place: &OwnedFd) -> Vec<u8> {
    let link = format!("/proc/self/fd/{}", place.as_raw_fd());
    let mut path = rustix::fs::readlink(link, Vec::new()).map(CString::into_bytes).unwrap_or_default();
    // The kernel says so behind the name that it had.
    if rustix::fs::fstat(place).is_ok_and(|stat| stat.st_nlink == 0) && path.ends_with(DELETED) {
        path.truncate(path.len() - DELETED.len());
    }
    if path.starts_with(b"/") && path.len() <= PATH_BYTES_MAX { path } else { Vec::new() }
}

/// A magic link of /proc, followed.
fn open(link: &str) -> rustix::io::Result<OwnedFd> {
    rustix::fs::openat(CWD, link, LOOK, Mode::empty())
}

/// A path below a root that it can't leave, by no link of the process's making.
fn below(root: &str, path: &[u8]) -> rustix::io::Result<OwnedFd> {
    let root = rustix::fs::openat(CWD, root, LOOK | OFlags::DIRECTORY, Mode::empty())?;
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(root.as_fd(), path, LOOK, Mode::empty(), resolve)
}

/// Opens what `place` holds for reading, the very inode and no other, without waiting for anybody.
pub fn reopen(place: &OwnedFd) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    rustix::fs::openat(CWD, format!("/proc/self/fd/{}", place.as_raw_fd()), flags, Mode::empty())
}

fn descriptors(pid: u32) -> impl Iterator<Item = u32> {
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .into_iter()
        .flatten()
        .take(DESCRIPTORS_MAX)
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Address ranges of `/proc/PID/maps` that map inode `ino`.
fn mappings(pid: u32, ino: u64) -> Vec<String> {
    let Ok(maps) = File::open(format!("/proc/{pid}/maps")) else { return Vec::new() };
    ranges(BufReader::new(maps.take(MAPS_BYTES_MAX)), ino)
}

/// `maps` is proc_pid_maps(5): range, permissions, offset, device, inode, path.
fn ranges(maps: impl BufRead, ino: u64) -> Vec<String> {
    let lines = maps.split(b'\n').map_while(Result::ok);
    let matching = lines.filter_map(|line| {
        let mut fields = line.split(|byte| *byte == b' ').map(|field| std::str::from_utf8(field).unwrap_or_default());
        let range = fields.next()?;
        let found: u64 = fields.nth(3)?.parse().ok()?;
        (found == ino).then(|| range.to_owned())
    });
    matching.take(MAPPINGS_MAX).collect()
}

/// File systems whose server is this kernel: they show us the bytes that they showed the loader. Everything else may
/// show others, or make us wait (magics of include/uapi/linux/magic.h and of the file systems' own headers).
pub fn is_local(magic: u64) -> bool {
    matches!(
        magic,
        0xEF53            // ext2, ext3, ext4
        | 0x5846_5342     // xfs
        | 0x9123_683E     // btrfs
        | 0x0102_1994     // tmpfs
        | 0x8584_58F6     // ramfs
        | 0x9584_58F6     // hugetlbfs
        | 0x794C_7630     // overlayfs
        | 0xF2F5_2010     // f2fs
        | 0x2FC1_2FC1     // zfs
        | 0xCA45_1A4E     // bcachefs
        | 0x7371_7368     // squashfs
        | 0xE0F5_E1E2     // erofs
        | 0x9660          // iso9660
        | 0x1501_3346     // udf
        | 0x4D44          // vfat
        | 0x2011_BAB0     // exfat
        | 0x7366_746E     // ntfs3
        | 0x3153_464A     // jfs
        | 0x3434 // nilfs2
    )
}

/// Network file systems: served by a machine that the loader doesn't choose, unlike FUSE.
pub fn is_network(magic: u64) -> bool {
    matches!(
        magic,
        0x6969            // nfs
        | 0xFF53_4D42     // cifs
        | 0xFE53_4D42     // smb2
        | 0x00C3_6400     // ceph
        | 0x0BD0_0BD0     // lustre
        | 0x4750_4653     // gpfs
        | 0x5346_414F // afs
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_are_matched_by_inode_whatever_the_path_says() {
        let maps: &[u8] = b"7f00-7f01 r--p 00000000 fe:00 77                         /a\n\
            7f02-7f03 r--p 00000000 00:00 0 \n7f04-7f05 r--s 00001000 fe:00 78      /77 \xff\n\
            7f06-7f07 r--p 00000000 fe:00 77  /tmp/m.pt (deleted)\nrubbish\n";
        assert_eq!(ranges(maps, 77), ["7f00-7f01", "7f06-7f07"]);
        assert_eq!(ranges(maps, 79), Vec::<String>::new());
    }
}
