//! 7xx: is it the file that it claims to be?

use super::Manual;

pub const MANUALS: &[Manual] = &[
    Manual {
        id: "SNS-701",
        title: "Content is not what the name says",
        what: "The format of the content is another one than the name claims.",
        executes: "Loaders that look at the content.",
        abuse: "Scanners and people that go by names skip the file.",
        fix: "Rename it, and find out who named it.",
        benign: "Generic suffixes are used for everything, and are not reported.",
        attack: &["T1036.008"],
        atlas: &["AML.T0074"],
    },
    Manual {
        id: "SNS-702",
        title: "Git LFS pointer",
        what: "The file is a pointer to the model, which was not fetched.",
        executes: "Nobody.",
        abuse: "None by itself: but nothing was scanned.",
        fix: "Fetch the file (`git lfs pull`) and scan again.",
        benign: "A clone without LFS.",
        attack: &[],
        atlas: &[],
    },
    Manual {
        id: "SNS-703",
        title: "Part of a split model is missing",
        what: "The index names a file that is not in the repository.",
        executes: "Nobody.",
        abuse: "None by itself: but that part was not scanned.",
        fix: "Fetch the whole repository and scan again.",
        benign: "A download that was not finished.",
        attack: &[],
        atlas: &[],
    },
];
