//! What operators touch, and how bad it is by where the operand comes from.

use super::graph::{Graph, Node};
use super::origin::{Finder, Origin, STEPS_TOTAL_MAX, data_inputs, texts};
use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::format::text;

/// What an operator does with a path or an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Act {
    /// Calls Python of the process that registered it.
    Python,
    /// Writes a file whoever gives the path.
    Write,
    /// Writes a checkpoint, a log, a cache: ordinary with a path that the caller gives.
    Save,
    /// Reads or lists files.
    Read,
    /// Reads a checkpoint or a table: ordinary with a path that the caller or the loader gives.
    Restore,
    /// Talks to an address.
    Connect,
    /// Runs native code that is not TensorFlow's own.
    Native,
}

/// Operators that take a path or an address: name, what they do, index of the operand.
const OPERANDS: &[(&str, Act, usize)] = &[
    ("WriteFile", Act::Write, 0),
    ("ReadFile", Act::Read, 0),
    ("MatchingFiles", Act::Read, 0),
    ("MatchingFilesDataset", Act::Read, 0),
    ("Save", Act::Save, 0),
    ("SaveSlices", Act::Save, 0),
    ("SaveV2", Act::Save, 0),
    ("MergeV2Checkpoints", Act::Save, 1),
    ("MergeV2Checkpoints", Act::Restore, 0),
    ("DistributedSave", Act::Save, 1),
    ("SaveDataset", Act::Save, 1),
    ("SaveDatasetV2", Act::Save, 1),
    ("DatasetToTFRecord", Act::Save, 1),
    ("ExperimentalDatasetToTFRecord", Act::Save, 1),
    ("CacheDataset", Act::Save, 1),
    ("CacheDatasetV2", Act::Save, 1),
    ("SnapshotDataset", Act::Save, 1),
    ("SnapshotDatasetV2", Act::Save, 1),
    ("SnapshotDatasetReader", Act::Restore, 0),
    ("CreateSummaryFileWriter", Act::Save, 1),
    ("CreateSummaryDbWriter", Act::Save, 1),
    ("ImportEvent", Act::Save, 1),
    ("Restore", Act::Restore, 0),
    ("RestoreSlice", Act::Restore, 0),
    ("RestoreV2", Act::Restore, 0),
    ("LoadDataset", Act::Restore, 0),
    ("ListDataset", Act::Restore, 99),
    ("LoadAndRemapMatrix", Act::Restore, 0),
    ("GenerateVocabRemapping", Act::Restore, 0),
    ("InitializeTableFromTextFile", Act::Restore, 1),
    ("InitializeTableFromTextFileV2", Act::Restore, 1),
    ("InitializeTableFromDataset", Act::Restore, 99),
    ("TextLineDataset", Act::Read, 0),
    ("FixedLengthRecordDataset", Act::Read, 0),
    ("FixedLengthRecordDatasetV2", Act::Read, 0),
    ("TFRecordDataset", Act::Read, 0),
    ("TFRecordDatasetV2", Act::Read, 0),
    ("CSVDataset", Act::Read, 0),
    ("CSVDatasetV2", Act::Read, 0),
    ("ExperimentalCSVDataset", Act::Read, 0),
    ("LMDBDataset", Act::Read, 0),
    ("ExperimentalLMDBDataset", Act::Read, 0),
    ("SqlDataset", Act::Read, 1),
    ("ExperimentalSqlDataset", Act::Read, 1),
    ("ReaderReadV2", Act::Restore, 99),
    ("DecodeVideo", Act::Restore, 99),
    ("DataServiceDataset", Act::Connect, 2),
    ("DataServiceDatasetV2", Act::Connect, 2),
    ("DataServiceDatasetV3", Act::Connect, 2),
    ("DataServiceDatasetV4", Act::Connect, 2),
    ("RegisterDataset", Act::Connect, 1),
    ("RegisterDatasetV2", Act::Connect, 1),
    ("Rpc", Act::Connect, 0),
    ("TryRpc", Act::Connect, 0),
    ("RpcClient", Act::Connect, 0),
    ("RpcServer", Act::Connect, 0),
    ("GcsConfigureCredentials", Act::Connect, 0),
    ("GcsConfigureBlockCache", Act::Connect, 0),
    ("FileSystemSetConfiguration", Act::Connect, 0),
    ("KafkaDataset", Act::Connect, 1),
    ("KinesisDataset", Act::Connect, 0),
    ("ZMQDataset", Act::Connect, 0),
    ("PubSubDataset", Act::Connect, 0),
    ("BigQueryReader", Act::Connect, 99),
    ("PyFunc", Act::Python, 99),
    ("PyFuncStateless", Act::Python, 99),
    ("EagerPyFunc", Act::Python, 99),
    ("_EagerPyFunc", Act::Python, 99),
    ("RemoteFusedGraphExecute", Act::Native, 99),
    ("XlaCustomCall", Act::Native, 99),
    ("XlaCustomCallV2", Act::Native, 99),
    ("_XlaHostComputeMlir", Act::Native, 99),
];
/// Operators with a path or an address in an attribute.
const ATTRIBUTES: &[(&str, Act, &str)] = &[
    ("PrintV2", Act::Write, "output_stream"),
    ("DebugIdentity", Act::Write, "debug_urls"),
    ("DebugIdentityV2", Act::Write, "debug_urls"),
    ("DebugIdentityV3", Act::Write, "debug_urls"),
    ("DebugNanCount", Act::Write, "debug_urls"),
    ("DebugNumericSummary", Act::Write, "debug_urls"),
    ("DebugNumericSummaryV2", Act::Write, "debug_urls"),
    ("DebugGradientIdentity", Act::Write, "debug_urls"),
    ("DebugGradientRefIdentity", Act::Write, "debug_urls"),
    ("Copy", Act::Write, "debug_ops_spec"),
    ("CopyHost", Act::Write, "debug_ops_spec"),
    ("RecordInput", Act::Read, "file_pattern"),
    ("DecodeProtoV2", Act::Read, "descriptor_source"),
    ("EncodeProto", Act::Read, "descriptor_source"),
    ("BigQueryReader", Act::Connect, "test_end_point"),
    ("CollectiveBcastSend", Act::Connect, "communication_hint"),
    ("TPUPartitionedCall", Act::Native, "none"),
];
/// Findings of one graph; the worst are kept by the sink.
const FOUND_MAX: usize = 10_000;

/// Whether an operator touches files, addresses or Python, whatever its operand.
pub fn acts(operator: &str) -> bool {
    OPERANDS.iter().any(|(name, ..)| *name == operator) || ATTRIBUTES.iter().any(|(name, ..)| *name == operator)
}

/// Finding and severity of an operator of which only the name is known; `place`: a path that leaves is in the file.
pub fn by_name(operator: &str, place: bool) -> Option<(&'static str, Severity)> {
    let act = OPERANDS.iter().find(|(name, ..)| *name == operator).map(|(_, act, _)| *act)?;
    Some(match act {
        Act::Python => ("SNS-441", Severity::High),
        Act::Write => ("SNS-442", Severity::High),
        Act::Read => ("SNS-443", if place { Severity::High } else { Severity::Medium }),
        Act::Save if place => ("SNS-442", Severity::High),
        Act::Restore if place => ("SNS-443", Severity::High),
        Act::Save | Act::Restore => return None,
        Act::Connect | Act::Native => ("SNS-444", Severity::Medium),
    })
}

pub fn judge(graph: &Graph, assets: &[String], member: Option<&[u8]>, context: &mut Context<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut finder = Finder::new(graph, assets);
    for (index, body) in graph.bodies.iter().enumerate() {
        for (number, node) in body.nodes.iter().enumerate() {
            if number.is_multiple_of(1024) && context.expired() || found.len() >= FOUND_MAX {
                return found;
            }
            for (_, act, operand) in OPERANDS.iter().filter(|(name, ..)| *name == node.operator) {
                let origin = finder.input(index, node, *operand);
                found.extend(judged(*act, node, &origin));
            }
            for (_, act, key) in ATTRIBUTES.iter().filter(|(name, ..)| *name == node.operator) {
                found.extend(texts(node, key).iter().filter_map(|value| attribute(*act, node, value)));
            }
            // tensorflow-io's operators: any text that is a place.
            if node.operator.starts_with("IO>") {
                for operand in 0..data_inputs(node).count().min(4) {
                    let origin = finder.input(index, node, operand);
                    if origin.constants.iter().any(|text| text::leaves(text).is_some()) {
                        found.extend(judged(Act::Read, node, &origin));
                    }
                }
            }
        }
    }
    if finder.is_exhausted() {
        context.limit_reached("graph_steps_max", STEPS_TOTAL_MAX as u64, member, None);
    }
    found
}

fn finding(act: Act, severity: Severity, node: &Node, place: Option<&str>) -> Finding {
    let (id, title) = match act {
        Act::Python => ("SNS-441", "calls Python of the process that loads the model"),
        Act::Write => ("SNS-442", "writes a file"),
        Act::Save => ("SNS-442", "writes a checkpoint, a cache or a log"),
        Act::Read => ("SNS-443", "reads or lists files"),
        Act::Restore => ("SNS-443", "reads a checkpoint or a table"),
        Act::Connect => ("SNS-444", "talks to an address"),
        Act::Native => ("SNS-444", "runs native code"),
    };
    let whose = if place.is_some() { ", at a place that the model itself names" } else { "" };
    let title = format!("the operator {} {title}{whose}", node.operator);
    let finding = Finding::new(id, severity, title).at(node.at).text("node", &node.name);
    let finding = finding.loaders(&["TensorFlow, when the function is called", "TensorFlow Serving"]);
    match place {
        Some(place) => finding.text("place", place),
        None => finding,
    }
}

fn judged(act: Act, node: &Node, origin: &Origin) -> Option<Finding> {
    // The worst of what it may be.
    let place = origin.constants.iter().max_by_key(|text| (text::leaves(text).is_some(), text.len()));
    if act == Act::Python {
        return Some(finding(act, Severity::High, node, None));
    }
    if act == Act::Native {
        return Some(finding(act, Severity::Medium, node, None));
    }
    let Some(place) = place.filter(|place| !place.is_empty()) else {
        // Nobody but the caller says where; some operators have no ordinary use in a model all the same.
        let severity = match act {
            Act::Write => Severity::High,
            Act::Read if matches!(node.operator.as_str(), "ReadFile" | "MatchingFiles" | "MatchingFilesDataset") => {
                Severity::Medium
            }
            Act::Connect => Severity::Medium,
            _ => return None,
        };
        return (!origin.asset).then(|| finding(act, severity, node, None));
    };
    let leaves = text::leaves(place).is_some();
    let severity = match act {
        Act::Write | Act::Connect => Severity::High,
        Act::Read => Severity::High,
        Act::Save | Act::Restore if leaves => Severity::High,
        // What savers wrote into graphs before there were placeholders with defaults.
        Act::Save | Act::Restore if is_default(place) => return None,
        Act::Save | Act::Restore => Severity::Medium,
        Act::Python | Act::Native => return None,
    };
    Some(finding(act, severity, node, Some(place)))
}

/// Names that TensorFlow itself gives where the caller gives none.
fn is_default(place: &str) -> bool {
    let name = place.rsplit('/').next().unwrap_or(place);
    matches!(name, "model" | "model.ckpt" | "checkpoint" | "ckpt" | "variables" | "part" | "")
        || name.starts_with("_temp") && name.len() < 64
}

fn attribute(act: Act, node: &Node, value: &str) -> Option<Finding> {
    let harmless = match node.operator.as_str() {
        "PrintV2" => !value.starts_with("file:"),
        "DecodeProtoV2" | "EncodeProto" => {
            value.is_empty() || value.starts_with("local://") || value.starts_with("bytes://")
        }
        "Copy" | "CopyHost" => !(value.contains("file://") || value.contains("grpc://")),
        "CollectiveBcastSend" => true,
        _ => value.is_empty() || value.starts_with("memcbk://"),
    };
    if harmless {
        return None;
    }
    let act = if value.contains("grpc://") { Act::Connect } else { act };
    let severity = if act == Act::Write || text::leaves(value).is_some() { Severity::High } else { Severity::Medium };
    Some(finding(act, severity, node, Some(value)))
}
