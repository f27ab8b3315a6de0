//! What fuzzing found worth keeping, through the readers it was found with: small files that together reach what a long
//! run reached, and every file that once broke one.

#[path = "../fuzz/readers.rs"]
mod readers;

use std::fs;
use std::path::{Path, PathBuf};

/// All seeds together: they are kept in the repository.
const SEED_BYTES_MAX: u64 = 300 << 10;

fn entries(folder: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(folder);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.expect("a folder's entry").path()).collect();
    paths.sort();
    paths
}

fn stem(path: &Path) -> String {
    path.file_stem().and_then(|name| name.to_str()).expect("a name").to_owned()
}

#[test]
fn every_target_has_seeds_and_its_reader_takes_them() {
    let targets: Vec<String> = entries("fuzz_targets").iter().map(|path| stem(path)).collect();
    let folders: Vec<String> = entries("seeds").iter().map(|path| stem(path)).collect();
    assert_eq!(targets, folders, "a target without seeds, or seeds without a target");
    let mut total = 0;
    for target in targets {
        let seeds = entries(&format!("seeds/{target}"));
        assert!(!seeds.is_empty(), "{target} has no seed");
        for seed in seeds {
            let bytes = fs::read(&seed).expect("a file");
            total += bytes.len() as u64;
            println!("{}", seed.display()); // shown where the reader panics
            readers::run(&target, &bytes);
        }
    }
    assert!(total <= SEED_BYTES_MAX, "{total} bytes of seeds: minimise them");
}
