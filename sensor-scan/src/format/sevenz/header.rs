//! The headers of a 7z archive (7zFormat.txt of the LZMA SDK), parsed from bytes that may lie: every count is held
//! against the bytes that are left before anything is made of it.

/// Coders in one folder; real ones have one or two, with BCJ2 five.
const CODERS_MAX: u64 = 32;

/// Property ids.
const END: u8 = 0x00;
const HEADER: u8 = 0x01;
const ARCHIVE_PROPERTIES: u8 = 0x02;
const ADDITIONAL_STREAMS: u8 = 0x03;
const MAIN_STREAMS: u8 = 0x04;
const FILES: u8 = 0x05;
const PACK_INFO: u8 = 0x06;
const UNPACK_INFO: u8 = 0x07;
const SUBSTREAMS: u8 = 0x08;
const SIZE: u8 = 0x09;
const CRC: u8 = 0x0a;
const FOLDER: u8 = 0x0b;
const UNPACK_SIZES: u8 = 0x0c;
const STREAM_COUNTS: u8 = 0x0d;
const EMPTY_STREAM: u8 = 0x0e;
const NAMES: u8 = 0x11;
const ATTRIBUTES: u8 = 0x15;
const ENCODED_HEADER: u8 = 0x17;

/// A coder's input that another one's output goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Pair {
    input: u64,
    output: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Coder {
    pub id: Vec<u8>,
    pub properties: Vec<u8>,
    inputs: u64,
    outputs: u64,
}

/// What is decoded in one go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    pub coders: Vec<Coder>,
    pairs: Vec<Pair>,
    /// Where its first packed stream lies, and how long that is.
    pub packed_at: u64,
    pub packed: u64,
    /// Bytes when decoded.
    pub size: u64,
    /// The files in it, one behind the other.
    pub streams: Vec<u64>,
    packed_streams: u64,
}

impl Folder {
    /// Its coders in the order of decoding; `None` where they are no chain (BCJ2 puts four streams together).
    pub fn chain(&self) -> Option<Vec<&Coder>> {
        if self.packed_streams != 1 || self.coders.iter().any(|coder| (coder.inputs, coder.outputs) != (1, 1)) {
            return None;
        }
        let places = 0..self.coders.len() as u64;
        let mut place = places.clone().find(|place| self.pairs.iter().all(|pair| pair.input != *place))?;
        let mut chain = Vec::new();
        for _ in places {
            chain.push(self.coders.get(usize::try_from(place).ok()?)?);
            match self.pairs.iter().find(|pair| pair.output == place) {
                Some(pair) => place = pair.input,
                None => break,
            }
        }
        (chain.len() == self.coders.len()).then_some(chain)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// UTF-8; what is no UTF-16 is replaced.
    pub name: Vec<u8>,
    pub has_stream: bool,
    /// Windows attributes; the upper half is a Unix mode where bit 15 is set.
    pub attributes: u32,
}

impl File {
    pub fn is_link(&self) -> bool {
        self.attributes & 0x8000 != 0 && (self.attributes >> 16) & 0o170_000 == 0o120_000
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Header {
    /// The real header is packed in this folder.
    Encoded(Vec<Folder>),
    Plain {
        folders: Vec<Folder>,
        files: Vec<File>,
    },
}

/// Parses a header; `None` where it is broken.
pub fn parse(bytes: &[u8]) -> Option<Header> {
    let mut reader = Reader { bytes };
    match reader.byte()? {
        ENCODED_HEADER => Some(Header::Encoded(reader.streams()?)),
        HEADER => reader.header(),
        _ => None,
    }
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.bytes.split_first()?;
        self.bytes = rest;
        Some(*first)
    }

    fn take(&mut self, len: u64) -> Option<&'a [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(usize::try_from(len).ok()?)?;
        self.bytes = rest;
        Some(taken)
    }

    /// A number in one to nine bytes: the leading ones of the first say how many follow.
    fn number(&mut self) -> Option<u64> {
        let first = self.byte()?;
        let more = first.leading_ones();
        let mut value = 0_u64;
        for index in 0..more.min(8) {
            value |= u64::from(self.byte()?) << (8 * index);
        }
        if more < 7 {
            value |= (u64::from(first) & ((1 << (7 - more)) - 1)) << (8 * more);
        }
        Some(value)
    }

    /// A count of things of which each takes at least one byte.
    fn count(&mut self) -> Option<u64> {
        self.number().filter(|count| *count <= self.bytes.len() as u64)
    }

    fn bits(&mut self, count: u64) -> Option<Vec<bool>> {
        let bytes = self.take(count.div_ceil(8))?;
        let bit = |index: u64| bytes.get((index / 8) as usize).is_some_and(|byte| byte & (0x80 >> (index % 8)) != 0);
        Some((0..count).map(bit).collect())
    }

    fn defined(&mut self, count: u64) -> Option<Vec<bool>> {
        if self.byte()? != 0 { Some(vec![true; usize::try_from(count).ok()?]) } else { self.bits(count) }
    }

    fn digests(&mut self, count: u64) -> Option<()> {
        let defined = self.defined(count)?.iter().filter(|defined| **defined).count() as u64;
        self.take(defined.checked_mul(4)?).map(|_| ())
    }

    fn header(&mut self) -> Option<Header> {
        let (mut folders, mut files) = (Vec::new(), Vec::new());
        loop {
            match self.byte()? {
                END => return Some(Header::Plain { folders, files }),
                ARCHIVE_PROPERTIES => {
                    while self.byte()? != END {
                        let size = self.number()?;
                        self.take(size)?;
                    }
                }
                ADDITIONAL_STREAMS => drop(self.streams()?),
                MAIN_STREAMS => folders = self.streams()?,
                FILES => files = self.files()?,
                _ => return None,
            }
        }
    }

    fn streams(&mut self) -> Option<Vec<Folder>> {
        let (mut at, mut packed, mut folders) = (0, Vec::new(), Vec::new());
        loop {
            match self.byte()? {
                END => break,
                PACK_INFO => (at, packed) = self.pack_info()?,
                UNPACK_INFO => folders = self.unpack_info()?,
                SUBSTREAMS => self.substreams(&mut folders)?,
                _ => return None,
            }
        }
        let mut next = 0;
        for folder in &mut folders {
            folder.packed_at = packed.iter().take(next).try_fold(at, |at: u64, size| at.checked_add(*size))?;
            folder.packed = packed.get(next).copied()?;
            next += usize::try_from(folder.packed_streams).ok()?;
            if folder.streams.is_empty() {
                folder.streams = vec![folder.size];
            }
        }
        Some(folders)
    }

    fn pack_info(&mut self) -> Option<(u64, Vec<u64>)> {
        let at = self.number()?;
        let count = self.count()?;
        let mut sizes = Vec::new();
        loop {
            match self.byte()? {
                END => return Some((at, sizes)),
                SIZE => sizes = (0..count).map(|_| self.number()).collect::<Option<_>>()?,
                CRC => self.digests(count)?,
                _ => return None,
            }
        }
    }

    fn unpack_info(&mut self) -> Option<Vec<Folder>> {
        if self.byte()? != FOLDER {
            return None;
        }
        let count = self.count()?;
        if self.byte()? != 0 {
            return None; // elsewhere, which no archiver writes
        }
        let mut folders: Vec<Folder> = (0..count).map(|_| self.folder()).collect::<Option<_>>()?;
        loop {
            match self.byte()? {
                END => return Some(folders),
                UNPACK_SIZES => {
                    for folder in &mut folders {
                        let outputs: u64 = folder.coders.iter().map(|coder| coder.outputs).sum();
                        let sizes: Vec<u64> = (0..outputs).map(|_| self.number()).collect::<Option<_>>()?;
                        // The last coder of a chain gives what comes out; filters don't change the size.
                        folder.size = sizes.iter().copied().max()?;
                    }
                }
                CRC => self.digests(count)?,
                _ => return None,
            }
        }
    }

    fn folder(&mut self) -> Option<Folder> {
        let count = self.number().filter(|count| (1..=CODERS_MAX).contains(count))?;
        let mut coders = Vec::new();
        for _ in 0..count {
            let flags = self.byte()?;
            let id = self.take(u64::from(flags & 0x0f))?.to_vec();
            let (inputs, outputs) = if flags & 0x10 != 0 { (self.number()?, self.number()?) } else { (1, 1) };
            if inputs > CODERS_MAX || outputs > CODERS_MAX {
                return None;
            }
            let properties = if flags & 0x20 != 0 {
                let size = self.number()?;
                self.take(size)?.to_vec()
            } else {
                Vec::new()
            };
            coders.push(Coder { id, properties, inputs, outputs });
        }
        let inputs: u64 = coders.iter().map(|coder| coder.inputs).sum();
        let outputs: u64 = coders.iter().map(|coder| coder.outputs).sum();
        let pairs = outputs.checked_sub(1)?;
        let pairs: Vec<Pair> =
            (0..pairs).map(|_| Some(Pair { input: self.number()?, output: self.number()? })).collect::<Option<_>>()?;
        let packed_streams = inputs.checked_sub(pairs.len() as u64)?;
        if packed_streams > 1 {
            for _ in 0..packed_streams {
                self.number()?;
            }
        }
        Some(Folder { coders, pairs, packed_at: 0, packed: 0, size: 0, streams: Vec::new(), packed_streams })
    }

    fn substreams(&mut self, folders: &mut [Folder]) -> Option<()> {
        let mut counts = vec![1_u64; folders.len()];
        let mut id = self.byte()?;
        if id == STREAM_COUNTS {
            counts = folders.iter().map(|_| self.number()).collect::<Option<_>>()?;
            id = self.byte()?;
        }
        let sized = id == SIZE;
        for (folder, count) in folders.iter_mut().zip(&counts) {
            // The size of the last is what is left.
            let given = count.saturating_sub(1);
            if given > self.bytes.len() as u64 || given > 0 && !sized {
                return None;
            }
            let mut left = folder.size;
            for _ in 0..given {
                let size = self.number()?;
                left = left.checked_sub(size)?;
                folder.streams.push(size);
            }
            if *count > 0 {
                folder.streams.push(left);
            }
        }
        if sized {
            id = self.byte()?;
        }
        while id != END {
            // Checksums: which of them are stored depends on those of the folders, so that only the end is looked for.
            if id != CRC {
                return None;
            }
            let all = self.byte()?;
            let total: u64 = counts.iter().try_fold(0_u64, |sum, count| sum.checked_add(*count))?;
            let stored = if all != 0 {
                total
            } else {
                self.bits(total.min(self.bytes.len() as u64 * 8))?.iter().filter(|bit| **bit).count() as u64
            };
            // Folders with one stream and a checksum of their own store none here.
            let most = usize::try_from(stored.checked_mul(4)?).ok()?.min(self.bytes.len());
            let mut skip = most - most % 4;
            while skip > 0 && self.bytes.get(skip) != Some(&END) {
                skip -= 4;
            }
            self.take(skip as u64)?;
            id = self.byte()?;
        }
        Some(())
    }

    fn files(&mut self) -> Option<Vec<File>> {
        let count = self.count()?;
        let mut files = vec![File { name: Vec::new(), has_stream: true, attributes: 0 }; usize::try_from(count).ok()?];
        loop {
            let id = self.byte()?;
            if id == END {
                return Some(files);
            }
            let size = self.number()?;
            let mut property = Reader { bytes: self.take(size)? };
            match id {
                EMPTY_STREAM => {
                    for (file, empty) in files.iter_mut().zip(property.bits(count)?) {
                        file.has_stream = !empty;
                    }
                }
                NAMES => {
                    property.byte()?;
                    let units: Vec<u16> =
                        property.bytes.chunks_exact(2).map(|pair| u16::from_le_bytes([pair[0], pair[1]])).collect();
                    for (file, name) in files.iter_mut().zip(units.split(|unit| *unit == 0)) {
                        file.name = String::from_utf16_lossy(name).into_bytes();
                    }
                }
                ATTRIBUTES => {
                    let defined = property.defined(count)?;
                    property.byte()?;
                    for (file, _) in files.iter_mut().zip(defined).filter(|(_, defined)| *defined) {
                        let bytes = property.take(4)?;
                        file.attributes = u32::from_le_bytes(bytes.try_into().ok()?);
                    }
                }
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_every_length() {
        let number = |bytes: &[u8]| Reader { bytes }.number();
        assert_eq!(number(&[0x7f]), Some(0x7f));
        assert_eq!(number(&[0x81, 0x02]), Some(0x102));
        assert_eq!(number(&[0xc1, 0x02, 0x03]), Some(0x1_0302));
        assert_eq!(number(&[0xff, 1, 2, 3, 4, 5, 6, 7, 8]), Some(0x0807_0605_0403_0201));
        assert_eq!(number(&[0xff, 1]), None);
    }

    #[test]
    fn counts_that_lie_make_nothing() {
        for bytes in [
            &[0x17, 6, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff][..],
            &[1, 5, 0xc0, 0xff, 0xff],
            &[1, 4, 7, 0x0b, 0x20, 0],
        ] {
            assert_eq!(parse(bytes), None);
        }
    }
}
