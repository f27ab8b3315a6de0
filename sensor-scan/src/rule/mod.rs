//! What is known: the table of Python names, and the manual of every finding.

pub mod globals;

mod container;
mod coverage;
mod foreign;
mod framework;
mod identity;
mod pickle_meaning;
mod pickle_stream;
mod repository;

/// The manual page of a finding. Ids are permanent and never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manual {
    /// `SNS-` and three digits.
    pub id: &'static str,
    pub title: &'static str,
    /// What was seen.
    pub what: &'static str,
    /// Who executes it.
    pub executes: &'static str,
    /// How it is abused.
    pub abuse: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// When it is no attack; severity is per occurrence and takes this into account.
    pub benign: &'static str,
    /// Techniques of MITRE ATT&CK.
    pub attack: &'static [&'static str],
    /// Techniques of MITRE ATLAS.
    pub atlas: &'static [&'static str],
}

/// All manual pages, by id.
pub fn all() -> impl Iterator<Item = &'static Manual> {
    [
        pickle_meaning::MANUALS,
        pickle_stream::MANUALS,
        container::MANUALS,
        framework::MANUALS,
        repository::MANUALS,
        foreign::MANUALS,
        identity::MANUALS,
        coverage::MANUALS,
    ]
    .into_iter()
    .flatten()
}

/// The manual page of one finding.
pub fn manual(id: &str) -> Option<&'static Manual> {
    all().find(|manual| manual.id == id)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    #[test]
    fn ids_are_unique_in_order_and_pages_complete() {
        let ids: Vec<&str> = all().map(|manual| manual.id).collect();
        let mut sorted = ids.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(ids, sorted);
        for manual in all() {
            for text in [manual.title, manual.what, manual.executes, manual.abuse, manual.fix, manual.benign] {
                assert!(text.len() > 4 && text.trim() == text, "{}: {text:?}", manual.id);
            }
            assert!(manual.attack.iter().all(|id| id.starts_with('T')), "{}", manual.id);
            assert!(manual.atlas.iter().all(|id| id.starts_with("AML.T")), "{}", manual.id);
        }
        assert_eq!(manual("SNS-101").map(|manual| manual.id), Some("SNS-101"));
        assert_eq!(manual("SNS-000"), None);
    }

    /// Ids that the sources of the pickle machine and its context write.
    fn written(path: &Path, ids: &mut BTreeSet<String>) {
        if path.is_dir() {
            for entry in std::fs::read_dir(path).unwrap() {
                written(&entry.unwrap().path(), ids);
            }
        } else {
            let text = std::fs::read_to_string(path).unwrap();
            for (at, _) in text.match_indices("\"SNS-") {
                let id = &text[at + 1..at + 8];
                if id.bytes().skip(4).all(|byte| byte.is_ascii_digit()) {
                    ids.insert(id.to_owned());
                }
            }
        }
    }

    #[test]
    fn every_finding_has_a_page() {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut ids = BTreeSet::new();
        written(&source.join("format"), &mut ids);
        written(&source.join("context.rs"), &mut ids);
        assert!(ids.len() > 15);
        for id in ids {
            assert!(manual(&id).is_some(), "{id} has no page");
        }
    }
}
