//! Does a repository's name imitate a well-known one? Edit distance, characters that look alike, owners that were
//! swapped, and a safetensors file beside a pickle of the same weights.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Deserialize;

/// Largest list, bytes.
pub const LIST_BYTES_MAX: u64 = 4 << 20;
/// Shorter names are one edit away from too much.
const EDIT_CHARS_MIN: usize = 5;
/// Names longer than this are nobody's.
const NAME_CHARS_MAX: usize = 128;

/// The names that are imitated.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WellKnown {
    owners: Vec<String>,
    models: Vec<String>,
}

/// How a name imitates another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Imitation {
    /// What is imitated.
    pub of: String,
    pub how: How,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// The owner reads the same to a person and isn't.
    LooksTheSame,
    /// One letter of the owner is another one, and the model is one that the owner is known for.
    OneEditAndKnownModel,
    /// One letter of the owner is another one.
    OneEdit,
    /// A well-known model's exact name under an owner nobody knows.
    OtherOwner,
}

impl How {
    pub fn phrase(self) -> &'static str {
        match self {
            Self::LooksTheSame => "reads like the owner",
            Self::OneEditAndKnownModel => "is one letter from the owner, and has the name of a well-known model",
            Self::OneEdit => "is one letter from the owner",
            Self::OtherOwner => "has the name of a well-known model, by an owner that is not well known:",
        }
    }
}

impl WellKnown {
    /// The list that the program carries.
    pub fn embedded() -> Self {
        // Held by a test.
        Self::parse(include_str!("../../rules/well-known.toml"))
            .unwrap_or(Self { owners: Vec::new(), models: Vec::new() })
    }

    /// # Errors
    /// What is wrong, with line and column.
    pub fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())
    }

    /// Judges `owner/name`.
    pub fn imitation(&self, repo: &str) -> Option<Imitation> {
        let (owner, name) = repo.split_once('/')?;
        if owner.is_empty() || owner.chars().count() > NAME_CHARS_MAX || name.chars().count() > NAME_CHARS_MAX {
            return None;
        }
        if self.owners.iter().any(|known| known.eq_ignore_ascii_case(owner)) {
            return None;
        }
        let known_model = self.models.iter().find(|model| model.eq_ignore_ascii_case(name));
        let shape = skeleton(owner);
        if let Some(known) = self.owners.iter().find(|known| skeleton(known) == shape) {
            return Some(Imitation { of: known.clone(), how: How::LooksTheSame });
        }
        let folded: Vec<char> = owner.to_lowercase().chars().collect();
        let near = self.owners.iter().find(|known| {
            let known: Vec<char> = known.to_lowercase().chars().collect();
            known.len() >= EDIT_CHARS_MIN && is_one_edit(&folded, &known)
        });
        if let Some(known) = near {
            let how = if known_model.is_some() { How::OneEditAndKnownModel } else { How::OneEdit };
            return Some(Imitation { of: known.clone(), how });
        }
        known_model.map(|model| Imitation { of: model.clone(), how: How::OtherOwner })
    }
}

/// What a name looks like at a glance: case and separators gone, confusable characters as one (a small part of Unicode
/// TR 39: what hubs let through in names, and what a path can hold).
fn skeleton(name: &str) -> String {
    let mut text = String::new();
    for character in name.chars().flat_map(char::to_lowercase) {
        let plain = match character {
            '-' | '_' | '.' | ' ' | '\u{2010}'..='\u{2015}' => continue,
            '0' | 'о' | 'ο' | 'օ' => 'o',
            '1' | 'l' | 'i' | '|' | 'і' | 'ı' | 'ӏ' | 'ι' | 'ⅰ' => 'l',
            'а' | 'α' | 'ɑ' => 'a',
            'е' | 'ё' | 'ε' => 'e',
            'с' | 'ϲ' => 'c',
            'р' | 'ρ' => 'p',
            'х' | 'χ' => 'x',
            'у' | 'γ' => 'y',
            'ѕ' | '5' => 's',
            'ԁ' => 'd',
            'һ' => 'h',
            'ԛ' => 'q',
            'ԝ' => 'w',
            'ν' | 'ѵ' => 'v',
            'к' | 'κ' => 'k',
            'м' => 'm',
            'т' | 'τ' => 't',
            'ո' | 'η' => 'n',
            'ց' => 'g',
            other => other,
        };
        text.push(plain);
    }
    text.replace("rn", "m").replace("vv", "w")
}

/// One insertion, deletion, substitution, or two neighbours swapped.
fn is_one_edit(a: &[char], b: &[char]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    if long.len() - short.len() > 1 || short == long {
        return false;
    }
    let same = short.iter().zip(long).take_while(|(x, y)| x == y).count();
    let (short_rest, long_rest) = (&short[same..], &long[same..]);
    if short.len() < long.len() {
        return short_rest == &long_rest[1..];
    }
    let swapped = short_rest.len() > 1
        && short_rest[0] == long_rest[1]
        && short_rest[1] == long_rest[0]
        && short_rest[2..] == long_rest[2..];
    swapped || short_rest[1..] == long_rest[1..]
}

/// A file beside a pickle that holds the same weights and can't run code: `model.safetensors` for `pytorch_model.bin`,
/// or the same name with the suffix changed.
pub fn safetensors_twin(path: &Path) -> Option<String> {
    let stem = path.file_stem()?.to_str()?;
    let suffix = path.extension()?.to_str()?.to_ascii_lowercase();
    if !["bin", "pt", "pth", "ckpt", "pkl"].contains(&suffix.as_str()) {
        return None;
    }
    let mut names = BTreeSet::from([format!("{stem}.safetensors")]);
    if let Some(rest) = stem.strip_prefix("pytorch_model") {
        names.insert(format!("model{rest}.safetensors"));
    }
    if let Some(rest) = stem.strip_prefix("diffusion_pytorch_model") {
        names.insert(format!("diffusion_pytorch_model{rest}.safetensors"));
    }
    let folder = path.parent()?;
    names.into_iter().find(|name| std::fs::symlink_metadata(folder.join(name)).is_ok_and(|found| !found.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(repo: &str) -> Option<How> {
        WellKnown::embedded().imitation(repo).map(|imitation| imitation.how)
    }

    #[test]
    fn the_embedded_list_is_read() {
        let list = WellKnown::parse(include_str!("../../rules/well-known.toml")).unwrap();
        assert!(list.owners.len() > 40 && list.models.len() > 20);
        // No two owners imitate each other: each is known, so each is fine.
        assert!(list.owners.iter().all(|owner| list.imitation(&format!("{owner}/x")).is_none()));
    }

    #[test]
    fn imitations_are_found() {
        for repo in ["meta-Ilama/Llama-3.1-8B-Instruct", "meta_llama/x", "rnistralai/x", "mistra1ai/x", "оpenai/x"] {
            assert_eq!(how(repo), Some(How::LooksTheSame), "{repo}");
        }
        for (repo, expected) in [
            ("mistrallai/Mixtral-8x7B-Instruct-v0.1", How::OneEditAndKnownModel),
            ("goolge/x", How::OneEdit),
            ("nvida/x", How::OneEdit),
            ("somebody/Llama-3.1-8B-Instruct", How::OtherOwner),
        ] {
            assert_eq!(how(repo), Some(expected), "{repo}");
        }
    }

    #[test]
    fn ordinary_names_are_left_alone() {
        for repo in
            ["google/x", "Google/gemma-2-9b-it", "acme/our-model", "qwerty/x", "meta/x", "noslash", "a/b/c", "/x"]
        {
            assert_eq!(how(repo), None, "{repo}");
        }
    }

    #[test]
    fn a_twin_is_a_file_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::write(at("model-00001-of-00002.safetensors"), "").unwrap();
        std::fs::write(at("x.safetensors"), "").unwrap();
        let twin = |name: &str| safetensors_twin(&at(name));
        assert_eq!(twin("pytorch_model-00001-of-00002.bin").as_deref(), Some("model-00001-of-00002.safetensors"));
        assert_eq!(twin("x.pt").as_deref(), Some("x.safetensors"));
        assert_eq!(twin("y.pt"), None);
        assert_eq!(twin("x.npy"), None);
    }
}
