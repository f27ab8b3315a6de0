//! A deterministic tar archive (POSIX.1-2017 pax, "ustar" headers): owner root, no times, entries in the given order.

const BLOCK: usize = 512;

#[derive(Debug, Default)]
pub struct Archive {
    bytes: Vec<u8>,
}

impl Archive {
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.header(&format!("{path}/"), mode, 0, b'5');
    }

    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) {
        self.header(path, mode, content.len(), b'0');
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// Two empty blocks end an archive.
    pub fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 2 * BLOCK, 0);
        self.bytes
    }

    fn header(&mut self, path: &str, mode: u32, size: usize, kind: u8) {
        let mut block = [0u8; BLOCK];
        // Offset and bytes of each field: name 0, mode 100, uid 108, gid 116, size 124, time 136, kind 156, magic 257.
        let mut put = |at: usize, field: &[u8]| block[at..at + field.len()].copy_from_slice(field);
        assert!(path.len() <= 100, "{path} is too long for a ustar name");
        put(0, path.as_bytes());
        put(100, format!("{mode:07o}").as_bytes());
        put(108, b"0000000");
        put(116, b"0000000");
        put(124, format!("{size:011o}").as_bytes());
        put(136, b"00000000000");
        put(148, b"        "); // The checksum counts its own field as blanks.
        put(156, &[kind]);
        put(257, b"ustar\x0000");
        let sum: u32 = block.iter().map(|&byte| u32::from(byte)).sum();
        block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        self.bytes.extend_from_slice(&block);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn tar_reads_what_was_written() {
        let mut archive = Archive::default();
        archive.folder("a", 0o755);
        archive.file("a/b", 0o644, b"hello");
        archive.file("a/c", 0o755, &[7; BLOCK]);
        let mut tar = Command::new("tar")
            .args(["-tv", "--numeric-owner", "--utc"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        tar.stdin.take().unwrap().write_all(&archive.finish()).unwrap();
        let output = tar.wait_with_output().unwrap();
        assert!(output.status.success());
        let lines: Vec<String> = String::from_utf8(output.stdout)
            .unwrap()
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(
            lines,
            [
                "drwxr-xr-x 0/0 0 1970-01-01 00:00 a/",
                "-rw-r--r-- 0/0 5 1970-01-01 00:00 a/b",
                "-rwxr-xr-x 0/0 512 1970-01-01 00:00 a/c"
            ]
        );
    }
}
