//! Where a text operand comes from: constants are folded through the operators that pass or join texts.

use super::graph::{Graph, Node};

/// Steps of one look-up, over nodes and callers.
const STEPS_MAX: usize = 4_000;
/// Steps of all look-ups in one graph.
pub const STEPS_TOTAL_MAX: usize = 5_000_000;
/// Nodes behind nodes.
const DEPTH_MAX: u32 = 64;
/// Texts that one operand may be.
const TEXTS_MAX: usize = 32;

/// What an operand may be.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Constant texts, or their constant start where the rest is not known.
    pub constants: Vec<String>,
    /// Also what the caller gives, or what is computed.
    pub dynamic: bool,
    /// Also the name of an asset, which the loader puts in.
    pub asset: bool,
}

impl Origin {
    fn dynamic() -> Self {
        Self { dynamic: true, ..Self::default() }
    }

    fn merge(&mut self, other: Self) {
        for text in other.constants {
            if self.constants.len() < TEXTS_MAX && !self.constants.contains(&text) {
                self.constants.push(text);
            }
        }
        self.dynamic |= other.dynamic;
        self.asset |= other.asset;
    }
}

pub struct Finder<'g> {
    graph: &'g Graph,
    /// Names of tensors in the main graph that the loader feeds with the paths of assets.
    assets: &'g [String],
    steps: usize,
    total: usize,
}

impl<'g> Finder<'g> {
    pub fn new(graph: &'g Graph, assets: &'g [String]) -> Self {
        Self { graph, assets, steps: 0, total: 0 }
    }

    /// No further origin is looked up.
    pub fn is_exhausted(&self) -> bool {
        self.total > STEPS_TOTAL_MAX
    }

    /// Origin of the input `index` of a node.
    pub fn input(&mut self, body: usize, node: &'g Node, index: usize) -> Origin {
        self.steps = 0;
        self.nth(body, node, index, 0)
    }

    fn nth(&mut self, body: usize, node: &'g Node, index: usize, depth: u32) -> Origin {
        match data_inputs(node).nth(index) {
            Some(input) => self.tensor(body, input, depth),
            None => Origin::dynamic(),
        }
    }

    /// Origin of a tensor: `node`, `node:1`, within functions also `node:output:1` or an argument.
    fn tensor(&mut self, body: usize, tensor: &str, depth: u32) -> Origin {
        self.steps += 1;
        self.total += 1;
        if self.steps > STEPS_MAX || depth > DEPTH_MAX || self.is_exhausted() {
            return Origin::dynamic();
        }
        let Some(here) = self.graph.bodies.get(body) else { return Origin::dynamic() };
        let name = tensor.split(':').next().unwrap_or(tensor);
        if body == 0 && self.assets.iter().any(|asset| asset.split(':').next() == Some(name)) {
            return Origin { asset: true, ..Origin::default() };
        }
        if let Some(node) = here.by_name.get(name).and_then(|index| here.nodes.get(*index)) {
            return self.node(body, node, depth + 1);
        }
        match here.arguments.iter().position(|argument| argument == name) {
            Some(index) => self.argument(body, index, depth + 1),
            None => Origin::dynamic(),
        }
    }

    /// What the callers of a function give for an argument; a function that only the outside calls gets what that gives.
    fn argument(&mut self, body: usize, index: usize, depth: u32) -> Origin {
        let graph = self.graph;
        let name = &graph.bodies[body].name;
        let Some(callers) = graph.callers.get(name) else { return Origin::dynamic() };
        let mut origin = Origin::default();
        for (caller, node) in callers.iter().take(TEXTS_MAX) {
            let Some(node) = graph.bodies.get(*caller).and_then(|body| body.nodes.get(*node)) else { continue };
            // Elements of a data set come from what it is made of, other arguments stand behind it.
            if node.operator.contains("Dataset") {
                origin.merge(self.nth(*caller, node, 0, depth));
                origin.merge(self.nth(*caller, node, index, depth));
                continue;
            }
            // Branches and loops take their condition first.
            let shift = usize::from(matches!(node.operator.as_str(), "If" | "StatelessIf" | "Case" | "StatelessCase"));
            origin.merge(self.nth(*caller, node, index + shift, depth));
        }
        origin
    }

    fn node(&mut self, body: usize, node: &'g Node, depth: u32) -> Origin {
        match node.operator.as_str() {
            "Const" | "HostConst" => {
                let constants = texts(node, "value").to_vec();
                Origin { dynamic: constants.is_empty(), constants, asset: false }
            }
            "Identity"
            | "IdentityN"
            | "StopGradient"
            | "Snapshot"
            | "PreventGradient"
            | "Reshape"
            | "ExpandDims"
            | "Squeeze"
            | "Fill"
            | "Tile"
            | "EnsureShape"
            | "StringStrip"
            | "StringLower"
            | "StringUpper"
            | "Unique"
            | "StridedSlice"
            | "Slice"
            | "GatherV2"
            | "Gather"
            | "BroadcastTo"
            | "Bitcast"
            | "Copy"
            | "CopyHost"
            | "Enter"
            | "Exit"
            | "NextIteration"
            | "Switch"
            | "OptionalGetValue"
            | "Substr"
            | "StringSplitV2"
            | "StringSplit"
            | "Transpose"
            | "RandomShuffle"
            | "DecodeBase64"
            | "RegexReplace"
            | "StaticRegexReplace"
            | "TensorListFromTensor"
            | "TensorListGetItem"
            | "TensorListStack"
            | "TensorArrayScatterV3"
            | "TensorArrayReadV3"
            | "ReadVariableOp"
            | "CheckNumerics"
            | "Unpack"
            | "Split" => {
                // The value comes first, but for operators that take a shape or an axis before it.
                let index = usize::from(matches!(node.operator.as_str(), "Fill" | "Split"));
                self.nth(body, node, index, depth)
            }
            "Pack" | "ConcatV2" | "Concat" | "Select" | "SelectV2" | "Merge" | "Where" => {
                let mut origin = Origin::default();
                for index in 0..data_inputs(node).count().min(TEXTS_MAX) {
                    let one = self.nth(body, node, index, depth);
                    // Numbers among the inputs are axes.
                    if one != Origin::dynamic() || !node.operator.starts_with("Concat") {
                        origin.merge(one);
                    }
                }
                origin
            }
            "RangeDataset" => Origin::dynamic(),
            operator if operator.contains("Dataset") => {
                let mut origin = Origin::default();
                let all =
                    matches!(operator, "TensorSliceDataset" | "TensorDataset" | "ConcatenateDataset" | "ZipDataset");
                for index in 0..data_inputs(node).count().min(if all { TEXTS_MAX } else { 1 }) {
                    origin.merge(self.nth(body, node, index, depth));
                }
                origin
            }
            "StringJoin" | "Add" | "AddV2" | "StringFormat" | "ReduceJoin" => self.joined(body, node, depth),
            // The caller may feed it; the default is what savers have always had.
            "ShardedFilename" | "ShardedFilespec" => {
                let mut origin = self.nth(body, node, 0, depth);
                origin.dynamic |= origin.constants.is_empty();
                origin
            }
            "PartitionedCall" | "StatefulPartitionedCall" => self.returned(node, depth),
            _ => Origin::dynamic(),
        }
    }

    /// Texts put together: as far as the start is constant, the start says where they lead.
    fn joined(&mut self, body: usize, node: &'g Node, depth: u32) -> Origin {
        let separator = texts(node, "separator").first().cloned().unwrap_or_default();
        let mut text =
            texts(node, "template").first().map(|template| template.split("%s").next().unwrap_or_default().to_owned());
        let mut dynamic = text.is_some();
        for index in 0..data_inputs(node).count().min(TEXTS_MAX) {
            let part = self.nth(body, node, index, depth);
            if part.asset {
                return part;
            }
            match part.constants.first() {
                Some(constant) if !part.dynamic && !dynamic => {
                    text = Some(match text {
                        Some(text) => text + &separator + constant,
                        None => constant.clone(),
                    });
                }
                Some(constant) => {
                    // A step that goes up leads out wherever it stands.
                    if constant.contains("..") {
                        text = Some(text.unwrap_or_default() + "/" + constant);
                    }
                    dynamic = true;
                }
                None => dynamic = true,
            }
        }
        Origin { constants: text.filter(|text| !text.is_empty()).into_iter().collect(), dynamic, asset: false }
    }

    /// The first result of a function that is called: constants in it.
    fn returned(&mut self, node: &'g Node, depth: u32) -> Origin {
        let graph = self.graph;
        let mut origin = Origin::dynamic();
        for name in &node.functions {
            let Some(body) = graph.by_name.get(name).and_then(|index| graph.bodies.get(*index)) else { continue };
            // Only a function that does nothing but return a constant matters here.
            if body.nodes.len() > 16 {
                continue;
            }
            for constant in body.nodes.iter().filter(|node| node.operator == "Const") {
                origin.merge(Origin { constants: texts(constant, "value").to_vec(), ..Origin::default() });
            }
            self.steps += depth as usize;
        }
        origin
    }
}

/// Inputs that carry values, not order.
pub fn data_inputs(node: &Node) -> impl Iterator<Item = &str> {
    node.inputs.iter().map(String::as_str).filter(|input| !input.starts_with('^'))
}

/// Texts of an attribute.
pub fn texts<'n>(node: &'n Node, key: &str) -> &'n [String] {
    node.texts.iter().find(|(name, _)| name == key).map(|(_, texts)| texts.as_slice()).unwrap_or_default()
}
