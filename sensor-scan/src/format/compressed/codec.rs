//! The decoders, each bounded in memory, all behind one reader; and which one a magic number asks for.

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::rc::Rc;

use crate::source::Source;

/// A decoder's window may take this much memory; what asks for more is refused (and reported as unreadable).
const DECODER_MEMORY_KIB_MAX: u32 = 66 << 10;
pub const WINDOW_BYTES_MAX: u64 = 64 << 20;
const INPUT_BYTES: usize = 64 << 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As it is.
    Stored,
    /// Without a header: a member of a ZIP file.
    Deflate,
    Zlib,
    Gzip,
    Bzip2,
    Xz,
    /// The format before xz, "LZMA alone".
    Lzma,
    /// Method 14 of ZIP files: LZMA behind a header of its own (APPNOTE 5.8.8).
    ZipLzma,
    Lz4,
    Zstd,
    /// LZMA whose properties stand elsewhere, as in 7z archives.
    RawLzma {
        props: u8,
        dictionary: u32,
        bytes: u64,
    },
    RawLzma2 {
        dictionary: u32,
    },
    /// PPMd, variant H, as in 7z archives.
    RawPpmd {
        order: u32,
        memory: u32,
        bytes: u64,
    },
}

impl Codec {
    /// Which decoder would take a file that starts with `bytes`. Zlib and LZMA have no magic number but a plausible
    /// header: joblib tells them by the first byte or two.
    pub fn of(bytes: &[u8]) -> Option<Self> {
        match bytes {
            [0x1f, 0x8b, 8, ..] => Some(Self::Gzip),
            [b'B', b'Z', b'h', b'1'..=b'9', 0x31 | 0x17, ..] => Some(Self::Bzip2),
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Some(Self::Xz),
            [0x04, 0x22, 0x4d, 0x18, ..] => Some(Self::Lz4),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(Self::Zstd),
            // RFC 1950: method 8, window up to 32 KiB, both bytes together a multiple of 31.
            [first, second, ..]
                if first & 0x0f == 8
                    && first >> 4 <= 7
                    && second & 0x20 == 0
                    && (u16::from(*first) << 8 | u16::from(*second)) % 31 == 0 =>
            {
                Some(Self::Zlib)
            }
            // Properties lc=3 lp=0 pb=2, a dictionary of 4 KiB to 256 MiB that is a power of two, or one and a half.
            [0x5d, 0, 0, rest @ ..] if rest.len() >= 10 => {
                let dictionary = u32::from_le_bytes([0, 0, rest[0], rest[1]]);
                let plausible = dictionary.count_ones() <= 2 && (1 << 12..=1 << 28).contains(&dictionary);
                plausible.then_some(Self::Lzma)
            }
            _ => None,
        }
    }

    /// Zlib's two bytes are so weak a sign that a failure to decode means "not this format".
    pub fn is_weak(self) -> bool {
        matches!(self, Self::Zlib | Self::Lzma)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::RawPpmd { .. } => "ppmd",
            Self::Deflate => "deflate",
            Self::Zlib => "zlib",
            Self::Gzip => "gzip",
            Self::Bzip2 => "bzip2",
            Self::Xz => "xz",
            Self::Lzma | Self::ZipLzma | Self::RawLzma { .. } | Self::RawLzma2 { .. } => "lzma",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// A fresh decoder over the whole of `source`, and the count of encoded bytes that it took.
    pub fn open<'a>(self, source: &'a dyn Source) -> (Box<dyn Read + 'a>, Rc<Cell<u64>>) {
        let taken = Rc::new(Cell::new(0));
        let input = Input { source, at: 0, buffer: Vec::new(), from: 0, taken: Rc::clone(&taken) };
        let reader: Box<dyn Read + 'a> = match self {
            Self::Stored => Box::new(input),
            Self::Deflate => Box::new(flate2::bufread::DeflateDecoder::new(input)),
            Self::Zlib => Box::new(flate2::bufread::ZlibDecoder::new(input)),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(input)),
            Self::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(input)),
            Self::Xz => Box::new(lzma_rust2::XzReader::new_mem_limit(input, true, DECODER_MEMORY_KIB_MAX)),
            Self::Lzma => match lzma_rust2::LzmaReader::new_mem_limit(input, DECODER_MEMORY_KIB_MAX, None) {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(Failed(Some(error))),
            },
            Self::ZipLzma => match zip_lzma(input) {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(Failed(Some(error))),
            },
            Self::RawLzma { props, dictionary, bytes } => match raw_lzma(input, props, dictionary, bytes) {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(Failed(Some(error))),
            },
            Self::RawLzma2 { dictionary } => {
                match lzma_rust2::Lzma2Reader::new_mem_limit(input, dictionary, DECODER_MEMORY_KIB_MAX, None) {
                    Ok(reader) => Box::new(reader),
                    Err(error) => Box::new(Failed(Some(error))),
                }
            }
            Self::RawPpmd { order, memory, bytes } => match raw_ppmd(input, order, memory) {
                // The stream has no end of its own.
                Ok(reader) => Box::new(reader.take(bytes)),
                Err(error) => Box::new(Failed(Some(error))),
            },
            Self::Lz4 => Box::new(lz4_flex::frame::FrameDecoder::new(input)),
            Self::Zstd => match ruzstd::decoding::StreamingDecoder::new_with_max_window_size(input, WINDOW_BYTES_MAX) {
                Ok(reader) => Box::new(reader),
                Err(error) => Box::new(Failed(Some(io::Error::other(error.to_string())))),
            },
        };
        (reader, taken)
    }
}

fn zip_lzma(mut input: Input<'_>) -> io::Result<lzma_rust2::LzmaReader<Input<'_>>> {
    // Version, length of the properties, the properties; the end is marked in the stream or by the end of the input.
    let mut fixed = [0; 9];
    input.read_exact(&mut fixed)?;
    let dictionary = u32::from_le_bytes([fixed[5], fixed[6], fixed[7], fixed[8]]);
    if fixed[2..4] != [5, 0] || dictionary / 1024 > DECODER_MEMORY_KIB_MAX {
        return Err(io::Error::new(
            io::ErrorKind::OutOfMemory,
            "LZMA properties that need too much memory, or are none",
        ));
    }
    lzma_rust2::LzmaReader::new_with_props(input, u64::MAX, fixed[4], dictionary, None).map_err(io::Error::other)
}

fn raw_lzma(input: Input<'_>, props: u8, dictionary: u32, bytes: u64) -> io::Result<lzma_rust2::LzmaReader<Input<'_>>> {
    let needed = lzma_rust2::lzma_get_memory_usage_by_props(dictionary, props).map_err(io::Error::other)?;
    if needed > DECODER_MEMORY_KIB_MAX {
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the window is too big"));
    }
    lzma_rust2::LzmaReader::new_with_props(input, bytes, props, dictionary, None).map_err(io::Error::other)
}

fn raw_ppmd(input: Input<'_>, order: u32, memory: u32) -> io::Result<ppmd_rust::Ppmd7Decoder<Input<'_>>> {
    if memory / 1024 > DECODER_MEMORY_KIB_MAX {
        return Err(io::Error::new(io::ErrorKind::OutOfMemory, "the model is too big"));
    }
    ppmd_rust::Ppmd7Decoder::new(input, order, memory).map_err(|error| io::Error::other(error.to_string()))
}

/// A decoder that could not be set up: its first read says why.
struct Failed(Option<io::Error>);

impl Read for Failed {
    fn read(&mut self, _buffer: &mut [u8]) -> io::Result<usize> {
        self.0.take().map_or(Ok(0), Err)
    }
}

/// A source as a stream that knows how much of it was used.
struct Input<'a> {
    source: &'a dyn Source,
    at: u64,
    buffer: Vec<u8>,
    from: usize,
    taken: Rc<Cell<u64>>,
}

impl BufRead for Input<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.from == self.buffer.len() {
            self.buffer.resize(INPUT_BYTES, 0);
            let read = self.source.read_at(self.at, &mut self.buffer);
            self.buffer.truncate(*read.as_ref().unwrap_or(&0));
            self.from = 0;
            self.at += read? as u64;
        }
        Ok(&self.buffer[self.from..])
    }

    fn consume(&mut self, amount: usize) {
        self.from += amount;
        self.taken.set(self.taken.get() + amount as u64);
    }
}

impl Read for Input<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ready = self.fill_buf()?;
        let len = ready.len().min(buffer.len());
        buffer[..len].copy_from_slice(&ready[..len]);
        self.consume(len);
        Ok(len)
    }
}
