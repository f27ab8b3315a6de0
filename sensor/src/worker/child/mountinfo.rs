//! The device of the mount that a descriptor was reached by, as the kernel's own structures have it.
//!
//! `st_dev` is not `super_block.s_dev` on btrfs and overlay; the third field of `/proc/PID/mountinfo` is
//! (fs/proc_namespace.c, `show_mountinfo`).

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Most of a mountinfo that is read, bytes: some 30,000 mounts.
const MOUNTINFO_BYTES_MAX: u64 = 4 << 20;

/// `super_block.s_dev` (major << 20 | minor) of what `fd` is on, looked up in the mounts of process `pid`, else in our
/// own. `None` where neither lists the mount.
pub fn device_of(fd: BorrowedFd, pid: u32) -> Option<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).ok()?;
    let mount = mount_of(&info)?;
    [format!("/proc/{pid}/mountinfo"), "/proc/self/mountinfo".to_owned()].iter().find_map(|path| {
        let file = File::open(path).ok()?;
        find(BufReader::new(file.take(MOUNTINFO_BYTES_MAX)), mount).ok()?
    })
}

/// `mnt_id` of a `/proc/PID/fdinfo/N` (proc_pid_fdinfo(5)).
fn mount_of(fdinfo: &str) -> Option<u64> {
    fdinfo.lines().find_map(|line| line.strip_prefix("mnt_id:")?.trim().parse().ok())
}

/// Mount points may be any bytes but blanks, so lines are split as bytes and only the first three fields are looked at.
fn find(mut mountinfo: impl BufRead, mount: u64) -> io::Result<Option<u32>> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if mountinfo.read_until(b'\n', &mut line)? == 0 {
            return Ok(None);
        }
        let mut fields = line.split(|byte| *byte == b' ').map(|field| std::str::from_utf8(field).unwrap_or_default());
        if fields.next().and_then(|id| id.parse().ok()) == Some(mount) {
            return Ok(fields.nth(1).and_then(device));
        }
    }
}

/// "MAJ:MIN" as the kernel packs it (include/linux/kdev_t.h, MKDEV).
fn device(text: &str) -> Option<u32> {
    let (major, minor) = text.split_once(':')?;
    let (major, minor): (u32, u32) = (major.parse().ok()?, minor.parse().ok()?);
    (major < 1 << 12 && minor < 1 << 20).then_some(major << 20 | minor)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    const MOUNTS: &[u8] = b"22 1 254:0 / / rw - ext4 /dev/vda rw\n\
        33 22 0:41 / /a\xff\\040b rw shared:1 - tmpfs tmpfs rw\n333 22 0:42 / /c rw - tmpfs tmpfs rw\n";

    #[test]
    fn mounts_are_found_by_number_and_devices_packed_as_the_kernel_does() {
        assert_eq!(find(MOUNTS, 22).unwrap(), Some(254 << 20));
        assert_eq!(find(MOUNTS, 33).unwrap(), Some(41));
        assert_eq!(find(MOUNTS, 3).unwrap(), None);
        assert_eq!(mount_of("pos:\t0\nflags:\t02\nmnt_id:\t33\nino:\t7\n"), Some(33));
        assert_eq!(device("4096:0"), None);
        assert_eq!(device("0:1048576"), None);
    }

    #[test]
    fn a_file_of_our_own_has_the_device_that_stat_shows_or_a_mount_of_its_own() {
        // /proc is no overlay and no btrfs: there both numbers are the same.
        let file = File::open("/proc/self/status").unwrap();
        let st_dev = file.metadata().unwrap().dev();
        let expected = rustix::fs::major(st_dev) << 20 | rustix::fs::minor(st_dev);
        assert_eq!(device_of(file.as_fd(), std::process::id()), Some(expected));
    }
}
