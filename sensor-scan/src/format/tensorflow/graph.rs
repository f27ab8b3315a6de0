//! Nodes and functions of a graph, with what is needed to follow a path: names, operators, inputs, texts.

use std::collections::HashMap;

use super::{TEXT_BYTES_MAX, read};
use crate::context::Context;
use crate::format::protobuf::Message;

/// Nodes over all functions; the largest published graphs have some 200,000.
const NODES_MAX: usize = 400_000;
/// Bytes of all names and texts.
const KEPT_BYTES_MAX: usize = 32 << 20;

#[derive(Debug, Default)]
pub struct Node {
    pub name: String,
    pub operator: String,
    pub inputs: Vec<String>,
    /// Texts of attributes, by the attribute's name. `value` of a constant is one of them.
    pub texts: Vec<(String, Vec<String>)>,
    /// Functions that attributes name.
    pub functions: Vec<String>,
    /// Offset in the file.
    pub at: u64,
}

/// A function, or the graph itself.
#[derive(Debug, Default)]
pub struct Body {
    pub name: String,
    /// Names of its arguments.
    pub arguments: Vec<String>,
    pub nodes: Vec<Node>,
    /// Node by name.
    pub by_name: HashMap<String, usize>,
}

pub struct Graph {
    /// The graph first, then the functions.
    pub bodies: Vec<Body>,
    /// Function by name.
    pub by_name: HashMap<String, usize>,
    /// Who calls a function: body and node.
    pub callers: HashMap<String, Vec<(usize, usize)>>,
}

impl Graph {
    /// Reads a GraphDef; `None` where the time is up.
    pub fn read(graph: Message<'_, '_>, context: &mut Context<'_>, member: Option<&[u8]>) -> Option<Self> {
        let mut reader = Reader { context, nodes: 0, bytes: 0, full: false };
        let mut main = Body::default();
        let mut bodies = Vec::new();
        for field in graph.fields() {
            let Some(message) = field.message() else { continue };
            match field.number {
                1 => reader.node(message, &mut main)?,
                2 => {
                    for function in message.each(1) {
                        bodies.push(reader.function(function)?);
                    }
                }
                _ => {}
            }
        }
        if reader.full {
            context.limit_reached("graph_nodes_max", NODES_MAX as u64, member, None);
        }
        bodies.insert(0, main);
        let by_name = bodies.iter().enumerate().skip(1).map(|(index, body)| (body.name.clone(), index)).collect();
        let mut callers: HashMap<String, Vec<(usize, usize)>> = HashMap::new();
        for (body, nodes) in bodies.iter().map(|body| &body.nodes).enumerate() {
            for (index, node) in nodes.iter().enumerate() {
                // An operator may be the function's name itself.
                for function in node.functions.iter().chain([&node.operator]) {
                    callers.entry(function.clone()).or_default().push((body, index));
                }
            }
        }
        Some(Self { bodies, by_name, callers })
    }
}

struct Reader<'c, 'l> {
    context: &'c mut Context<'l>,
    nodes: usize,
    bytes: usize,
    full: bool,
}

impl Reader<'_, '_> {
    fn function(&mut self, function: Message<'_, '_>) -> Option<Body> {
        let mut body = Body::default();
        for field in function.fields() {
            let Some(message) = field.message() else { continue };
            match field.number {
                1 => {
                    body.name = message.last(1).map(|name| name.text(1024)).unwrap_or_default();
                    let name =
                        |argument: Message<'_, '_>| argument.last(1).map(|name| name.text(1024)).unwrap_or_default();
                    body.arguments = message.each(2).take(10_000).map(name).collect();
                }
                3 => self.node(message, &mut body)?,
                _ => {}
            }
        }
        Some(body)
    }

    fn node(&mut self, message: Message<'_, '_>, body: &mut Body) -> Option<()> {
        self.nodes += 1;
        if self.nodes.is_multiple_of(1024) && self.context.expired() {
            return None;
        }
        if self.nodes > NODES_MAX || self.bytes > KEPT_BYTES_MAX {
            self.full = true;
            return Some(());
        }
        let mut node = Node { at: message.start, ..Node::default() };
        for field in message.fields() {
            let Some(message) = field.message() else { continue };
            match field.number {
                1 => node.name = message.text(1024),
                2 => node.operator = message.text(256),
                3 => node.inputs.push(message.text(1024)),
                5 => attribute(message, &mut node),
                _ => {}
            }
        }
        self.bytes += node.name.len() + node.operator.len() + node.inputs.iter().map(String::len).sum::<usize>();
        self.bytes += node.texts.iter().flat_map(|(_, texts)| texts).map(String::len).sum::<usize>() + 260;
        body.by_name.insert(node.name.clone(), body.nodes.len());
        body.nodes.push(node);
        Some(())
    }
}

fn attribute(entry: Message<'_, '_>, node: &mut Node) {
    let Some(value) = entry.last(2) else { return };
    // What exporters repeat at every node and that is no text.
    let key = entry.last(1).map(|key| key.text(256)).unwrap_or_default();
    if key.starts_with("_output_shapes") {
        return;
    }
    let texts: Vec<String> = read::texts(value).into_iter().filter(|text| text.len() <= TEXT_BYTES_MAX).collect();
    if !texts.is_empty() {
        node.texts.push((key, texts));
    }
    node.functions.extend(read::functions(value));
}
