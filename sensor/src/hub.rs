//! What a path in a model hub's cache says of the model.

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

#[cfg(test)]
mod tests {
    use super::*;

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
