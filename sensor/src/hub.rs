//! What a path in a model hub's cache says of the model.

use sensor_abi::name::{HUB_FOLDER_BYTES, HubFolder, hub_folder};

/// Repository and revision as the layout of a hub cache shows them:
/// `…/models--ORG--NAME/snapshots/REVISION/…`, or `…/models--ORG--NAME/blobs/…` (no revision). A path is a claim of
/// whoever wrote it, not a proof.
pub fn identity(path: &[u8]) -> Option<(String, Option<String>)> {
    let mut components = path.split(|byte| *byte == b'/');
    let folder = components.by_ref().find_map(|component| component.strip_prefix(b"models--"))?;
    let repo = String::from_utf8(folder.to_vec()).ok().filter(|repo| !repo.is_empty())?.replacen("--", "/", 1);
    let revision = match components.next() {
        Some(b"snapshots") => components
            .next()
            .filter(|revision| !revision.is_empty())
            .and_then(|revision| String::from_utf8(revision.to_vec()).ok()),
        Some(b"blobs") => None,
        _ => return None,
    };
    Some((repo, revision))
}

/// Is it a program that a hub's model brought along, in one of the folders where they are kept? The kernel asks the same
/// of what Python opens.
pub fn is_code(path: &[u8]) -> bool {
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
                let words = std::array::from_fn(|i| {
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
            assert!(is_code(path.as_bytes()), "{path}");
        }
        for path in [
            "/usr/lib/python3/dist-packages/torch/hub.py",
            "/usr/lib/python3/dist-packages/torch/utils/hub/x.py",
            "/x/hub/torch/x.py",
            "/x/hub/x.py",
            "/x/transformers_modules/org/config.json",
            "transformers_modules.py",
        ] {
            assert!(!is_code(path.as_bytes()), "{path}");
        }
    }

    #[test]
    fn a_path_in_the_cache_names_its_repository() {
        let of = |path: &str| identity(path.as_bytes());
        assert_eq!(
            of("/root/.cache/huggingface/hub/models--org--name/snapshots/abc123/model.bin"),
            Some(("org/name".into(), Some("abc123".into())))
        );
        assert_eq!(of("/c/models--bert-base/blobs/0f"), Some(("bert-base".into(), None)));
        assert_eq!(of("/c/models--org--na--me/blobs/0f"), Some(("org/na--me".into(), None)));
        assert_eq!(of("/c/models--org--name/x"), None);
        assert_eq!(of("/c/models--/blobs/x"), None);
        assert_eq!(of("/c/model.bin"), None);
    }
}
