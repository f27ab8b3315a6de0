//! 6xx: native code, and formats of other languages.

use super::Manual;

pub const MANUALS: &[Manual] = &[
    Manual {
        id: "SNS-601",
        title: "Native code",
        what: "The file is native code, or an engine that holds some.",
        executes: "The operating system's loader, TensorRT, and other runtimes that load libraries.",
        abuse: "Native code runs with all rights of the process; nothing here can say what it does.",
        fix: "Build it from source that you trust, or do not load it.",
        benign: "Engines and libraries are what some runtimes are fed.",
        attack: &["T1129", "T1204.002"],
        atlas: &["AML.T0011.000"],
    },
    Manual {
        id: "SNS-602",
        title: "Program and archive in one",
        what: "A program for several systems whose start is also a shell script (llamafile, APE).",
        executes: "The shell, or the operating system's loader, when the file is started.",
        abuse: "The script at the start does something else than start the program.",
        fix: "Take the weights out of it (`unzip`), or run it where it can do no harm.",
        benign: "That is how llamafiles work.",
        attack: &["T1204.002", "T1059.004"],
        atlas: &["AML.T0011.000"],
    },
    Manual {
        id: "SNS-624",
        title: "Custom operator of another framework",
        what: "The model names an operator that calls code of the host: a Python operator, a native function of the user's.",
        executes: "The framework: MXNet, Paddle, CNTK, Caffe, Torch7.",
        abuse: "The model comes with the code, or names code that the host has.",
        fix: "Find out what the operator does; ask for a model without it.",
        benign: "Research code.",
        attack: &["T1059.006"],
        atlas: &["AML.T0018.002"],
    },
];
