//! The key by which a file's name is looked up: the cheapest look that decides almost every open.
//!
//! Pure arithmetic, so that the kernel program and the table that userspace writes cannot disagree.

/// Bytes of a name that are looked at.
pub const KEY_BYTES: usize = 8;

/// Key of a name's last eight bytes: case folded, digits as `0`, everything before the last dot zeroed; all eight
/// where they hold no dot. `tail` is little-endian (the name's last byte on top); shorter names have zeros below.
///
/// All bytes at once: it is part of every open.
#[inline(always)]
pub const fn suffix_key(tail: u64) -> u64 {
    // Lower case has this bit; the flags are two above it.
    let folded = tail | within(tail, b'A', b'Z') >> 2;
    let folded = folded & !((within(tail, b'0', b'9') >> 7) * 0x0f);
    // The last dot, and all before it.
    let mut before = within(tail, b'.', b'.');
    before |= before >> 8;
    before |= before >> 16;
    before |= before >> 32;
    folded & !((before >> 15) * 0xff)
}

const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;

/// The top bit of each byte of `word` that is in `first..=last`, which are ASCII.
#[inline(always)]
const fn within(word: u64, first: u8, last: u8) -> u64 {
    // Sums of the lower bits reach the top one, and no further.
    let from_first = (word & LOW_BITS) + u64::from_ne_bytes([128 - first; 8]);
    let behind_last = (word & LOW_BITS) + u64::from_ne_bytes([127 - last; 8]);
    from_first & !behind_last & !word & !LOW_BITS
}

/// One entry of map `SUFFIXES`: a key, and what a name with it is ([`crate::mark::suffix`]). All zeros where there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Suffix {
    pub key: u64,
    pub class: u64,
}

/// Slots of map `SUFFIXES`.
pub const SUFFIX_SLOTS: u32 = 1 << SUFFIX_BITS;
const SUFFIX_BITS: u32 = 12;

/// The only place where `key` can stand in a table that was made with `multiplier`: one look decides.
#[inline(always)]
pub const fn suffix_slot(key: u64, multiplier: u64) -> u32 {
    (key.wrapping_mul(multiplier) >> (u64::BITS - SUFFIX_BITS)) as u32
}

/// Bytes from the last dot on, the dot included; 0 where there is none.
#[inline(always)]
pub const fn suffix_len(key: u64) -> usize {
    let zero_bytes = (key.trailing_zeros() / 8) as usize;
    if zero_bytes >= KEY_BYTES || (key >> (8 * zero_bytes)) as u8 != b'.' { 0 } else { KEY_BYTES - zero_bytes }
}

/// [`suffix_key`] of a whole name.
pub const fn key_of_name(name: &[u8]) -> u64 {
    let mut tail = 0u64;
    let mut i = 0;
    while i < KEY_BYTES && i < name.len() {
        tail |= (name[name.len() - 1 - i] as u64) << (56 - 8 * i as u32);
        i += 1;
    }
    suffix_key(tail)
}

/// Bytes of a name's end by which [`is_library`] knows it.
pub const LIBRARY_BYTES: usize = 32;

/// Is a file that is so called a library of the dynamic loader: `*.so`, or `*.so.N`, with any number of versions?
/// `words` are the name's last [`LIBRARY_BYTES`] bytes, little-endian, or all of a shorter one; `len` of them count.
///
/// Without a branch for each byte, of which the kernel's checker would follow every combination: bit `i` of a set is byte
/// `i` of the name.
#[inline(always)]
pub const fn is_library(words: [u64; LIBRARY_BYTES / 8], len: usize) -> bool {
    let len = if len > LIBRARY_BYTES { LIBRARY_BYTES } else { len };
    let all = (1u64 << len) - 1;
    let dots = found(words, b'.', b'.') & all;
    let versions = dots | (found(words, b'0', b'9') & all);
    // The last byte that is of no version has to be the end of `.so`.
    let mut up_to = all & !versions;
    let mut shift = 1;
    while shift < LIBRARY_BYTES {
        up_to |= up_to >> shift;
        shift *= 2;
    }
    let end = up_to & !(up_to >> 1);
    let ends = end & found(words, b'o', b'o') & found(words, b's', b's') << 1 & dots << 2;
    // Behind it a dot before each number, and a number after each dot.
    let behind = all & !up_to;
    let doubled = dots & dots << 1 & behind;
    let last = all & !(all >> 1);
    ends != 0 && (behind == 0 || (dots & end << 1 != 0 && doubled == 0 && dots & last == 0))
}

/// The bytes of `words` in `first..=last`, as a set.
#[inline(always)]
const fn found(words: [u64; LIBRARY_BYTES / 8], first: u8, last: u8) -> u64 {
    let (mut found, mut i) = (0, 0);
    while i < words.len() {
        // One flag at the bottom of each byte, gathered in the top byte.
        let flags = within(words[i], first, last) >> 7;
        found |= (flags.wrapping_mul(0x0102_0408_1020_4080) >> 56) << (8 * i);
        i += 1;
    }
    found
}

/// What a folder's name says of the code below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HubFolder {
    None,
    /// Transformers, Diffusers and ModelScope keep the code of models there that bring their own
    /// (`HF_MODULES_CACHE`/`transformers_modules`).
    Modules,
    /// Torch keeps a hub in it.
    Torch,
    /// It is such a hub, if it lies in [`HubFolder::Torch`].
    Hub,
}

/// Bytes of a folder's name by which [`hub_folder`] knows it.
pub const HUB_FOLDER_BYTES: usize = 24;

/// Could [`hub_folder`] know a name of this length? Almost none.
#[inline(always)]
pub const fn is_hub_folder_len(len: u32) -> bool {
    matches!(len, 3 | 5 | 17 | 18 | 20)
}

/// What the folder is whose name begins with `words` (little-endian; what follows the name may be anything).
#[inline(always)]
pub const fn hub_folder(words: [u64; HUB_FOLDER_BYTES / 8], len: u32) -> HubFolder {
    match len {
        3 if is(words, *b"hub\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 3) => HubFolder::Hub,
        5 if is(words, *b"torch\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 5) => HubFolder::Torch,
        17 if is(words, *b"diffusers_modules\0\0\0\0\0\0\0", 17) => HubFolder::Modules,
        18 if is(words, *b"modelscope_modules\0\0\0\0\0\0", 18) => HubFolder::Modules,
        20 if is(words, *b"transformers_modules\0\0\0\0", 20) => HubFolder::Modules,
        _ => HubFolder::None,
    }
}

/// Are the first `len` bytes of `words` those of `name`, which is zero behind them?
#[inline(always)]
const fn is(words: [u64; HUB_FOLDER_BYTES / 8], name: [u8; HUB_FOLDER_BYTES], len: usize) -> bool {
    let mut i = 0;
    while i < words.len() {
        let mut word = 0;
        let mut byte = 8;
        while byte > 0 {
            byte -= 1;
            word = word << 8 | name[8 * i + byte] as u64;
        }
        let taken = len.saturating_sub(8 * i);
        let mask = if taken >= 8 { u64::MAX } else { (1 << (8 * taken)) - 1 };
        if words[i] & mask != word {
            return false;
        }
        i += 1;
    }
    true
}

/// Is it a program that a hub's model brought along, in one of the folders where they are kept? `path` is the whole of
/// it; the kernel asks the same of what Python opens, folder by folder.
pub fn is_hub_code(path: &[u8]) -> bool {
    if !path.ends_with(b".py") && !path.ends_with(b".pyc") {
        return false;
    }
    let mut before = HubFolder::None;
    let folders = path.split(|byte| *byte == b'/').rev().skip(1);
    for folder in folders {
        let mut bytes = [0; HUB_FOLDER_BYTES];
        let len = folder.len();
        let this = match bytes.get_mut(..len) {
            Some(place) => {
                place.copy_from_slice(folder);
                let words = core::array::from_fn(|i| {
                    let word = bytes.get(8 * i..).and_then(|rest| rest.first_chunk());
                    word.map_or(0, |word| u64::from_le_bytes(*word))
                });
                hub_folder(words, len as u32)
            }
            None => HubFolder::None,
        };
        if this == HubFolder::Modules || (this == HubFolder::Torch && before == HubFolder::Hub) {
            return true;
        }
        before = this;
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn code_of_a_hub_is_known_by_its_folder() {
        for path in [
            "/root/.cache/huggingface/modules/transformers_modules/org/name/0f3a/modeling_x.py",
            "/m/transformers_modules/org/name/0f3a/__pycache__/modeling_x.cpython-311.pyc",
            "/root/.cache/torch/hub/org_name_main/hubconf.py",
            "/x/diffusers_modules/local/p.py",
        ] {
            assert!(is_hub_code(path.as_bytes()), "{path}");
        }
        for path in [
            "/usr/lib/python3/dist-packages/torch/hub.py",
            "/usr/lib/python3/dist-packages/torch/utils/hub/x.py",
            "/x/hub/torch/x.py",
            "/x/hub/x.py",
            "/x/transformers_modules/org/config.json",
            "transformers_modules.py",
        ] {
            assert!(!is_hub_code(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn folders_of_hubs_are_known_by_their_names_and_nothing_behind_them() {
        let of = |name: &[u8], behind: u8| {
            let mut bytes = [behind; HUB_FOLDER_BYTES];
            bytes[..name.len()].copy_from_slice(name);
            let word = |i: usize| u64::from_le_bytes(*bytes[8 * i..].first_chunk().unwrap());
            let len = name.len() as u32;
            if is_hub_folder_len(len) { hub_folder([word(0), word(1), word(2)], len) } else { HubFolder::None }
        };
        for behind in [0, b'x', 0xff] {
            assert_eq!(of(b"hub", behind), HubFolder::Hub);
            assert_eq!(of(b"torch", behind), HubFolder::Torch);
            for name in [&b"transformers_modules"[..], b"diffusers_modules", b"modelscope_modules"] {
                assert_eq!(of(name, behind), HubFolder::Modules);
            }
            for name in
                [&b"Hub"[..], b"hubs", b"torcH", b"transformers_module", b"transformers_modulez", b"site-packages"]
            {
                assert_eq!(of(name, behind), HubFolder::None, "{}", name.escape_ascii());
            }
        }
    }

    #[test]
    fn names_with_the_same_suffix_share_a_key() {
        assert_eq!(key_of_name(b"model.pt"), key_of_name(b"x.PT"));
        assert_eq!(key_of_name(b".pt"), u64::from_le_bytes(*b"\0\0\0\0\0.pt"));
        assert_ne!(key_of_name(b"model.pt"), key_of_name(b"modelpt"));
        assert_eq!(key_of_name(b"m.safetensors"), u64::from_le_bytes(*b"etensors"));
        assert_eq!(key_of_name(b"part.7"), key_of_name(b"other.3"));
        assert_eq!(key_of_name(b""), 0);
    }

    #[test]
    fn all_bytes_at_once_are_one_after_the_other() {
        let slowly = |tail: u64| {
            let mut key = [0; KEY_BYTES];
            for (at, byte) in tail.to_le_bytes().into_iter().enumerate().rev() {
                key[at] = match byte {
                    b'1'..=b'9' => b'0',
                    other => other.to_ascii_lowercase(),
                };
                if byte == b'.' {
                    break;
                }
            }
            u64::from_le_bytes(key)
        };
        for byte in 0..=u8::MAX {
            for at in 0..KEY_BYTES {
                for rest in [*b"model.pt", *b"A.b.9.Zz", *b"........", [0; 8], [0xff; 8]] {
                    let mut tail = rest;
                    tail[at] = byte;
                    let tail = u64::from_le_bytes(tail);
                    assert_eq!(suffix_key(tail), slowly(tail), "{tail:#x}");
                }
            }
        }
    }

    #[test]
    fn libraries_are_known_by_any_number_of_versions() {
        let is = |name: &str| {
            let tail = &name.as_bytes()[name.len().saturating_sub(LIBRARY_BYTES)..];
            // What stands behind a name in memory says nothing.
            let mut bytes = *b".so.so.so.so.so.so.so.so.so.so.1";
            bytes[..tail.len()].copy_from_slice(tail);
            let word = |i: usize| u64::from_le_bytes(bytes[8 * i..8 * i + 8].try_into().unwrap());
            is_library([word(0), word(1), word(2), word(3)], tail.len())
        };
        for library in [
            "libm.so",
            ".so",
            "libcurl.so.4.8.0",
            "libcuda.so.535.104.05",
            "libabsl_random_internal_pool_urbg.so.20220623.0.0",
            "libpython3.11.so.1.0",
            "a.so.so.1",
            "a.s.so.1",
        ] {
            assert!(is(library), "{library}");
        }
        for other in
            ["", "so", "weights", "m.so.", "m.so..1", "m.so.1.", "m.so.1a", "m.so.a", "m.soo", "m.so.1.pt", "mso.1"]
        {
            assert!(!is(other), "{other}");
        }
    }

    #[test]
    fn the_suffix_length_is_that_of_the_text_from_the_last_dot() {
        assert_eq!(suffix_len(key_of_name(b"a.tmp")), 4);
        assert_eq!(suffix_len(key_of_name(b"a.b.0")), 2);
        assert_eq!(suffix_len(key_of_name(b"nosuffix")), 0);
        assert_eq!(suffix_len(key_of_name(b"")), 0);
        assert_eq!(suffix_len(key_of_name(b"m.safetensors")), 0);
    }
}
