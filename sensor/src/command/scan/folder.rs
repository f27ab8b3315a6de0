//! A file in its folder: the scanner may look at the files beside it, and at nothing else.

use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use sensor_abi::name::is_hub_code;
use sensor_scan::Source;
use sensor_scan::source::{FileSource, Sibling, parts_below};

use crate::{open, walk};

pub struct InFolder {
    file: FileSource,
    /// Without links; `None` where that can't be found out.
    folder: Option<PathBuf>,
}

impl InFolder {
    pub fn new(file: FileSource, path: &Path) -> Self {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Self { file, folder: std::fs::canonicalize(folder).ok() }
    }
}

impl Source for InFolder {
    fn len(&self) -> u64 {
        self.file.len()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, buffer)
    }

    fn name(&self) -> &[u8] {
        self.file.name()
    }

    fn is_models_code(&self) -> bool {
        let Some(folder) = &self.folder else { return false };
        let path = [folder.as_os_str().as_bytes(), b"/", self.name()].concat();
        // torch.hub keeps whole repositories, with scripts and tests that no load imports.
        is_hub_code(&path) && !path.windows(11).any(|part| part == b"/torch/hub/")
    }

    fn sibling(&self, path: &str) -> Sibling {
        let (Some(folder), Some(parts)) = (&self.folder, parts_below(path)) else { return Sibling::Unknown };
        let path: PathBuf = std::iter::once(folder.as_os_str()).chain(parts.iter().map(AsRef::as_ref)).collect();
        let target = match std::fs::canonicalize(&path) {
            Ok(target) => target,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Sibling::Missing,
            Err(_) => return Sibling::Unknown,
        };
        if !target.starts_with(folder) && !walk::same_hub_cache(&path, &target) {
            return Sibling::Unknown;
        }
        let name = path.file_name().unwrap_or_default().as_bytes().to_vec();
        match open::regular(&path).ok().and_then(|file| FileSource::new(file, name).ok()) {
            Some(file) => Sibling::Here(Box::new(Self::new(file, &path))),
            None => Sibling::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn at(path: &Path) -> InFolder {
        InFolder::new(FileSource::new(std::fs::File::open(path).unwrap(), b"x").unwrap(), path)
    }

    #[test]
    fn code_of_models_is_known_by_where_it_lies() {
        let root = tempfile::tempdir().unwrap();
        for (folder, is) in [("transformers_modules/a/b", true), ("torch/hub/a_b_main", false), ("src", false)] {
            let path = root.path().join(folder).join("util.py");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "x").unwrap();
            let file = FileSource::new(std::fs::File::open(&path).unwrap(), b"util.py").unwrap();
            assert_eq!(InFolder::new(file, &path).is_models_code(), is, "{folder}");
        }
    }

    #[test]
    fn siblings_are_those_below_the_folder_and_of_the_hub_cache() {
        let root = tempfile::tempdir().unwrap();
        let repository = root.path().join("models--a--b");
        let snapshot = repository.join("snapshots/1");
        std::fs::create_dir_all(snapshot.join("unet")).unwrap();
        std::fs::create_dir_all(repository.join("blobs")).unwrap();
        for path in [
            snapshot.join("config.json"),
            snapshot.join("unet/a.py"),
            repository.join("blobs/feed"),
            root.path().join("b.py"),
        ] {
            std::fs::write(path, "x").unwrap();
        }
        symlink("../../blobs/feed", snapshot.join("m.py")).unwrap();
        symlink("../../../b.py", snapshot.join("out.py")).unwrap();
        let file = at(&snapshot.join("config.json"));
        for path in ["unet/a.py", "m.py", "./unet//a.py"] {
            assert!(matches!(file.sibling(path), Sibling::Here(_)), "{path}");
        }
        assert!(matches!(file.sibling("none.py"), Sibling::Missing));
        for path in ["../../../b.py", "/etc/passwd", "out.py", "unet", "unet/../../x", ""] {
            assert!(!matches!(file.sibling(path), Sibling::Here(_)), "{path}");
        }
    }
}
