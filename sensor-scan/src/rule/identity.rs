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
    Manual {
        id: "SNS-704",
        title: "Name of a repository that imitates another",
        what: "The repository's owner reads like a well-known one, or is one letter from it, or somebody else's model \
               has a well-known model's name.",
        executes: "Nobody: it is about whom you trust.",
        abuse: "A typing error or a glance at a list loads the attacker's model.",
        fix: "Compare the owner letter by letter with the one you meant; pin what you use (`sensor pin`).",
        benign: "Copies, conversions and quantisations by other owners keep the model's name.",
        attack: &["T1036.005"],
        atlas: &["AML.T0010.003"],
    },
    Manual {
        id: "SNS-705",
        title: "A safetensors file beside a pickle",
        what: "The folder holds the same weights as safetensors, which cannot run code.",
        executes: "Loaders that prefer the pickle, or are told to.",
        abuse: "None by itself.",
        fix: "Load the safetensors file, and delete the pickle.",
        benign: "Repositories that keep both for older versions of libraries.",
        attack: &[],
        atlas: &[],
    },
];
