//! From the paths of the command line to the files that are examined: directories walked, links judged.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Component, Path, PathBuf};

/// One thing to examine, or the reason why it isn't.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    Stdin,
    File {
        path: PathBuf,
        /// Named by the caller, not found in a directory: always listed.
        named: bool,
    },
    /// Left out, which makes the run incomplete.
    Skipped {
        path: PathBuf,
        why: String,
    },
    /// Named by the caller, and not there or not readable.
    Failed {
        path: PathBuf,
        why: String,
    },
}

/// Walks `paths` in the order given, directories in the order of their names.
pub fn targets(paths: &[PathBuf]) -> Vec<Target> {
    let mut targets = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            targets.push(Target::Stdin);
            continue;
        }
        match std::fs::metadata(path) {
            Err(error) => targets.push(Target::Failed { path: path.clone(), why: error.to_string() }),
            Ok(found) if found.is_dir() => match std::fs::canonicalize(path) {
                Ok(root) => Walk { root, targets: &mut targets }.directory(path),
                Err(error) => targets.push(Target::Failed { path: path.clone(), why: error.to_string() }),
            },
            Ok(_) => targets.push(Target::File { path: path.clone(), named: true }),
        }
    }
    targets
}

struct Walk<'a> {
    /// The directory that was given, without links.
    root: PathBuf,
    targets: &'a mut Vec<Target>,
}

impl Walk<'_> {
    fn directory(&mut self, top: &Path) {
        // A stack of its own: directories may be nested deeper than a thread's stack is.
        let mut stack = vec![(top.to_owned(), true)];
        while let Some((path, is_directory)) = stack.pop() {
            if !is_directory {
                self.entry(path);
                continue;
            }
            match entries(&path) {
                Ok(mut entries) => {
                    entries.sort_unstable_by(|a, b| b.0.cmp(&a.0));
                    stack.append(&mut entries);
                }
                Err(error) => {
                    self.targets.push(Target::Skipped { path, why: format!("directory can't be read: {error}") });
                }
            }
        }
    }

    fn entry(&mut self, path: PathBuf) {
        let kind = match std::fs::symlink_metadata(&path) {
            Ok(found) => found.file_type(),
            Err(error) => {
                self.targets.push(Target::Skipped { path, why: error.to_string() });
                return;
            }
        };
        if kind.is_symlink() {
            self.link(path);
        } else if kind.is_file() {
            self.targets.push(Target::File { path, named: false });
        } else if sensor_scan::is_model_name(path.file_name().unwrap_or_default().as_bytes()) {
            let what = match () {
                () if kind.is_fifo() => "a FIFO",
                () if kind.is_socket() => "a socket",
                () => "a device",
            };
            self.targets.push(Target::Skipped { path, why: format!("it is {what}") });
        }
    }

    fn link(&mut self, path: PathBuf) {
        let target = match std::fs::canonicalize(&path) {
            Ok(target) => target,
            Err(error) => {
                self.targets.push(Target::Skipped { path, why: format!("link can't be followed: {error}") });
                return;
            }
        };
        let inside = target.starts_with(&self.root);
        if !inside && !same_hub_cache(&path, &target) {
            self.targets.push(Target::Skipped { path, why: "link leads out of the given directory".to_owned() });
        } else if target.is_dir() {
            if !inside {
                self.targets.push(Target::Skipped { path, why: "link to a directory elsewhere".to_owned() });
            } // else: the directory itself is walked
        } else {
            self.targets.push(Target::File { path, named: false });
        }
    }
}

fn entries(directory: &Path) -> std::io::Result<Vec<(PathBuf, bool)>> {
    std::fs::read_dir(directory)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.path(), entry.file_type().is_ok_and(|kind| kind.is_dir())))
        })
        .collect()
}

/// The Hugging Face hub's cache: `models--x--y/snapshots/<revision>/file` links to `models--x--y/blobs/<hash>`.
pub fn same_hub_cache(link: &Path, target: &Path) -> bool {
    let Some(folder) = link.parent().and_then(|parent| std::fs::canonicalize(parent).ok()) else { return false };
    let repository = folder.ancestors().find(|ancestor| is_repository(ancestor.file_name().unwrap_or_default()));
    repository.is_some_and(|repository| {
        target.strip_prefix(repository.join("blobs")).is_ok_and(|rest| {
            let mut parts = rest.components();
            matches!((parts.next(), parts.next()), (Some(Component::Normal(_)), None))
        })
    })
}

fn is_repository(name: &OsStr) -> bool {
    ["models--", "datasets--", "spaces--"].iter().any(|prefix| name.as_bytes().starts_with(prefix.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn walked(folder: &Path) -> Vec<(String, bool)> {
        let relative = |path: &Path| path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
        targets(&[folder.to_owned()])
            .iter()
            .map(|target| match target {
                Target::File { path, .. } => (relative(path), true),
                Target::Skipped { path, .. } | Target::Failed { path, .. } => (relative(path), false),
                Target::Stdin => unreachable!(),
            })
            .collect()
    }

    #[test]
    fn directories_are_walked_in_order_and_links_are_judged() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("x.pt"), "x").unwrap();
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(at("b/c")).unwrap();
        std::fs::write(at("b/c/1.pt"), "x").unwrap();
        std::fs::write(at("a.pt"), "x").unwrap();
        symlink(at("b/c/1.pt"), at("inside.pt")).unwrap();
        symlink(outside.path().join("x.pt"), at("outside.pt")).unwrap();
        symlink(outside.path(), at("elsewhere")).unwrap();
        symlink(at("b"), at("loop")).unwrap();
        symlink(at("nothing"), at("dangling.pt")).unwrap();
        let expected = [
            ("a.pt", true),
            ("b/c/1.pt", true),
            ("dangling.pt", false),
            ("elsewhere", false),
            ("inside.pt", true),
            ("outside.pt", false),
        ];
        let expected: Vec<(String, bool)> = expected.map(|(name, read)| (name.to_owned(), read)).to_vec();
        assert_eq!(walked(folder.path()), expected);
    }

    #[test]
    fn links_of_a_hub_cache_are_followed_though_they_leave_the_snapshot() {
        let cache = tempfile::tempdir().unwrap();
        let repository = cache.path().join("models--a--b");
        let snapshot = repository.join("snapshots/0123");
        std::fs::create_dir_all(&snapshot).unwrap();
        std::fs::create_dir_all(repository.join("blobs")).unwrap();
        std::fs::write(repository.join("blobs/feed"), "x").unwrap();
        std::fs::write(cache.path().join("other"), "x").unwrap();
        symlink("../../blobs/feed", snapshot.join("model.safetensors")).unwrap();
        symlink("../../../other", snapshot.join("model.bin")).unwrap();
        let expected = vec![("model.bin".to_owned(), false), ("model.safetensors".to_owned(), true)];
        assert_eq!(walked(&snapshot), expected);
    }
}
