//! Tensors and what they are built on: what torch's weights-only reader still does with a stream.
//!
//! That reader calls listed functions only, so that nothing of the stream runs; sizes that do not fit and items that are set
//! on the wrong object corrupted its memory instead (CVE-2026-24747, torch < 2.10). References: `torch/_utils.py`,
//! `torch/_weights_only_unpickler.py`, `torch/serialization.py`.

use super::machine::Machine;
use super::value::{Arena, Id, Kind, Node, What};
use crate::context::DeclaredStorage;
use crate::finding::{Evidence, Severity};

const WEIGHTS_ONLY: &[&str] = &["torch.load, also with weights_only=True (torch < 2.10)"];
/// Dimensions of a tensor that are looked at; torch has up to 64.
const DIMENSIONS_MAX: usize = 64;

impl Machine<'_, '_, '_> {
    /// A persistent id of a torch archive: `("storage", type, key, location, elements)`.
    pub(super) fn declare_storage(&mut self, id: Id) {
        let Some(bytes) = self.storage_bytes(id) else { return };
        let Some(&key) = self.arena.children(id).get(2) else { return };
        if let Some(key) = self.text_of(key) {
            self.context.declare_storage(DeclaredStorage { key, bytes });
        }
    }

    /// Bytes that the storage of a persistent id has, by its own words.
    fn storage_bytes(&self, id: Id) -> Option<u64> {
        let (kind, elements) = match self.arena.children(id) {
            [_, kind, _, _, elements, ..] => (*kind, u64::from(elements.as_int()?)),
            _ => return None,
        };
        let kind = self.globals.get(self.arena.as_global(kind)?)?;
        elements.checked_mul(storage_item_bytes(&kind.path)?)
    }

    /// A call of one of torch's rebuilding functions.
    pub(super) fn check_rebuilt(&mut self, callee: u32, args: Id) {
        let Some(global) = self.globals.get(callee).filter(|global| &*global.module == "torch._utils") else { return };
        let own_type = match &*global.path {
            "_rebuild_tensor" | "_rebuild_tensor_v2" | "_rebuild_qtensor" => false,
            "_rebuild_tensor_v3" => true,
            _ => return,
        };
        let Some((needed, held)) = self.reach(args, own_type).filter(|(needed, held)| needed > held) else { return };
        let text = "a tensor reaches beyond the storage that it is built on";
        let mut finding = self.finding("SNS-405", Severity::Medium, text);
        finding.evidence.insert("bytes_needed", Evidence::Number(needed));
        finding.evidence.insert("bytes_held", Evidence::Number(held));
        finding.loaders = WEIGHTS_ONLY.to_vec();
        self.context.report(finding);
    }

    /// Bytes up to the last element, and bytes of the storage; `None` where either is not known.
    fn reach(&self, args: Id, own_type: bool) -> Option<(u64, u64)> {
        let arguments = self.arena.children(args);
        let [storage, offset, sizes, strides, ..] = *arguments else { return None };
        let storage = self.arena.as_object(storage).filter(|object| object.what == What::Persistent)?.args;
        let held = self.storage_bytes(storage)?;
        let item = if own_type {
            let dtype = self.globals.get(self.arena.as_global(*arguments.get(6)?)?)?;
            dtype_item_bytes(&dtype.path)?
        } else {
            let kind = *self.arena.children(storage).get(1)?;
            storage_item_bytes(&self.globals.get(self.arena.as_global(kind)?)?.path)?
        };
        let sizes = numbers(&self.arena, sizes)?;
        let strides = numbers(&self.arena, strides)?;
        if sizes.len() != strides.len() || sizes.contains(&0) {
            return None;
        }
        let last = sizes
            .iter()
            .zip(&strides)
            .fold(number(offset)?, |last, (size, stride)| last.saturating_add((size - 1).saturating_mul(*stride)));
        Some((last.saturating_add(1).saturating_mul(item), held))
    }

    /// SETITEM on what is surely no mapping. Lists take items under numbers; no pickler ever writes that.
    pub(super) fn check_item_target(&mut self, target: Id) {
        let wrong = match self.arena.node(target) {
            Some(Node::Box { kind, .. }) => kind != Kind::Dict,
            Some(Node::Tuple { .. } | Node::Text { .. } | Node::Owned { .. }) => true,
            Some(Node::Object { .. }) => self.arena.as_object(target).is_some_and(|object| match object.what {
                What::Persistent => true,
                What::Result => self
                    .arena
                    .as_global(object.callee)
                    .and_then(|index| self.globals.get(index))
                    .is_some_and(|callee| &*callee.module == "torch._utils" && callee.path.starts_with("_rebuild")),
                _ => false,
            }),
            _ => target.as_int().is_some() || [Id::NONE, Id::TRUE, Id::FALSE].contains(&target),
        };
        if !wrong {
            return;
        }
        let text = format!("items are set on what is no dictionary: {}", self.describe(target));
        let mut finding = self.finding("SNS-405", Severity::Medium, text);
        finding.loaders = WEIGHTS_ONLY.to_vec();
        self.context.report(finding);
    }
}

/// A tuple of sizes or strides; what is negative or does not fit is as large as can be.
fn numbers(arena: &Arena, tuple: Id) -> Option<Vec<u64>> {
    let Some(Node::Tuple { .. }) = arena.node(tuple) else { return None };
    let items = arena.children(tuple);
    (items.len() <= DIMENSIONS_MAX).then(|| items.iter().map(|item| number(*item)).collect()).flatten()
}

fn number(value: Id) -> Option<u64> {
    if value == Id::DATA { Some(u64::MAX) } else { value.as_int().map(u64::from) }
}

/// Bytes of one element by the storage's class; `None` for classes whose elements share bytes.
fn storage_item_bytes(class: &str) -> Option<u64> {
    Some(match class.strip_suffix("Storage")?.rsplit('.').next()? {
        "Untyped" | "Char" | "Byte" | "Bool" | "QInt8" | "QUInt8" => 1,
        "Half" | "BFloat16" | "Short" => 2,
        "Float" | "Int" | "QInt32" => 4,
        "Double" | "Long" | "ComplexFloat" => 8,
        "ComplexDouble" => 16,
        _ => return None,
    })
}

fn dtype_item_bytes(name: &str) -> Option<u64> {
    Some(match name {
        "uint8" | "int8" | "bool" => 1,
        "float16" | "half" | "bfloat16" | "int16" | "short" | "uint16" => 2,
        "float32" | "float" | "int32" | "int" | "uint32" | "complex32" => 4,
        "float64" | "double" | "int64" | "long" | "uint64" | "complex64" => 8,
        "complex128" => 16,
        name if name.starts_with("float8_") => 1,
        _ => return None,
    })
}
