//! The pipeline that a dataset's chunks go through: deflate, shuffle, Fletcher's checksum, LZF.

use std::io::Read as _;

use super::file::File;
use super::object::Message;

/// Filters of one pipeline, as the library limits them.
const FILTERS_MAX: u64 = 32;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Filter {
    Deflate,
    /// Bytes of one element, which lie one behind the other again when it is undone.
    Shuffle(usize),
    /// Four bytes behind the data.
    Fletcher32,
    /// h5py's own.
    Lzf,
}

/// The pipeline in the order of writing; `None` where it has a filter that is not understood (vendors' own hide bytes from
/// every reader but the library with their plugin).
pub fn pipeline(file: &File<'_, '_>, message: &Message) -> Option<Vec<Filter>> {
    let mut body = file.range(message.start, message.end);
    let version = body.uint(1)?;
    let count = body.uint(1).filter(|count| *count <= FILTERS_MAX)?;
    if version == 1 {
        body.skip(6)?;
    }
    (0..count)
        .map(|_| {
            let id = body.uint(2)?;
            let name_bytes = if version == 1 || id >= 256 { body.uint(2)? } else { 0 };
            body.skip(2)?;
            let values = body.uint(2)?;
            body.skip(if version == 1 { name_bytes.next_multiple_of(8) } else { name_bytes })?;
            let values: Vec<u64> = (0..values).map(|_| body.uint(4)).collect::<Option<_>>()?;
            if version == 1 && values.len() % 2 == 1 {
                body.skip(4)?;
            }
            match id {
                1 => Some(Filter::Deflate),
                2 => Some(Filter::Shuffle(usize::try_from(*values.first()?).ok()?)),
                3 => Some(Filter::Fletcher32),
                32000 => Some(Filter::Lzf),
                _ => None,
            }
        })
        .collect()
}

/// A chunk as it was before the pipeline, up to `bytes_max`; a bit of `left_out` says that a filter was not applied. What
/// comes before a broken end stands.
pub fn undone(mut bytes: Vec<u8>, filters: &[Filter], left_out: u64, bytes_max: usize) -> Vec<u8> {
    for (index, filter) in filters.iter().enumerate().rev() {
        if left_out >> index & 1 != 0 {
            continue;
        }
        bytes = match filter {
            Filter::Deflate => {
                let mut plain = Vec::new();
                let _ = flate2::read::ZlibDecoder::new(bytes.as_slice()).take(bytes_max as u64).read_to_end(&mut plain);
                plain
            }
            Filter::Shuffle(element) => unshuffled(&bytes, *element),
            Filter::Fletcher32 => {
                bytes.truncate(bytes.len().saturating_sub(4));
                bytes
            }
            Filter::Lzf => unpacked_lzf(&bytes, bytes_max),
        };
    }
    bytes
}

fn unshuffled(bytes: &[u8], element: usize) -> Vec<u8> {
    let Some(count) = bytes.len().checked_div(element).filter(|count| element > 1 && *count > 1) else {
        return bytes.to_vec();
    };
    let (shuffled, rest) = bytes.split_at(count * element);
    let mut plain = Vec::with_capacity(bytes.len());
    for index in 0..count {
        plain.extend(shuffled.chunks_exact(count).map(|plane| plane[index]));
    }
    plain.extend(rest);
    plain
}

/// LZF: runs of literals (up to 32), and copies of what came before.
fn unpacked_lzf(bytes: &[u8], bytes_max: usize) -> Vec<u8> {
    let mut plain = Vec::new();
    let mut bytes = bytes.iter().copied();
    while let Some(control) = bytes.next().filter(|_| plain.len() < bytes_max) {
        let control = usize::from(control);
        if control < 32 {
            plain.extend(bytes.by_ref().take(control + 1));
            continue;
        }
        let mut length = control >> 5;
        if length == 7 {
            let Some(more) = bytes.next() else { break };
            length += usize::from(more);
        }
        let Some(low) = bytes.next() else { break };
        let back = ((control & 0x1f) << 8) + usize::from(low) + 1;
        let Some(from) = plain.len().checked_sub(back) else { break };
        for at in from..from + length + 2 {
            plain.push(plain[at]);
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lzf_copies_overlap() {
        assert_eq!(unpacked_lzf(&[1, b'a', b'b', 0x60, 1, 0, b'!'], 100), b"abababa!");
        assert_eq!(unpacked_lzf(&[0, b'a', 0xe0, 20, 0], 100), [b'a'; 30]);
        // Broken: a copy from before the start, an end within.
        assert_eq!(unpacked_lzf(&[0, b'a', 0x20, 9], 100), b"a");
        assert_eq!(unpacked_lzf(&[5, b'a'], 100), b"a");
    }

    #[test]
    fn shuffled_elements_lie_together_again() {
        assert_eq!(unshuffled(b"acebdfz", 2), b"abcdefz");
        assert_eq!(unshuffled(b"abc", 0), b"abc");
        assert_eq!(undone(b"acebdf1234".to_vec(), &[Filter::Shuffle(2), Filter::Fletcher32], 0, 100), b"abcdef");
        assert_eq!(undone(b"acebdf".to_vec(), &[Filter::Shuffle(2)], 1, 100), b"acebdf");
    }
}
