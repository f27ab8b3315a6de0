//! Archives written by py7zr, in hexadecimal, and what is left of them when bytes are changed.

use crate::policy::Policy;
use crate::source::MemorySource;
use crate::{Limits, Report, Verdict};

const LZMA2: &str = "\
    377abcaf271c000455b2865794000000000000001400000000000000108c776401002068656c6c6f800263706f736978\
    0a73797374656d0a58040000007472756585522e00e0007000675d0000813307ae0fd05a5b7c9f3f4741057bedd7d8fc\
    db3a00bd2cfff50952fa05a5cb2271a77e80ae3aaf33511a8d0df35e4fbd0081d3a4a9e1571fd67fb258c11e28580e00\
    30be4da08773bdac0057ce4c8d616eabe7215963fd49ff453202d5f0c70b28180000000017062501096f00070b010001\
    212101180c710000";
const LZMA: &str = "\
    377abcaf271c000419fa4e7527000000000000005400000000000000fb1c8e390040008803cb87e60e3fc6dba6623ad0\
    e017a4134d8ba6b56dca09132a4f1fdc40ffffd14b00000104060001092700070b01000123030101055d000080000c1c\
    00080a014da5aa6c000005011117006d002f0064006100740061002e0070006b006c000000140a0100e0d56c72337ddd\
    0115060100208080810000";
const COPY: &str = "\
    377abcaf271c0004565a624f5d0000000000000014000000000000009a22a7f3800263706f7369780a73797374656d0a\
    58040000007472756585522e01003c0104060001091c00070b01000101000c1c00080a014da5aa6c0000050119010011\
    050078000000140a010040376e72337ddd01150601002080808100000017061c01094100070b010001212101180c3d00\
    00";
const DEFLATE: &str = "\
    377abcaf271c000422945040630000000000000014000000000000004ebde4216b604a2ec82fceace02aae2c2e49cde5\
    8a6061606028292a4d6d0dd203000100400104060001091e00070b010001030401080c1c00080a014da5aa6c00000501\
    190300000011050078000000140a010090e97472337ddd01150601002080808100000017061e01094500070b01000121\
    2101180c410000";
const BZIP2: &str = "\
    377abcaf271c0004f2c5d6b5470000000000000042000000000000004d6178c2425a683931415926535906ca6fcc0000\
    0d53c05410000110400a22de6042002000228069a6834cd4281a686464c49ca0e48c60cd9dfacb66064a05027c5dc914\
    e142401b29bf300104060001094700070b010001030402020c1c00080a014da5aa6c0000050119040000000011050078\
    000000140a010020927c72337ddd0115060100208080810000";
const ZSTD: &str = "\
    377abcaf271c00046fe2937c250000000000000048000000000000008ab2630d28b52ffd0058e10000800263706f7369\
    780a73797374656d0a58040000007472756585522e0104060001092500070b0100012404f711010501050300000c1c00\
    080a014da5aa6c00000501190300000011050078000000140a0100b0ae7c72337ddd0115060100208080810000";
const X86: &str = "\
    377abcaf271c0004dd7c02c420000000000000004900000000000000c216f81901001b800263706f7369780a73797374\
    656d0a58040000007472756585522e000104060001092000070b01000221210110040303010301000c1c1c00080a014d\
    a5aa6c00000501190300000011050078000000140a0100903f7d72337ddd0115060100208080810000";
const CLEAN: &str = "\
    377abcaf271c000479ead4807f000000000000001400000000000000e29caa43e0002100175d0040008b29d781624d58\
    3f9af8b72f07d2f8980ea434000000e0006800585d0000813307ae0fcffcf06c0febea9cbf0cdc9c6c863994ca6b373a\
    449f497be5fec86d60946e75887b33e089e3728706c45aabf6081573aef13558b74328e914db5fb15beef595d73b8aba\
    44d47668272be01cdb4917e000000017061f01096000070b010001212101180c690000";

fn bytes(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|char| Some(char.to_digit(16)? as u8)).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn scan(bytes: &[u8]) -> Report {
    crate::scan(&MemorySource::new(bytes, b"model.pt"), &Limits::default(), &Policy::default())
}

#[test]
fn members_are_read_whatever_the_coder() {
    for (name, text) in
        [("LZMA2", LZMA2), ("LZMA", LZMA), ("copy", COPY), ("deflate", DEFLATE), ("bzip2", BZIP2), ("zstd", ZSTD)]
    {
        let report = scan(&bytes(text));
        assert_eq!((report.format, report.verdict), ("7z", Verdict::Malicious), "{name}: {:?}", report.findings);
        assert!(report.findings[0].member.is_some(), "{name}");
    }
    let report = scan(&bytes(CLEAN));
    assert_eq!((report.verdict, report.coverage.complete), (Verdict::Clean, true), "{:?}", report.findings);
    let report = scan(&[bytes(CLEAN), b"tail".to_vec()].concat());
    assert_eq!(report.verdict, Verdict::Suspicious);
}

#[test]
fn what_is_not_decoded_is_not_clean() {
    assert_eq!(scan(&bytes(X86)).verdict, Verdict::Unscannable);
    assert_eq!(scan(b"7z\xbc\xaf\x27\x1c").verdict, Verdict::Unscannable);
}

#[test]
fn broken_archives_end_and_are_not_clean() {
    for whole in [bytes(LZMA2), bytes(LZMA), bytes(BZIP2)] {
        for at in 0..whole.len() {
            scan(&whole[..at]);
            for byte in [0, 0x7f, 0xff] {
                let mut changed = whole.clone();
                changed[at] = byte;
                scan(&changed);
            }
        }
        assert_ne!(scan(&whole[..whole.len() - 1]).verdict, Verdict::Clean);
    }
}
