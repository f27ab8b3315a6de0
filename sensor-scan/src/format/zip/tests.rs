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

#[test]
fn exported_programs() {
    let graph = |target: &str, expression: &str| {
        format!(r#"{{"nodes": [{{"target": "{target}", "sizes": [{{"as_expr": {{"expr_str": "{expression}"}}}}]}}]}}"#)
    };
    let scanned = |graph: &str, more: &[Member]| {
        let mut members = vec![
            member("m/models/model.json", graph.as_bytes()),
            member("m/data/weights/weight_0", &[0x41; 64]),
            member("m/archive_format", b"pt2"),
        ];
        members.extend_from_slice(more);
        scan(&archive(&members, b"", b""), b"m.pt2")
    };
    let ordinary = graph("torch.ops.aten.linear.default", "Symbol('s77', positive=True, integer=True)");
    let report = scanned(&ordinary, &[]);
    assert_eq!((report.format, report.verdict), ("pt2", Verdict::Clean), "{:?}", report.findings);
    for bad in [graph("torch.os.system", "s0"), graph("_operator.add", "__import__('os')")] {
        let report = scanned(&bad, &[]);
        assert_eq!(report.verdict, Verdict::Malicious, "{bad}: {:?}", report.findings);
        assert_eq!(report.findings[0].id, "SNS-404");
    }
    let library = [b"\x7fELF\x02\x01\x01\0".as_slice(), &[0; 100]].concat();
    let report = scanned(&ordinary, &[member("m/data/aotinductor/model/x.so", &library)]);
    assert_eq!(report.verdict, Verdict::Suspicious);
    assert_eq!(report.findings.iter().map(|finding| finding.id).collect::<Vec<_>>(), ["SNS-404"]);
    // Weights and examples may be pickles.
    let inner = archive(&[member("x/data.pkl", MALICIOUS)], b"", b"");
    for name in ["m/data/sample_inputs/model.pt", "m/data/weights/weight_1"] {
        assert_eq!(scanned(&ordinary, &[member(name, &inner)]).verdict, Verdict::Malicious, "{name}");
    }
}

#[test]
fn distributed_checkpoints_are_archives_one_behind_the_other() {
    let part = |pickle: &[u8]| archive(&[member("archive/data.pkl", pickle)], b"", b"");
    let whole = [part(BENIGN), part(BENIGN), part(BENIGN)].concat();
    let report = scan(&whole, b"__0_0.distcp");
    assert_eq!((report.format, report.verdict), ("torch-zip", Verdict::Clean), "{:?}", report.findings);
    // Under any other name readers disagree about which one it is.
    assert_eq!(scan(&whole, b"x.pt").verdict, Verdict::Suspicious);
    for bad in [[part(MALICIOUS), part(BENIGN)].concat(), [part(BENIGN), part(MALICIOUS)].concat()] {
        assert_eq!(scan(&bad, b"__0_0.distcp").verdict, Verdict::Malicious);
    }
    assert_ne!(scan(&[b"junk".to_vec(), whole].concat(), b"__0_0.distcp").verdict, Verdict::Clean);
}

/// `_rebuild_tensor_v2` over a float storage of four elements.
fn tensor(size: u8, stride: u8) -> Vec<u8> {
    let mut pickle = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n((X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x04tQK\0K".to_vec();
    pickle.extend([size, 0x85, b'K', stride, 0x85]);
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtR.");
    pickle
}

#[test]
fn tensors_that_lie_to_the_weights_only_reader() {
    let checkpoint = |pickle: &[u8], bytes: usize| {
        scan(&archive(&[member("m/data.pkl", pickle), member("m/data/0", &vec![0; bytes])], b"", b""), b"m.pt")
    };
    for (size, stride) in [(4, 1), (2, 3), (1, 200), (0, 9), (200, 0)] {
        let report = checkpoint(&tensor(size, stride), 16);
        assert_eq!(report.verdict, Verdict::Clean, "{size} {stride}: {:?}", report.findings);
    }
    let wrong = |report: Report| {
        assert_eq!((report.verdict, report.findings[0].id), (Verdict::Suspicious, "SNS-405"), "{:?}", report.findings);
    };
    wrong(checkpoint(&tensor(5, 1), 16));
    wrong(checkpoint(&tensor(3, 2), 16));
    // The record is shorter than the storage.
    wrong(checkpoint(&tensor(4, 1), 12));
    // Items are set on a tensor, and on a list.
    let on_tensor = [tensor(4, 1).strip_suffix(b".").unwrap(), b"K\0K\x01s."].concat();
    wrong(checkpoint(&on_tensor, 16));
    wrong(checkpoint(b"\x80\x02]K\0K\x01s.", 16));
}

#[test]
fn pickles_of_a_torch_package_may_have_persistent_ids() {
    let pickle = b"\x80\x02X\x01\0\0\x000Q.";
    let members = [member("m/.data/extern_modules", b"torch"), member("m/models/m.pkl", pickle)];
    let report = scan(&archive(&members, b"", b""), b"m.pt");
    assert_eq!(report.verdict, Verdict::Clean, "{:?}", report.findings);
}
