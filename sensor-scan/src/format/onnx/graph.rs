//! Graphs in graphs: nodes, attributes and tensors wherever the schema lets them stand.

use std::collections::{BTreeMap, BTreeSet};

use super::{TEXT_BYTES_MAX, external, judge_text, report};
use crate::context::{Context, Piece};
use crate::finding::Severity;
use crate::format::protobuf::Message;
use crate::format::{self, text};

/// Graphs in attributes of nodes in graphs.
const DEPTH_MAX: u32 = 64;
/// Domains that are kept.
const DOMAINS_MAX: usize = 1000;

/// Texts of one tensor that are looked at.
const TEXTS_MAX: usize = 1000;

/// Domains whose operators runtimes bring along.
const KNOWN_DOMAINS: &[&str] = &[
    "",
    "ai.onnx",
    "ai.onnx.ml",
    "ai.onnx.preview",
    "ai.onnx.preview.training",
    "ai.onnx.training",
    "com.microsoft",
    "com.microsoft.experimental",
    "com.microsoft.mlfeaturizers",
    "com.microsoft.nchwc",
    "com.ms.internal.nhwc",
    "org.pytorch.aten",
    "org.pytorch.ort",
    "ai.onnx.contrib",
    "com.nvidia",
    "trt.plugins",
    "mmdeploy",
    "mmcv",
    "org.openvinotoolkit",
    "ai.graphcore",
    "com.intel.ai",
    "com.xilinx",
    "com.amd",
    "com.qti.aisw",
    "local",
];
/// Trees of domains that exporters give to their own functions.
const KNOWN_TREES: &[&str] = &[
    "pkg.onnxscript",
    "pkg.torch",
    "pkg.transformers",
    "pkg.",
    "torch.nn",
    "com.microsoft.",
    "onnx.brevitas",
    "qonnx.custom_op",
    "finn.",
];

/// Raw data that start like something which a loader executes.
fn raw(data: Message<'_, '_>, member: Option<&[u8]>, context: &mut Context<'_>) {
    let head = data.window.bytes(data.start, data.end, 4);
    if !matches!(head[..], [0x80, 2..=5, ..]) && head != b"\x7fELF" {
        return;
    }
    let name = format::member(member, b"raw_data");
    let piece = Piece { source: data.window.source(), start: data.start, end: data.end, member: Some(name) };
    format::storage(&piece, context);
}

pub struct Walk<'m, 'c, 'l> {
    member: Option<&'m [u8]>,
    context: &'c mut Context<'l>,
    /// Domain of a node → operator and offset of the first one.
    used: BTreeMap<String, (String, u64)>,
    /// Domains that the model defines functions for.
    defined: BTreeSet<String>,
    steps: u64,
}

impl<'m, 'c, 'l> Walk<'m, 'c, 'l> {
    pub fn new(member: Option<&'m [u8]>, context: &'c mut Context<'l>) -> Self {
        Self { member, context, used: BTreeMap::new(), defined: BTreeSet::new(), steps: 0 }
    }

    /// The time is not up yet; asked at every node and tensor, looked up at some.
    fn goes_on(&mut self) -> bool {
        self.steps += 1;
        !self.steps.is_multiple_of(1024) || !self.context.expired()
    }

    pub fn text(&mut self, key: &str, value: Message<'_, '_>) {
        judge_text(key, &value.text(TEXT_BYTES_MAX), self.member, self.context);
    }

    /// A key and a value, both texts.
    pub fn metadata(&mut self, place: &str, entry: Message<'_, '_>) {
        let text_of = |number| entry.last(number).map(|text| text.text(TEXT_BYTES_MAX)).unwrap_or_default();
        judge_text(&format!("{place}.{}", text_of(1)), &text_of(2), self.member, self.context);
    }

    pub fn imports(&mut self, import: Message<'_, '_>) {
        if let Some(domain) = import.last(1) {
            self.uses(domain.text(256), String::new(), import.start);
        }
    }

    fn uses(&mut self, domain: String, operator: String, at: u64) {
        if self.used.len() < DOMAINS_MAX {
            let known = self.used.entry(domain).or_insert_with(|| (operator.clone(), at));
            if known.0.is_empty() {
                *known = (operator, at);
            }
        }
    }

    pub fn function(&mut self, function: Message<'_, '_>) {
        if let Some(domain) = function.last(10) {
            self.defined.insert(domain.text(256));
        }
        for field in function.fields() {
            let Some(message) = field.message() else { continue };
            match field.number {
                7 => self.node(message, 0),
                9 => self.imports(message),
                11 => self.attribute(message, 0),
                14 => self.metadata("function.metadata_props", message),
                8 => self.text("function.doc_string", message),
                _ => {}
            }
        }
    }

    pub fn graph(&mut self, graph: Message<'_, '_>, depth: u32) {
        if depth >= DEPTH_MAX {
            self.context.limit_reached("graph_depth", DEPTH_MAX.into(), self.member, Some(graph.start));
            return;
        }
        for field in graph.fields() {
            if !self.goes_on() {
                return;
            }
            let Some(message) = field.message() else { continue };
            match field.number {
                1 => self.node(message, depth),
                5 => self.tensor(message),
                15 => self.sparse(message),
                10 => self.text("graph.doc_string", message),
                16 => self.metadata("graph.metadata_props", message),
                _ => {}
            }
        }
    }

    fn node(&mut self, node: Message<'_, '_>, depth: u32) {
        let (mut operator, mut domain) = (String::new(), String::new());
        for field in node.fields() {
            let Some(message) = field.message() else { continue };
            match field.number {
                4 => operator = message.text(256),
                7 => domain = message.text(256),
                5 => self.attribute(message, depth),
                6 => self.text("node.doc_string", message),
                9 => self.metadata("node.metadata_props", message),
                _ => {}
            }
        }
        if domain == "ai.onnx.contrib" && operator.starts_with("Py") {
            let title = "an operator that calls Python of the host";
            report("SNS-462", Severity::Medium, title, self.member, node.start, self.context, ("operator", &operator));
        }
        if operator == "EPContext" {
            self.compiled(node);
        }
        self.uses(domain, operator, node.start);
    }

    /// A compiled context of an execution provider: its binary is in the model, or a file that it names.
    fn compiled(&mut self, node: Message<'_, '_>) {
        for attribute in node.each(5) {
            let text_of = |number| attribute.last(number).map(|text| text.text(TEXT_BYTES_MAX)).unwrap_or_default();
            if text_of(1) == "ep_cache_context"
                && let Some(why) = text::leaves(&text_of(4))
            {
                let title = format!("a compiled part outside the model's folder: {why}");
                report(
                    "SNS-461",
                    Severity::High,
                    &title,
                    self.member,
                    attribute.start,
                    self.context,
                    ("path", &text_of(4)),
                );
            }
        }
    }

    fn attribute(&mut self, attribute: Message<'_, '_>, depth: u32) {
        for field in attribute.fields() {
            if !self.goes_on() {
                return;
            }
            let Some(message) = field.message() else { continue };
            match field.number {
                5 | 10 => self.tensor(message),
                6 | 11 => self.graph(message, depth + 1),
                22 | 23 => self.sparse(message),
                4 | 9 => self.text("attribute", message),
                13 => self.text("attribute.doc_string", message),
                _ => {}
            }
        }
    }

    fn sparse(&mut self, sparse: Message<'_, '_>) {
        [1, 2].iter().for_each(|number| sparse.each(*number).for_each(|tensor| self.tensor(tensor)));
    }

    fn tensor(&mut self, tensor: Message<'_, '_>) {
        external::scan(tensor, self.member, self.context);
        if let Some(data) = tensor.last(9) {
            raw(data, self.member, self.context);
        }
        for text in tensor.each(6).take(TEXTS_MAX) {
            self.text("string_data", text);
        }
        for entry in tensor.each(16) {
            self.metadata("tensor.metadata_props", entry);
        }
    }

    /// Says which domains nobody is known to bring along.
    pub fn finish(self) {
        for (domain, (operator, at)) in self.used {
            let known = KNOWN_DOMAINS.contains(&domain.as_str())
                || KNOWN_TREES.iter().any(|tree| domain.starts_with(tree))
                || self.defined.contains(&domain);
            if known {
                continue;
            }
            // A domain that no node uses is a left-over of an exporter.
            let severity = if operator.is_empty() { Severity::Info } else { Severity::Medium };
            let title = format!("an operator of the domain {domain}, which needs a native library");
            report("SNS-462", severity, &title, self.member, at, self.context, ("operator", &operator));
        }
    }
}
