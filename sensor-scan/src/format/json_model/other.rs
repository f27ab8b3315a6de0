//! Orbax metadata, MXNet symbols, and lists of shards.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::json::Json;
use crate::format::{Seen, text};
use crate::report::Content;

/// Names of the other files of a model that are looked at.
const SHARDS_MAX: usize = 100_000;

pub fn scan(json: &Json, piece: &Piece<'_>, context: &mut Context<'_>) -> Option<Seen> {
    let member = piece.member.as_deref();
    if let Some(Json::Object(shards)) = json.get("weight_map") {
        weight_map(shards, member, context);
        return Some(Seen { format: "shard-index", content: Content::Data });
    }
    if json.get("nodes").is_some() && json.get("arg_nodes").is_some() && json.get("heads").is_some() {
        symbol(json, member, context);
        return Some(Seen { format: "mxnet-symbol", content: Content::Data });
    }
    let orbax =
        ["tree_metadata", "restore_fn", "save_fn", "item_handlers", "use_ocdbt", "custom_metadata", "use_zarr3"];
    if orbax.iter().any(|key| json.get(key).is_some())
        || json.text("type").is_some_and(|kind| kind.contains("orbax"))
        || json.text("format").is_some_and(|kind| kind.contains("orbax"))
    {
        restore(json, member, context);
        return Some(Seen { format: "orbax", content: Content::Data });
    }
    None
}

/// Every shard lies beside the list, and is of the list's own kind.
fn weight_map(shards: &[(Box<str>, Json)], member: Option<&[u8]>, context: &mut Context<'_>) {
    let mut pickled = None;
    let mut safe = false;
    for name in shards.iter().take(SHARDS_MAX).filter_map(|(_, file)| file.str()) {
        if let Some(why) = text::leaves(name) {
            let title = format!("a shard outside the model's folder: {why}");
            let finding = Finding::new("SNS-305", Severity::High, title).member(member).text("file", name);
            context.report(finding.loaders(&["transformers", "diffusers"]));
        }
        let lower = name.to_ascii_lowercase();
        safe |= lower.ends_with(".safetensors");
        if [".bin", ".pt", ".pth", ".pkl", ".ckpt", ".pickle"].iter().any(|suffix| lower.ends_with(suffix)) {
            pickled.get_or_insert(name);
        }
    }
    if let Some(name) = pickled.filter(|_| safe) {
        let title = "a list of safetensors shards names a pickle among them";
        context.report(Finding::new("SNS-701", Severity::Medium, title).member(member).text("file", name));
    }
}

/// MXNet runs operators of the host language where the graph names them.
fn symbol(json: &Json, member: Option<&[u8]>, context: &mut Context<'_>) {
    for node in json.get("nodes").map(Json::items).unwrap_or_default() {
        if let Some(operator @ ("Custom" | "_Native" | "_NDArray" | "_CrossDeviceCopy" | "_TensorRT" | "_sg_custom")) =
            node.text("op")
        {
            let severity = if operator.starts_with("_Cross") { Severity::Info } else { Severity::Medium };
            let finding = Finding::new("SNS-624", severity, "an operator that calls code of the host");
            context.report(finding.member(member).text("operator", operator).loaders(&["mxnet"]));
        }
    }
    json.walk(&mut |key, value| {
        if let Some(value) = value.str() {
            text::scan(key, value, member, context);
        }
    });
}

/// Keys that custom loaders of checkpoints take for functions, and texts that are code.
fn restore(json: &Json, member: Option<&[u8]>, context: &mut Context<'_>) {
    json.walk(&mut |key, value| {
        let Some(value) = value.str() else { return };
        let function = key.ends_with("_fn") || key.ends_with("_function") || key.ends_with("_handler");
        if function && text::active(value).is_some() || value.trim_start().starts_with("lambda ") {
            let title = "checkpoint metadata with a function as text";
            let finding = Finding::new("SNS-496", Severity::Medium, title).member(member).text("key", key);
            context.report(finding.text("value", value).loaders(&["custom loaders that evaluate it"]));
        } else {
            text::scan(key, value, member, context);
        }
    });
}
