//! 9xx: what was not read.

use super::Manual;

pub const MANUALS: &[Manual] = &[
    Manual {
        id: "SNS-901",
        title: "Limit reached",
        what: "A limit on size, depth, number or work ended the scan of a part; which one is in the evidence.",
        executes: "Not a statement about the file's effect.",
        abuse: "Payloads are put behind what a scanner is willing to read.",
        fix: "Raise the limit, or take the file as not scanned.",
        benign: "Very large files.",
        attack: &[],
        atlas: &[],
    },
    Manual {
        id: "SNS-903",
        title: "Unreadable or truncated",
        what: "Bytes that the file should have could not be read, or a stream ends early without having done anything.",
        executes: "Not a statement about the file's effect.",
        abuse: "None by itself.",
        fix: "Fetch the file again.",
        benign: "Downloads in progress.",
        attack: &[],
        atlas: &[],
    },
    Manual {
        id: "SNS-905",
        title: "Time used up",
        what: "The time for one file ended the scan.",
        executes: "Not a statement about the file's effect.",
        abuse: "Files are built to make scanning slow.",
        fix: "Raise the time, or take the file as not scanned.",
        benign: "A very large file on a slow disk.",
        attack: &[],
        atlas: &[],
    },
];
