//! One 512-byte header block of a tar archive, and the records that extend the next one.

pub const BLOCK_BYTES: u64 = 512;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: Vec<u8>,
    pub link: Vec<u8>,
    pub size: u64,
    /// The type flag; `\0` is an ordinary file.
    pub kind: u8,
}

impl Header {
    /// Describes the member that follows: GNU long names, pax records.
    pub fn is_record(&self) -> bool {
        matches!(self.kind, b'L' | b'K' | b'x' | b'X' | b'g')
    }
}

/// Parses a block; `None` where its checksum is wrong, as it is for anything but a header.
pub fn parse(block: &[u8; BLOCK_BYTES as usize]) -> Option<Header> {
    let said = number(&block[148..156])?;
    let with_blanks = |signed: bool| -> i64 {
        let sum = block.iter().enumerate().map(|(at, byte)| match at {
            148..156 => i64::from(b' '),
            _ if signed => i64::from(*byte as i8),
            _ => i64::from(*byte),
        });
        sum.sum()
    };
    // Some old writers summed signed characters; tarfile accepts both.
    if said as i64 != with_blanks(false) && said as i64 != with_blanks(true) {
        return None;
    }
    let text = |range: std::ops::Range<usize>| -> Vec<u8> {
        block[range].iter().take_while(|byte| **byte != 0).copied().collect()
    };
    let mut name = text(0..100);
    if &block[257..262] == b"ustar" && block[345] != 0 && &block[257..265] != b"ustar  \0" {
        let mut long = text(345..500);
        long.push(b'/');
        long.append(&mut name);
        name = long;
    }
    let kind = block[156];
    let has_data = !matches!(kind, b'1'..=b'6');
    let size = if has_data { number(&block[124..136])? } else { 0 };
    Some(Header { name, link: text(157..257), size, kind })
}

/// Octal text, or GNU's base 256 where the first bit is set.
fn number(field: &[u8]) -> Option<u64> {
    match field.first()? {
        0x80 => field[1..].iter().try_fold(0_u64, |value, byte| value.checked_mul(256)?.checked_add((*byte).into())),
        0xff => None, // negative
        _ => {
            let text = field.iter().take_while(|byte| **byte != 0);
            let digits: Vec<u8> = text.copied().filter(|byte| *byte != b' ').collect();
            digits.iter().try_fold(0_u64, |value, byte| {
                let digit = (*byte as char).to_digit(8)?;
                value.checked_mul(8)?.checked_add(digit.into())
            })
        }
    }
}

/// What records say of the next member.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Extended {
    pub name: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
}

impl Extended {
    pub fn take(&mut self, kind: u8, record: &[u8]) {
        let text = || record.split(|byte| *byte == 0).next().unwrap_or_default().to_vec();
        match kind {
            b'L' => self.name = Some(text()),
            b'K' => self.link = Some(text()),
            _ => self.pax(record),
        }
    }

    /// `length key=value\n`, again and again.
    fn pax(&mut self, mut record: &[u8]) {
        while let Some(blank) = record.iter().position(|byte| *byte == b' ') {
            let length = std::str::from_utf8(&record[..blank]).ok().and_then(|length| length.parse::<usize>().ok());
            let Some(entry) = length.and_then(|length| record.get(blank + 1..length)) else { return };
            let entry_end = blank + 1 + entry.len();
            let entry = entry.strip_suffix(b"\n").unwrap_or(entry);
            if let Some(equals) = entry.iter().position(|byte| *byte == b'=') {
                let value = &entry[equals + 1..];
                match &entry[..equals] {
                    b"path" => self.name = Some(value.to_vec()),
                    b"linkpath" => self.link = Some(value.to_vec()),
                    b"size" => self.size = std::str::from_utf8(value).ok().and_then(|size| size.parse().ok()),
                    _ => {}
                }
            }
            record = &record[entry_end..];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_octal_and_base_256() {
        assert_eq!(number(b"0000644\0"), Some(0o644));
        assert_eq!(number(b"   644 \0"), Some(0o644));
        assert_eq!(number(b"\x80\0\0\0\0\0\0\x02\0\0\0\0"), Some(0x2_0000_0000));
        assert_eq!(number(b"\xff\xff\xff\xff\xff\xff\xff\xff"), None);
        assert_eq!(number(b"99999999"), None);
    }

    #[test]
    fn pax_records() {
        let mut extended = Extended::default();
        extended.take(b'x', b"16 path=../evil\n19 linkpath=/etc/x\n9 size=9\n");
        assert_eq!(extended.name.as_deref(), Some(&b"../evil"[..]));
        assert_eq!((extended.link.as_deref(), extended.size), (Some(&b"/etc/x"[..]), Some(9)));
    }

    #[test]
    fn a_block_without_its_checksum_is_none() {
        assert_eq!(parse(&[0; 512]), None);
        assert_eq!(parse(&[b'a'; 512]), None);
    }
}
