//! 4xx and 5xx: what frameworks and consumers do with content that is no pickle.

use super::Manual;

pub const MANUALS: &[Manual] = &[
    Manual {
        id: "SNS-402",
        title: "TorchScript source that torch never writes",
        what: "The source in `code/` has an import statement.",
        executes: "torch.jit.load parses it; Python that opens it as source executes it.",
        abuse: "Source is put into the archive by hand.",
        fix: "Export the model anew.",
        benign: "None known.",
        attack: &["T1059.006"],
        atlas: &["AML.T0018.002"],
    },
    Manual {
        id: "SNS-403",
        title: "Torch package with source",
        what: "The archive holds Python source that its importer executes.",
        executes: "torch.package.PackageImporter, not torch.load.",
        abuse: "Any code, at import.",
        fix: "Review the source as code, or ship weights only.",
        benign: "That is what torch.package is for.",
        attack: &["T1059.006"],
        atlas: &["AML.T0018.002"],
    },
    Manual {
        id: "SNS-491",
        title: "Malformed safetensors file",
        what: "The header lies about tensors or sizes, or says more than the format knows.",
        executes: "Readers other than the reference one may read out of bounds.",
        abuse: "Parser errors, and data hidden between tensors.",
        fix: "Save the file anew with the reference library.",
        benign: "Interrupted writes.",
        attack: &["T1036"],
        atlas: &["AML.T0076"],
    },
    Manual {
        id: "SNS-521",
        title: "Code or a callable in metadata",
        what: "A text of the metadata is Python code, or names a callable to be instantiated.",
        executes: "Consumers that evaluate metadata or hand it to hydra.utils.instantiate.",
        abuse: "Formats that cannot run code carry it to code that does.",
        fix: "Do not evaluate metadata; judge the target as code.",
        benign: "Configurations of frameworks that instantiate their own classes.",
        attack: &["T1059.006"],
        atlas: &["AML.T0018.002"],
    },
];
