//! Which names are a reason to look at a file. Data: `rules/formats.toml`.

use std::collections::BTreeMap;

use sensor_abi::mark::suffix;
use sensor_abi::name::{KEY_BYTES, key_of_name, suffix_len};
use serde::Deserialize;

const EMBEDDED: &str = include_str!("../../../rules/formats.toml");

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    model: Vec<String>,
    harmless: Vec<String>,
    program: Vec<String>,
    strip: Vec<String>,
}

/// Keys and classes ([`suffix`]) for the kernel's table of names, in order of key.
///
/// # Errors
/// A name that cannot do what the list says; a test holds that there is none.
pub fn suffixes() -> Result<Vec<(u64, u8)>, String> {
    parse(EMBEDDED).map_err(|error| format!("formats.toml: {error}"))
}

fn parse(text: &str) -> Result<Vec<(u64, u8)>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let mut classes = BTreeMap::new();
    for (names, class) in [
        (&file.model, suffix::MODEL),
        (&file.strip, suffix::STRIP),
        (&file.harmless, suffix::HARMLESS),
        (&file.program, suffix::PROGRAM),
    ] {
        for name in names {
            if !name.starts_with('.') || name.len() < 2 {
                return Err(format!("{name:?} doesn't begin with a dot"));
            }
            let key = key_of_name(name.as_bytes());
            if class == suffix::STRIP && suffix_len(key) == 0 {
                return Err(format!("{name:?} is longer than the {KEY_BYTES} bytes that can be stripped"));
            }
            if matches!(class, suffix::HARMLESS | suffix::PROGRAM) && key.to_le_bytes()[0] != 0 && suffix_len(key) == 0
            {
                return Err(format!("{name:?} is longer than the {KEY_BYTES} bytes that are compared"));
            }
            // A model's own suffix wins: one of another class that equals it would hide it.
            classes.entry(key).or_insert(class);
        }
    }
    Ok(classes.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_becomes_keys_for_the_kernel() {
        let suffixes = suffixes().unwrap();
        let class = |name: &[u8]| suffixes.iter().find(|(key, _)| *key == key_of_name(name)).map(|(_, class)| *class);
        assert_eq!(class(b"pytorch_model.bin"), Some(suffix::MODEL));
        assert_eq!(class(b"x.PT"), Some(suffix::MODEL));
        assert_eq!(class(b"model.safetensors"), Some(suffix::MODEL));
        assert_eq!(class(b"x.h5"), Some(suffix::MODEL));
        assert_eq!(class(b"x.tmp"), Some(suffix::STRIP));
        assert_eq!(class(b"x.7"), Some(suffix::STRIP));
        assert_eq!(class(b"x.py"), Some(suffix::PROGRAM));
        assert_eq!(class(b"x.unheard-of"), None);
        assert_eq!(class(b"weights"), None);
    }

    #[test]
    fn a_name_that_cannot_work_is_refused() {
        assert!(parse("model = ['pt']\nstrip = []\nharmless = []\nprogram = []").is_err());
        assert!(parse("model = ['.pt']\nstrip = ['.verylongsuffix']\nharmless = []\nprogram = []").is_err());
        assert!(parse("model = ['.pt']\nstrip = []\nharmless = ['.verylongsuffix']\nprogram = []").is_err());
        assert!(parse("model = ['.pt']\nstrip = []\nharmless = []\nprogram = []\nother = []").is_err());
        // `.pt` stays a model.
        let parsed = parse("model = ['.pt']\nstrip = ['.PT']\nharmless = ['.pt']\nprogram = []");
        assert_eq!(parsed.unwrap(), [(key_of_name(b".pt"), suffix::MODEL)]);
    }
}
