//! DNS messages (RFC 1035 section 4) as they pass: what was asked, and which addresses were given. Bytes of strangers:
//! every length is checked, every loop has a limit, and a message that ends early says what it said until then.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const HEADER_BYTES: usize = 12;
/// RFC 1035 section 2.3.4, as text.
const NAME_BYTES_MAX: usize = 255;
/// Jumps to labels elsewhere in the message that are followed for one name.
const POINTERS_MAX: usize = 16;
/// Records of one answer that are looked at.
const RECORDS_MAX: usize = 64;
const CLASS_INTERNET: u16 = 1;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;

/// A question, and what was answered.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    pub is_answer: bool,
    /// In lower case, without a final dot. Bytes that no host name has are written as `\DDD` (RFC 4343 section 2.1).
    pub name: String,
    /// With their time to live, s.
    pub addresses: Vec<(IpAddr, u32)>,
}

/// Reads a message with one question, as all have.
pub fn parse(bytes: &[u8]) -> Option<Message> {
    let flags = u16_at(bytes, 2)?;
    if u16_at(bytes, 4)? != 1 {
        return None;
    }
    let answers = usize::from(u16_at(bytes, 6)?);
    let (name, at) = name(bytes, HEADER_BYTES)?;
    let mut message = Message { is_answer: flags >> 15 == 1, name, addresses: Vec::new() };
    let mut at = at + 4;
    if message.is_answer {
        for _ in 0..answers.min(RECORDS_MAX) {
            let Some((address, next)) = record(bytes, at) else { break };
            message.addresses.extend(address);
            at = next;
        }
    }
    Some(message)
}

/// One resource record: its address where it has one (behind aliases, whose owner is another name), and its end.
fn record(bytes: &[u8], at: usize) -> Option<(Option<(IpAddr, u32)>, usize)> {
    let at = skip_name(bytes, at)?;
    let (kind, class) = (u16_at(bytes, at)?, u16_at(bytes, at + 2)?);
    let ttl = u32::from(u16_at(bytes, at + 4)?) << 16 | u32::from(u16_at(bytes, at + 6)?);
    let len = usize::from(u16_at(bytes, at + 8)?);
    let data = bytes.get(at + 10..at + 10 + len)?;
    let address = match (class, kind) {
        (CLASS_INTERNET, TYPE_A) => <[u8; 4]>::try_from(data).ok().map(|raw| IpAddr::from(Ipv4Addr::from(raw))),
        (CLASS_INTERNET, TYPE_AAAA) => <[u8; 16]>::try_from(data).ok().map(|raw| IpAddr::from(Ipv6Addr::from(raw))),
        _ => None,
    };
    Some((address.map(|ip| (ip, ttl)), at + 10 + len))
}

/// The name at `at`, and where it ends.
fn name(bytes: &[u8], at: usize) -> Option<(String, usize)> {
    let end = skip_name(bytes, at)?;
    let mut text = String::new();
    let (mut at, mut pointers) = (at, 0);
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len >> 6 {
            0 if len == 0 => return Some((text, end)),
            0 => {
                if !text.is_empty() {
                    text.push('.');
                }
                for byte in bytes.get(at + 1..at + 1 + len)? {
                    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_') {
                        text.push(char::from(byte.to_ascii_lowercase()));
                    } else {
                        text.push_str(&format!("\\{byte:03}"));
                    }
                }
                // Escapes make it longer than it is; what is longer than that is none.
                if text.len() > 4 * NAME_BYTES_MAX {
                    return None;
                }
                at += 1 + len;
            }
            3 => {
                pointers += 1;
                if pointers > POINTERS_MAX {
                    return None;
                }
                at = usize::from(u16_at(bytes, at)? & 0x3fff);
            }
            _ => return None,
        }
    }
}

/// Where the name at `at` ends.
fn skip_name(bytes: &[u8], mut at: usize) -> Option<usize> {
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len >> 6 {
            0 if len == 0 => return Some(at + 1),
            0 => at += 1 + len,
            3 => return Some(at + 2),
            _ => return None,
        }
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header with one question and `answers` answers.
    fn header(flags: u16, answers: u16) -> Vec<u8> {
        let mut bytes = vec![0xab, 0xcd];
        for word in [flags, 1, answers, 0, 0] {
            bytes.extend(word.to_be_bytes());
        }
        bytes
    }

    fn question(bytes: &mut Vec<u8>, labels: &[&[u8]], kind: u16) {
        for label in labels {
            bytes.push(label.len() as u8);
            bytes.extend(*label);
        }
        bytes.push(0);
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_INTERNET.to_be_bytes());
    }

    fn answer(bytes: &mut Vec<u8>, owner: u16, kind: u16, data: &[u8]) {
        bytes.extend((0xc000 | owner).to_be_bytes());
        bytes.extend(kind.to_be_bytes());
        bytes.extend(CLASS_INTERNET.to_be_bytes());
        bytes.extend(300u32.to_be_bytes());
        bytes.extend((data.len() as u16).to_be_bytes());
        bytes.extend(data);
    }

    #[test]
    fn addresses_behind_an_alias_belong_to_the_name_that_was_asked() {
        let mut bytes = header(0x8180, 3);
        question(&mut bytes, &[b"Models", b"Example", b"org"], TYPE_A);
        // An alias, then the addresses of what it stands for.
        answer(&mut bytes, 12, 5, &[0xc0, 12]);
        answer(&mut bytes, 12, TYPE_A, &[203, 0, 113, 9]);
        answer(&mut bytes, 12, TYPE_AAAA, &"2001:db8::9".parse::<Ipv6Addr>().unwrap().octets());
        let message = parse(&bytes).unwrap();
        assert_eq!(message.name, "models.example.org");
        let (four, six) = ("203.0.113.9".parse().unwrap(), "2001:db8::9".parse().unwrap());
        assert_eq!(message.addresses, [(four, 300), (six, 300)]);
        // Cut in the last record: what stood before it is still there.
        assert_eq!(parse(&bytes[..bytes.len() - 3]).unwrap().addresses, [(four, 300)]);
    }

    #[test]
    fn a_name_is_text_whatever_its_bytes_are() {
        let mut bytes = header(0x0100, 0);
        question(&mut bytes, &[b"a\x1b.", b"\xff\0"], TYPE_A);
        assert_eq!(parse(&bytes).unwrap().name, "a\\027\\046.\\255\\000");
        assert!(!parse(&bytes).unwrap().is_answer);
    }

    #[test]
    fn names_that_never_end_are_refused() {
        let mut bytes = header(0x0100, 0);
        bytes.extend([0xc0, 12]);
        bytes.extend([0; 4]);
        assert_eq!(parse(&bytes), None);
        let mut bytes = header(0x0100, 0);
        bytes.extend([3, b'a', b'b', b'c', 0xc0, 12]);
        bytes.extend([0; 4]);
        assert_eq!(parse(&bytes), None);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(mut bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _ = parse(&bytes);
            if bytes.len() > 8 {
                bytes[4..8].copy_from_slice(&[0, 1, 0, 9]);
                let _ = parse(&bytes);
            }
        }
    }
}
