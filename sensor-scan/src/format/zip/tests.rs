//! Archives made by hand, each with one lie.

use std::io::Write as _;

use crate::source::MemorySource;
use crate::{Content, Limits, Report, Verdict};

/// `os.system("true")`.
const MALICIOUS: &[u8] = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";
/// `{"a": 1}`.
const BENIGN: &[u8] = b"\x80\x02}q\x00X\x01\x00\x00\x00aq\x01K\x01s.";

/// A member before anybody lies about it.
#[derive(Clone)]
struct Member {
    name: Vec<u8>,
    local_name: Option<Vec<u8>>,
    data: Vec<u8>,
    deflated: bool,
    flags: u16,
    local_flags: u16,
    local_method: Option<u16>,
    method: Option<u16>,
    crc_xor: u32,
    mode: u32,
    descriptor: bool,
    listed: bool,
}

fn member(name: &str, data: &[u8]) -> Member {
    Member {
        name: name.as_bytes().to_vec(),
        local_name: None,
        data: data.to_vec(),
        deflated: false,
        flags: 0,
        local_flags: 0,
        local_method: None,
        method: None,
        crc_xor: 0,
        mode: 0,
        descriptor: false,
        listed: true,
    }
}

fn deflate(data: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    writer.write_all(data).unwrap();
    writer.finish().unwrap()
}

/// Bytes of an archive; `prefix` is put before it after all offsets were computed.
fn archive(members: &[Member], prefix: &[u8], comment: &[u8]) -> Vec<u8> {
    let (mut out, mut directory, mut listed) = (Vec::new(), Vec::new(), 0_u16);
    for member in members {
        let packed = if member.deflated { deflate(&member.data) } else { member.data.clone() };
        let mut crc = flate2::Crc::new();
        crc.update(&member.data);
        let crc = crc.sum() ^ member.crc_xor;
        let method = member.method.unwrap_or(if member.deflated { 8 } else { 0 });
        let sizes = [crc, packed.len() as u32, member.data.len() as u32];
        let at = out.len() as u32;
        let extra_flag = if member.descriptor { 8 } else { 0 };
        let local_name = member.local_name.as_ref().unwrap_or(&member.name);

        out.extend(b"PK\x03\x04\x14\0");
        out.extend((member.local_flags | extra_flag).to_le_bytes());
        out.extend(member.local_method.unwrap_or(method).to_le_bytes());
        out.extend([0; 4]);
        for value in sizes {
            out.extend(if member.descriptor { 0 } else { value }.to_le_bytes());
        }
        out.extend((local_name.len() as u16).to_le_bytes());
        out.extend([0; 2]);
        out.extend(local_name);
        out.extend(&packed);
        if member.descriptor {
            out.extend(b"PK\x07\x08");
            sizes.iter().for_each(|value| out.extend(value.to_le_bytes()));
        }
        if !member.listed {
            continue;
        }
        listed += 1;
        directory.extend(b"PK\x01\x02\x14\x03\x14\0");
        directory.extend((member.flags | extra_flag).to_le_bytes());
        directory.extend(method.to_le_bytes());
        directory.extend([0; 4]);
        sizes.iter().for_each(|value| directory.extend(value.to_le_bytes()));
        directory.extend((member.name.len() as u16).to_le_bytes());
        directory.extend([0; 8]);
        directory.extend((member.mode << 16).to_le_bytes());
        directory.extend(at.to_le_bytes());
        directory.extend(&member.name);
    }
    let (start, bytes) = (out.len() as u32, directory.len() as u32);
    out.append(&mut directory);
    out.extend(b"PK\x05\x06\0\0\0\0");
    out.extend([listed.to_le_bytes(), listed.to_le_bytes()].concat());
    out.extend([bytes.to_le_bytes(), start.to_le_bytes()].concat());
    out.extend((comment.len() as u16).to_le_bytes());
    out.extend(comment);
    [prefix, &out].concat()
}

fn scan(bytes: &[u8], name: &[u8]) -> Report {
    crate::scan(&MemorySource::new(bytes, name), &Limits::default(), &crate::Policy::standard())
}

fn ids(report: &Report) -> Vec<&'static str> {
    let mut ids: Vec<_> = report.findings.iter().map(|finding| finding.id).collect();
    ids.sort_unstable();
    ids.dedup();
    ids
}

fn torch(data: &[u8]) -> Member {
    member("m/data.pkl", data)
}

#[test]
fn an_honest_archive_is_clean_and_complete() {
    let storage = member("m/data/0", &[0x3f; 4096]);
    let mut deflated = member("m/data/1", &[0; 100_000]);
    deflated.deflated = true;
    let mut described = member("m/data/2", &[7; 64]);
    described.descriptor = true;
    let report = scan(&archive(&[torch(BENIGN), storage, deflated, described], b"", b"a comment"), b"m.pt");
    assert_eq!((report.format, report.content, report.verdict), ("torch-zip", Content::Code, Verdict::Clean));
    assert_eq!((ids(&report), report.coverage.complete), (vec![], true));
}

#[test]
fn a_payload_is_found_whatever_the_headers_say() {
    let plain = torch(MALICIOUS);
    let deflated = Member { deflated: true, ..plain.clone() };
    let lies: Vec<(&str, Vec<u8>)> = vec![
        ("plain", archive(std::slice::from_ref(&plain), b"", b"")),
        ("deflated", archive(std::slice::from_ref(&deflated), b"", b"")),
        ("descriptor", archive(&[Member { descriptor: true, ..deflated.clone() }], b"", b"")),
        ("checksum", archive(&[Member { crc_xor: 1, ..plain.clone() }], b"", b"")),
        ("encrypted, central", archive(&[Member { flags: 1, ..plain.clone() }], b"", b"")),
        ("encrypted, local", archive(&[Member { local_flags: 1, ..plain.clone() }], b"", b"")),
        ("patched", archive(&[Member { flags: 0x20, ..deflated.clone() }], b"", b"")),
        ("local name", archive(&[Member { local_name: Some(b"m/other".to_vec()), ..plain.clone() }], b"", b"")),
        ("local method", archive(&[Member { local_method: Some(8), ..plain.clone() }], b"", b"")),
        ("central method", archive(&[Member { method: Some(0), local_method: Some(8), ..deflated.clone() }], b"", b"")),
        ("unknown method", archive(&[Member { method: Some(99), ..plain.clone() }], b"", b"")),
        ("upper case", archive(&[Member { name: b"m/DATA.PKL".to_vec(), ..plain.clone() }], b"", b"")),
        ("first of two", archive(&[plain.clone(), torch(BENIGN)], b"", b"")),
        ("second of two", archive(&[torch(BENIGN), plain.clone()], b"", b"")),
        ("not listed", archive(&[torch(BENIGN), Member { listed: false, ..plain.clone() }], b"", b"")),
        ("no suffix", archive(&[torch(BENIGN), member("m/x", MALICIOUS)], b"", b"")),
        ("storage", archive(&[torch(BENIGN), member("m/data/0", MALICIOUS)], b"", b"")),
        ("prefix", archive(std::slice::from_ref(&plain), b"\x89PNG\r\n\x1a\n", b"")),
        ("comment", archive(&[torch(BENIGN)], b"", MALICIOUS)),
        ("before the archive", archive(&[torch(BENIGN)], MALICIOUS, b"")),
        ("behind the archive", [archive(&[torch(BENIGN)], b"", b""), MALICIOUS.to_vec()].concat()),
        ("archive in archive", archive(&[member("a.zip", &archive(&[deflated], b"", b""))], b"", b"")),
        ("no directory", {
            let whole = archive(&[plain], b"", b"");
            let at = whole.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
            whole[..at].to_vec()
        }),
    ];
    for (lie, bytes) in lies {
        let report = scan(&bytes, b"m.pt");
        assert_eq!(report.verdict, Verdict::Malicious, "{lie}: {:?}", report.findings);
    }
}

#[test]
fn each_lie_has_its_finding() {
    let plain = torch(BENIGN);
    let deflated = Member { deflated: true, ..plain.clone() };
    let other = |name: &str| [plain.clone(), member(name, b"x")];
    for (bytes, id) in [
        (archive(&[Member { crc_xor: 1, ..plain.clone() }], b"", b""), "SNS-304"),
        (archive(&[Member { flags: 1, ..plain.clone() }], b"", b""), "SNS-303"),
        (archive(&[Member { flags: 0x40, ..plain.clone() }], b"", b""), "SNS-303"),
        (archive(&[Member { local_name: Some(b"m/y".to_vec()), ..plain.clone() }], b"", b""), "SNS-301"),
        (archive(&[Member { local_method: Some(8), ..plain.clone() }], b"", b""), "SNS-301"),
        (archive(&[Member { method: Some(99), ..deflated }], b"", b""), "SNS-311"),
        (archive(&[plain.clone(), plain.clone()], b"", b""), "SNS-302"),
        (archive(&other("M\\Data.pkl"), b"", b""), "SNS-302"),
        (archive(&other("../x"), b"", b""), "SNS-305"),
        (archive(&other("C:\\x"), b"", b""), "SNS-305"),
        (archive(&other("x\0.txt"), b"", b""), "SNS-305"),
        (archive(&[plain.clone(), Member { mode: 0o120_777, ..member("l", b"/etc/passwd") }], b"", b""), "SNS-305"),
        (archive(&[plain.clone(), Member { listed: false, ..member("h", b"x") }], b"", b""), "SNS-306"),
        (archive(std::slice::from_ref(&plain), b"junk", b""), "SNS-307"),
        ([archive(std::slice::from_ref(&plain), b"", b""), b"junk".to_vec()].concat(), "SNS-307"),
    ] {
        let found = ids(&scan(&bytes, b"m.pt"));
        assert!(found.contains(&id), "{id}: {found:?}");
    }
}

/// Puts an extra field into the first local or central header, whose signature is given.
fn with_extra(
    mut bytes: Vec<u8>,
    signature: &[u8; 4],
    (name_len_at, header_bytes): (usize, usize),
    extra: &[u8],
) -> Vec<u8> {
    let at = bytes.windows(4).position(|window| window == signature).unwrap();
    let name_len = usize::from(u16::from_le_bytes([bytes[at + name_len_at], bytes[at + name_len_at + 1]]));
    bytes[at + name_len_at + 2..at + name_len_at + 4].copy_from_slice(&(extra.len() as u16).to_le_bytes());
    let from = at + header_bytes + name_len;
    bytes.splice(from..from, extra.iter().copied());
    bytes
}

#[test]
fn names_directories_and_ends_that_readers_take_differently() {
    let plain = archive(&[torch(BENIGN)], b"", b"");
    // A Unicode path in the central header.
    let mut extra = b"\x75\x70\x0b\0\x01\0\0\0\0".to_vec();
    extra.extend(b"../xyz");
    let mut named = with_extra(plain.clone(), b"PK\x01\x02", (28, 46), &extra);
    let end = named.len() - 22;
    let bytes = u32::from_le_bytes(named[end + 12..end + 16].try_into().unwrap()) + extra.len() as u32;
    named[end + 12..end + 16].copy_from_slice(&bytes.to_le_bytes());
    let found = ids(&scan(&named, b"m.pt"));
    assert!(found.contains(&"SNS-301") && found.contains(&"SNS-305"), "{found:?}");

    let folder = archive(&[torch(BENIGN), member("m/x/", MALICIOUS)], b"", b"");
    let report = scan(&folder, b"m.pt");
    assert!(ids(&report).contains(&"SNS-301"));
    assert_eq!(report.verdict, Verdict::Malicious);

    // Two archives one behind the other: who looks for the first directory sees the other one.
    let twice = [archive(&[torch(MALICIOUS)], b"", b""), plain.clone()].concat();
    assert_eq!(scan(&twice, b"m.pt").verdict, Verdict::Malicious);
    // A second end record in the comment, with a directory of its own.
    let commented = archive(&[torch(BENIGN)], b"", &plain);
    assert!(ids(&scan(&commented, b"m.pt")).contains(&"SNS-301"));
    // An archive that is a member has its own end, which is nobody else's.
    let nested = archive(&[member("a.txt", b"x"), member("m.pt", &plain)], b"", b"");
    assert_eq!(scan(&nested, b"m.zip").verdict, Verdict::Clean);
}

#[test]
fn a_member_that_is_really_encrypted_is_not_called_clean() {
    let noise: Vec<u8> = (0..200_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let member = Member { flags: 1, local_flags: 1, crc_xor: 77, ..member("m/x", &noise) };
    let report = scan(&archive(&[member], b"", b""), b"m.zip");
    assert!(ids(&report).contains(&"SNS-904"));
    assert_eq!(report.verdict, Verdict::Unscannable);
}

#[test]
fn entries_that_share_their_data_are_told() {
    let mut bytes = archive(&[torch(BENIGN), member("m/aaaa", b"1234")], b"", b"");
    // Point the second central entry to the first local header.
    let second = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[second + 42..second + 46].copy_from_slice(&0_u32.to_le_bytes());
    assert!(ids(&scan(&bytes, b"m.pt")).contains(&"SNS-306"));
}

#[test]
fn limits_are_findings() {
    let members: Vec<Member> = (0..20).map(|index| member(&format!("m/{index}.txt"), b"x")).collect();
    let bytes = archive(&members, b"", b"");
    let limits = Limits { members_max: 5, ..Limits::default() };
    let report = crate::scan(&MemorySource::new(&bytes, b"m.zip"), &limits, &crate::Policy::standard());
    assert!(ids(&report).contains(&"SNS-901"));
    assert_eq!(report.verdict, Verdict::Unscannable);

    let mut nested = archive(&[torch(BENIGN)], b"", b"");
    for _ in 0..20 {
        nested = archive(&[member("a.zip", &nested)], b"", b"");
    }
    let report = scan(&nested, b"m.zip");
    assert!(ids(&report).contains(&"SNS-901"));
    assert!(!report.coverage.complete);
}

#[test]
fn arrays_in_an_archive_are_data_until_one_holds_objects() {
    let array = |descr: &str, data: &[u8]| {
        let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}\n");
        [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
    };
    let plain = member("a.npy", &array("<f8", &[0; 8]));
    let objects = member("b.npy", &array("|O", MALICIOUS));
    let report = scan(&archive(std::slice::from_ref(&plain), b"", b""), b"x.npz");
    assert_eq!((report.format, report.content, report.verdict), ("npz", Content::Data, Verdict::Clean));
    let report = scan(&archive(&[plain, objects], b"", b""), b"x.npz");
    assert_eq!((report.content, report.verdict), (Content::Code, Verdict::Malicious));
    assert_eq!(report.findings[0].member.as_deref(), Some(&b"b.npy"[..]));
}
