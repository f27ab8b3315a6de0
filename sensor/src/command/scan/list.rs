//! Paths from a file, and sizes as people write them.

use std::ffi::OsString;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

/// A list of paths may be this long.
const LIST_BYTES_MAX: u64 = 1 << 30;

/// One path a line (LF, or CRLF on all of them); separated by NUL where the file holds one.
pub fn read(file: &Path) -> io::Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    let read = if file.as_os_str() == "-" {
        io::stdin().lock().take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?
    } else {
        std::fs::File::open(file)?.take(LIST_BYTES_MAX + 1).read_to_end(&mut bytes)?
    };
    if read as u64 > LIST_BYTES_MAX {
        return Err(io::Error::other("longer than 1 GiB: split it"));
    }
    Ok(paths(&bytes))
}

/// A small text file.
pub fn text(file: &Path, bytes_max: u64) -> io::Result<String> {
    let mut text = String::new();
    let read = std::fs::File::open(file)?.take(bytes_max + 1).read_to_string(&mut text)?;
    if read as u64 > bytes_max { Err(io::Error::other(format!("longer than {bytes_max} bytes"))) } else { Ok(text) }
}

fn paths(bytes: &[u8]) -> Vec<PathBuf> {
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    let lines = || bytes.split(|byte| *byte == separator).filter(|line| !line.is_empty());
    // A name may end with CR; where every line does, an editor or a script on Windows wrote the list.
    let windows = separator == b'\n' && lines().all(|line| line.ends_with(b"\r"));
    let bare = |line: &[u8]| line.strip_suffix(b"\r").filter(|_| windows).unwrap_or(line).to_vec();
    lines().map(bare).filter(|line| !line.is_empty()).map(|line| PathBuf::from(OsString::from_vec(line))).collect()
}

/// Bytes, or a number with K, M or G (KiB, MiB, GiB).
pub fn size(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let shift = match &text[digits.len()..].to_ascii_lowercase()[..] {
        "" | "b" => 0,
        "k" | "kib" => 10,
        "m" | "mib" => 20,
        "g" | "gib" => 30,
        unit => return Err(format!("unknown unit {unit:?}: use K, M or G")),
    };
    let number: u64 = digits.parse().map_err(|_| "a number was expected, as in 256M".to_owned())?;
    number.checked_mul(1 << shift).ok_or_else(|| "too large".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_by_line_or_by_nul() {
        assert_eq!(paths(b"a\nb c\n\n"), [PathBuf::from("a"), PathBuf::from("b c")]);
        assert_eq!(paths(b"a\nb\0c"), [PathBuf::from("a\nb"), PathBuf::from("c")]);
        assert_eq!(paths(b"a\r\nb c\r\n\r\n"), [PathBuf::from("a"), PathBuf::from("b c")]);
        assert_eq!(paths(b"a\r\nb\n"), [PathBuf::from("a\r"), PathBuf::from("b")]);
        assert_eq!(paths(b"a\r\0b\r\0"), [PathBuf::from("a\r"), PathBuf::from("b\r")]);
        assert_eq!(paths(b""), Vec::<PathBuf>::new());
    }

    #[test]
    fn sizes() {
        assert_eq!(size("10"), Ok(10));
        assert_eq!(size("256M"), Ok(256 << 20));
        assert_eq!(size("1GiB"), Ok(1 << 30));
        for wrong in ["", "M", "-1", "1T", "99999999999G"] {
            assert!(size(wrong).is_err(), "{wrong}");
        }
    }
}
