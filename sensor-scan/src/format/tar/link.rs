//! Links in an archive: whether one leads out of it, and who is put behind one.

use std::collections::BTreeSet;

/// Links that are remembered; an archive with more is none of models.
const LINKS_MAX: usize = 100_000;

/// Whether a symbolic link at `name` leads to a place in the archive: as the hub's cache does, `../../blobs/x` from within
/// `snapshots/y/`. (Where the link's folder is itself behind a link, [`Links::above`] says so.)
pub fn stays(name: &[u8], target: &[u8]) -> bool {
    if target.first().is_none_or(|byte| *byte == b'/') || target.contains(&b'\\') || target.contains(&0) {
        return false;
    }
    let parts = |path: &[u8]| path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").count();
    let mut depth = parts(name).saturating_sub(1);
    let mut down = false;
    for part in target.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".") {
        if part != b".." {
            down = true;
        } else if down || depth == 0 {
            // What lies behind a folder may be a link, and lead elsewhere.
            return false;
        } else {
            depth -= 1;
        }
    }
    true
}

/// The links so far.
#[derive(Debug, Default)]
pub struct Links(BTreeSet<Vec<u8>>);

impl Links {
    pub fn add(&mut self, name: &[u8]) {
        if self.0.len() < LINKS_MAX {
            self.0.insert(plain(name));
        }
    }

    /// A folder of `name` is one of the links.
    pub fn above(&self, name: &[u8]) -> bool {
        let name = plain(name);
        !self.0.is_empty()
            && name.iter().enumerate().any(|(at, byte)| *byte == b'/' && at > 0 && self.0.contains(&name[..at]))
    }
}

fn plain(name: &[u8]) -> Vec<u8> {
    let parts: Vec<&[u8]> = name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_within_the_archive() {
        for (name, target) in [
            (&b"m/snapshots/1/a.bin"[..], &b"../../blobs/feed"[..]),
            (b"a/b", b"../c"),
            (b"./a/b", b"c"),
            (b"a", b"b/c"),
        ] {
            assert!(stays(name, target), "{}", String::from_utf8_lossy(target));
        }
        for (name, target) in [
            (&b"a/b"[..], &b"../../c"[..]),
            (b"a", b"../c"),
            (b"a/b", b"/etc/passwd"),
            (b"a/b/c", b"x/../../../y"),
            (b"a/b", b""),
            (b"a/b", b"..\\..\\x"),
        ] {
            assert!(!stays(name, target), "{}", String::from_utf8_lossy(target));
        }
    }

    #[test]
    fn who_lies_behind_a_link() {
        let mut links = Links::default();
        links.add(b"./a//b");
        assert!(links.above(b"a/b/c") && links.above(b"a/b/c/d"));
        assert!(!links.above(b"a/b") && !links.above(b"a/bc/d") && !links.above(b"x"));
    }
}
