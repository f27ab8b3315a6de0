//! A compressed range as a source: decoded once to learn its length, its head kept, the rest decoded anew when asked.

use std::cell::RefCell;
use std::io::{self, Read};

use crate::format::compressed::codec::Codec;
use crate::format::compressed::filter::Filter;
use crate::source::Source;

/// Ratios say nothing about small outputs: an array of zeros is an ordinary thing.
pub const RATIO_FREE_BYTES: u64 = 256 << 20;
/// Bytes before the position that can still be read without decoding from the start.
const BACKLOG_BYTES: usize = 1 << 20;
/// Decoding anew may cost this many times the length in all; a reader that jumps about more is cut off.
const REREADS_MAX: u64 = 8;

/// What the first pass may cost.
#[derive(Debug, Clone, Copy)]
pub struct Allowance {
    pub decoded_bytes: u64,
    pub window_bytes: u64,
    pub ratio: u64,
}

/// Why the first pass ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// At the end of the encoded data.
    Complete,
    /// The allowance for decoded bytes was used up.
    Limit,
    /// More decoded bytes per encoded byte than allowed.
    Ratio(u64),
    /// The decoder asks for a larger window than is given to any.
    Window,
    /// The data is broken from here on; what came before stands.
    Broken(String),
}

pub struct Decoded<'a> {
    codec: Codec,
    /// What is undone behind the codec, one after the other.
    filters: Vec<Filter>,
    packed: &'a dyn Source,
    name: &'a [u8],
    head: Vec<u8>,
    len: u64,
    /// Encoded bytes that were used.
    pub taken: u64,
    /// CRC-32 (IEEE) of all that was decoded.
    pub crc: u32,
    pub end: End,
    stream: RefCell<Option<Stream<'a>>>,
    reread_bytes_left: RefCell<u64>,
}

struct Stream<'a> {
    reader: Box<dyn Read + 'a>,
    /// Bytes that `reader` gave so far; `backlog` ends there.
    at: u64,
    backlog: Vec<u8>,
}

impl<'a> Decoded<'a> {
    pub fn new(codec: Codec, packed: &'a dyn Source, name: &'a [u8], allowance: Allowance) -> Self {
        Self::filtered(codec, Vec::new(), packed, name, allowance)
    }

    pub fn filtered(
        codec: Codec,
        filters: Vec<Filter>,
        packed: &'a dyn Source,
        name: &'a [u8],
        allowance: Allowance,
    ) -> Self {
        let (reader, taken) = codec.open(packed);
        let mut reader = filters.iter().fold(reader, |reader, filter| filter.over(reader));
        let mut decoded = Self {
            codec,
            filters,
            packed,
            name,
            head: Vec::new(),
            len: 0,
            taken: 0,
            crc: 0,
            end: End::Complete,
            stream: RefCell::new(None),
            reread_bytes_left: RefCell::new(0),
        };
        let mut crc = flate2::Crc::new();
        let mut buffer = vec![0; 64 << 10];
        decoded.end = loop {
            if decoded.len >= allowance.decoded_bytes {
                break End::Limit;
            }
            let ratio = decoded.len / taken.get().max(1);
            if decoded.len > RATIO_FREE_BYTES && ratio > allowance.ratio {
                break End::Ratio(ratio);
            }
            match reader.read(&mut buffer) {
                Ok(0) => break End::Complete,
                Ok(read) => {
                    crc.update(&buffer[..read]);
                    let room = (allowance.window_bytes as usize).saturating_sub(decoded.head.len());
                    decoded.head.extend_from_slice(&buffer[..read.min(room)]);
                    decoded.len += read as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::OutOfMemory => break End::Window,
                Err(error) => break End::Broken(error.to_string()),
            }
        };
        decoded.taken = taken.get();
        decoded.crc = crc.sum();
        *decoded.reread_bytes_left.borrow_mut() = decoded.len.saturating_mul(REREADS_MAX);
        decoded
    }
}

impl Source for Decoded<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        if offset >= self.len || buffer.is_empty() {
            return Ok(0);
        }
        if let Some(ready) =
            usize::try_from(offset).ok().and_then(|from| self.head.get(from..)).filter(|r| !r.is_empty())
        {
            let len = ready.len().min(buffer.len());
            buffer[..len].copy_from_slice(&ready[..len]);
            return Ok(len);
        }
        let mut slot = self.stream.borrow_mut();
        let usable = |stream: &Stream| offset >= stream.at - stream.backlog.len() as u64;
        if !slot.as_ref().is_some_and(usable) {
            let reader = self.codec.open(self.packed).0;
            let reader = self.filters.iter().fold(reader, |reader, filter| filter.over(reader));
            *slot = Some(Stream { reader, at: 0, backlog: Vec::new() });
        }
        let Some(stream) = slot.as_mut() else { return Ok(0) };
        while stream.at <= offset {
            stream.advance(&mut self.reread_bytes_left.borrow_mut())?;
        }
        let start = stream.at - stream.backlog.len() as u64;
        let ready = &stream.backlog[(offset - start) as usize..];
        let len = ready.len().min(buffer.len()).min((self.len - offset) as usize);
        buffer[..len].copy_from_slice(&ready[..len]);
        Ok(len)
    }

    fn name(&self) -> &[u8] {
        self.name
    }
}

impl Stream<'_> {
    fn advance(&mut self, bytes_left: &mut u64) -> io::Result<()> {
        if *bytes_left == 0 {
            return Err(io::Error::other("decoded too often"));
        }
        if self.backlog.len() > 2 * BACKLOG_BYTES {
            self.backlog.drain(..self.backlog.len() - BACKLOG_BYTES);
        }
        let old = self.backlog.len();
        self.backlog.resize(old + (64 << 10), 0);
        let read = self.reader.read(&mut self.backlog[old..]);
        self.backlog.truncate(old + *read.as_ref().unwrap_or(&0));
        match read? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                self.at += read as u64;
                *bytes_left = bytes_left.saturating_sub(read as u64);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::slice::read;
    use crate::source::MemorySource;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    const ALLOWANCE: Allowance = Allowance { decoded_bytes: 1 << 30, window_bytes: 1000, ratio: 1000 };

    #[test]
    fn any_offset_reads_as_if_it_had_been_decoded_to_memory() {
        let plain: Vec<u8> = (0..5_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        let packed = gzip(&plain);
        let source = MemorySource::new(&packed, b"");
        let decoded = Decoded::new(Codec::Gzip, &source, b"x", ALLOWANCE);
        assert_eq!((decoded.len(), &decoded.end), (plain.len() as u64, &End::Complete));
        assert_eq!(decoded.taken, packed.len() as u64);
        for at in [0, 999, 1000, 4_000_000, 3_500_000, 10, 2_000, 4_999_999] {
            assert_eq!(read(&decoded, at, 700), plain[at as usize..plain.len().min(at as usize + 700)], "at {at}");
        }
        assert_eq!(read(&decoded, 5_000_000, 1), b"");
    }

    #[test]
    fn what_was_decoded_before_the_break_stands() {
        let packed = gzip(&[7; 100_000]);
        let source = MemorySource::new(&packed[..packed.len() - 20], b"");
        let decoded = Decoded::new(Codec::Gzip, &source, b"x", ALLOWANCE);
        assert!(matches!(decoded.end, End::Broken(_)));
        assert_eq!(read(&decoded, 0, 10), [7; 10]);
    }

    #[test]
    fn a_limit_ends_the_decoding_and_is_told() {
        let packed = gzip(&[0; 1_000_000]);
        let source = MemorySource::new(&packed, b"");
        let decoded = Decoded::new(Codec::Gzip, &source, b"x", Allowance { decoded_bytes: 100_000, ..ALLOWANCE });
        assert_eq!(decoded.end, End::Limit);
        assert!(decoded.len() >= 100_000 && decoded.len() < 200_000);
    }

    #[test]
    fn a_reader_that_jumps_too_often_is_cut_off() {
        let packed = gzip(&(0..4_000_000_u32).map(|at| (at >> 8) as u8).collect::<Vec<u8>>());
        let source = MemorySource::new(&packed, b"");
        let decoded = Decoded::new(Codec::Gzip, &source, b"x", ALLOWANCE);
        let mut byte = [0];
        let errors = (0..100)
            .filter(|_| decoded.read_at(3_999_999, &mut byte).is_err() | decoded.read_at(1_001, &mut byte).is_err());
        assert!(errors.count() > 0);
    }
}
