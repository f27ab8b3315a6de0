//! Configurations in JSON of transformers, diffusers, PEFT, sentence-transformers and their relatives.

use super::code::{self, Named};
use super::settings;
use super::target::{self, Target};
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::json::{Broken, Json};
use crate::format::zip::escape;
use crate::source::Sibling;

/// Shards that are looked for.
const SHARDS_MAX: usize = 4_096;
const TRUSTED: &[&str] = &["transformers or diffusers with trust_remote_code=True"];

/// Is this the name of a configuration that a loader looks for?
pub fn is_config(lower: &str) -> bool {
    lower.ends_with("config.json")
        || lower.ends_with(".index.json")
        || matches!(lower, "model_index.json" | "modules.json" | "chat_template.json" | "manifest.json")
}

/// A configuration that its loader might read in another way.
pub fn broken(piece: &Piece<'_>, broken: Broken, context: &mut Context<'_>) {
    let finding =
        Finding::new("SNS-903", Severity::Low, "configuration that is no JSON").member(piece.member.as_deref());
    context.report(finding.at(broken.at as u64).text("reason", broken.why));
}

/// `config` says that a loader reads a file of this name.
pub fn scan(piece: &Piece<'_>, config: bool, json: &Json, context: &mut Context<'_>) {
    settings::targets(piece, json, context);
    let reader = Reader { piece };
    if !config {
        // A server is told by an option where its template is.
        for (_, template) in json.entries().iter().filter(|(key, _)| key.ends_with("chat_template")) {
            reader.chat_template(template, context);
        }
        return;
    }
    json.walk(&mut |key, value| match key {
        "auto_map" => reader.auto_map(value, context),
        "custom_pipelines" => reader.custom_pipelines(value, context),
        "_attn_implementation_internal" | "_attn_implementation" | "attn_implementation" => {
            reader.kernel(key, value, context);
        }
        "parent_library" => reader.parent_library(value, json, context),
        key if key.ends_with("chat_template") => reader.chat_template(value, context),
        "trust_remote_code" if *value == Json::Bool(true) => {
            let title = "the configuration itself asks for trust in remote code";
            let finding = Finding::new("SNS-511", Severity::Low, title).member(piece.member.as_deref());
            context.report(finding.loaders(&["transformers 4.56 to 5.4 in a nested configuration"]));
        }
        _ => {}
    });
    let name = String::from_utf8_lossy(crate::format::file_name(piece.source.name())).to_lowercase();
    match name.as_str() {
        "model_index.json" => reader.model_index(json, context),
        "modules.json" => reader.modules(json, context),
        "manifest.json" => reader.manifest(json, context),
        name if name.ends_with(".index.json") => reader.index(json, context),
        _ => {}
    }
}

struct Reader<'a, 'b> {
    piece: &'a Piece<'b>,
}

impl Reader<'_, '_> {
    fn finding(&self, id: &'static str, severity: Severity, title: impl Into<String>) -> Finding {
        Finding::new(id, severity, title).member(self.piece.member.as_deref())
    }

    /// A class, a list of classes and nulls, or a map of these.
    fn auto_map(&self, value: &Json, context: &mut Context<'_>) {
        match value {
            Json::Text(reference) => self.reference("auto_map", reference, context),
            Json::List(items) => {
                items.iter().filter_map(Json::str).for_each(|item| self.reference("auto_map", item, context));
            }
            Json::Object(entries) => {
                for (_, value) in entries {
                    match value {
                        Json::Text(reference) => self.reference("auto_map", reference, context),
                        Json::List(items) => {
                            items
                                .iter()
                                .filter_map(Json::str)
                                .for_each(|item| self.reference("auto_map", item, context));
                        }
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }

    /// `{"task": {"impl": "module.Class", …}}`
    fn custom_pipelines(&self, value: &Json, context: &mut Context<'_>) {
        for (_, task) in value.entries() {
            if let Some(reference) = task.text("impl") {
                self.reference("custom_pipelines", reference, context);
            }
        }
    }

    /// `module.Class`, or `owner/repository--module.Class`.
    fn reference(&self, key: &'static str, reference: &str, context: &mut Context<'_>) {
        if let Some((repository, class)) = reference.split_once("--") {
            let title = format!("{key} names code of another repository, which may change at any time");
            let finding = self.finding("SNS-512", Severity::Medium, title).loaders(TRUSTED);
            context.report(finding.text("repository", repository).text("class", class));
            return;
        }
        let module = reference.rsplit_once('.').map_or(reference, |(module, _)| module);
        let local = module.trim_start_matches('.');
        let file =
            if module.contains('/') { format!("{module}.py") } else { format!("{}.py", local.replace('.', "/")) };
        self.code(key, reference, &file, context);
    }

    /// A Python file of the repository that a loader imports because of `key`.
    fn code(&self, key: &'static str, reference: &str, file: &str, context: &mut Context<'_>) {
        let (severity, title) = match code::named(self.piece.source, file, context) {
            Named::Does { severity, what, file: other, line } => {
                let severity = if severity >= Severity::High { Severity::High } else { severity };
                let title = format!("{key} names code that {what}");
                let finding = self.finding("SNS-511", severity, title).loaders(TRUSTED).text("reference", reference);
                context.report(finding.text("file", other).number("line", line.into()));
                return;
            }
            Named::Harmless => (Severity::Info, format!("{key} names code of the repository")),
            Named::Missing => (Severity::Low, format!("{key} names code that is not in the repository")),
            Named::Unseen => {
                (Severity::Low, format!("{key} names code of the repository, which is not seen from here"))
            }
            Named::Escapes => {
                let title = format!("{key} names a file outside the repository");
                let finding = self.finding("SNS-305", Severity::Medium, title).loaders(TRUSTED);
                context.report(finding.text("reference", reference));
                return;
            }
        };
        let finding = self.finding("SNS-511", severity, title).loaders(TRUSTED);
        context.report(finding.text("reference", reference).text("file", file));
    }

    /// `owner/repository[@revision][:name]`: downloaded and imported, without being asked.
    fn kernel(&self, key: &str, value: &Json, context: &mut Context<'_>) {
        let names: Vec<&str> = match value {
            Json::Text(name) => vec![name],
            Json::Object(entries) => entries.iter().filter_map(|(_, value)| value.str()).collect(),
            _ => return,
        };
        for name in names {
            let repository = name.rsplit('|').next().unwrap_or(name);
            let Some((owner, rest)) = repository.split_once('/') else { continue };
            let part =
                |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.@:".contains(c));
            if !part(owner) || !part(rest) {
                continue;
            }
            let own = owner == "kernels-community" && key != "_attn_implementation_internal";
            let severity = if own { Severity::Low } else { Severity::High };
            let title = "the configuration makes transformers download and import a compute kernel from the hub";
            let finding = self.finding("SNS-513", severity, title).text("key", key).text("kernel", name);
            context.report(
                finding.loaders(&["transformers 4.56 to 5.2 with the package kernels, without trust_remote_code"]),
            );
        }
    }

    /// PEFT imports the library and takes the class from it.
    fn parent_library(&self, value: &Json, json: &Json, context: &mut Context<'_>) {
        let Some(library) = value.str() else { return };
        let mut class = None;
        json.walk(&mut |key, value| {
            if key == "base_model_class" {
                class = class.or(value.str());
            }
        });
        let class = class.unwrap_or_default();
        let loaders = &["peft.AutoPeftModel.from_pretrained"];
        let local = format!("{}.py", library.replace('.', "/"));
        if let Sibling::Here(_) = self.piece.source.sibling(&local) {
            self.code("auto_mapping", library, &local, context);
            return;
        }
        let judged = target::called(&format!("{library}.{class}"));
        let odd = target::imported(library) != Target::Unknown || matches!(judged, Target::Dangerous(_) | Target::Odd);
        if odd {
            let title = "the adapter makes PEFT import a module that has no models";
            let finding = self.finding("SNS-523", Severity::Medium, title).loaders(loaders);
            context.report(finding.text("module", library).text("class", class));
        }
    }

    /// One template, or several with names.
    fn chat_template(&self, value: &Json, context: &mut Context<'_>) {
        let member = self.piece.member.as_deref();
        match value {
            Json::Text(template) => crate::format::jinja::scan_text("chat_template", template, member, context),
            Json::List(items) => {
                for item in items {
                    let template = item.text("template").or(item.str()).unwrap_or_default();
                    crate::format::jinja::scan_text("chat_template", template, member, context);
                }
            }
            Json::Object(entries) => {
                for (_, value) in entries {
                    crate::format::jinja::scan_text("chat_template", value.str().unwrap_or_default(), member, context);
                }
            }
            _ => {}
        }
    }

    /// diffusers: `_class_name` as a list names a file; a component is `[library, class]`.
    fn model_index(&self, json: &Json, context: &mut Context<'_>) {
        for (key, value) in json.entries() {
            let [Json::Text(library), class] = value.items() else { continue };
            let class = class.str().unwrap_or_default();
            let reference = format!("{library}.{class}");
            if &**key == "_class_name" {
                self.code("_class_name", &reference, &format!("{library}.py"), context);
                continue;
            }
            let local = format!("{key}/{library}.py");
            if let Sibling::Here(_) = self.piece.source.sibling(&local) {
                self.code("model_index", &reference, &local, context);
            } else if matches!(target::called(&reference), Target::Dangerous(_)) {
                let title = "a component of the pipeline is a callable that acts on the machine";
                let finding = self.finding("SNS-523", Severity::High, title).text("component", key.as_ref());
                context.report(
                    finding.text("target", reference).loaders(&["diffusers.DiffusionPipeline.from_pretrained"]),
                );
            } else if target::imported(library) == Target::Odd {
                let title = "a component of the pipeline comes from a module that has no models";
                let finding = self.finding("SNS-523", Severity::Medium, title).text("component", key.as_ref());
                context.report(
                    finding.text("target", reference).loaders(&["diffusers.DiffusionPipeline.from_pretrained"]),
                );
            }
        }
    }

    /// sentence-transformers: a list of modules with the class of each.
    fn modules(&self, json: &Json, context: &mut Context<'_>) {
        for module in json.items() {
            let Some(class) = module.text("type") else { continue };
            let Some((path, _)) = class.rsplit_once('.') else { continue };
            let local = format!("{}.py", path.replace('.', "/"));
            if path.split('.').next() == Some("sentence_transformers") {
                continue;
            }
            if let Sibling::Here(_) = self.piece.source.sibling(&local) {
                self.code("modules", class, &local, context);
                continue;
            }
            let loaders = &["sentence_transformers.SentenceTransformer"];
            let (severity, title) = match (target::called(class), target::imported(path)) {
                (Target::Dangerous(_), _) => {
                    (Severity::High, "a module of the model is a callable that acts on the machine")
                }
                (_, Target::Odd) => (Severity::Medium, "a module of the model comes from a library that has no models"),
                _ => continue,
            };
            context.report(self.finding("SNS-523", severity, title).text("type", class).loaders(loaders));
        }
    }

    /// TorchServe: the handler runs when the model is registered.
    fn manifest(&self, json: &Json, context: &mut Context<'_>) {
        let Some(handler) = json.get("model").and_then(|model| model.text("handler")) else { return };
        if escape(handler.as_bytes()).is_some() {
            let finding = self.finding("SNS-305", Severity::Medium, "the handler lies outside the archive");
            context.report(finding.text("handler", handler).loaders(&["torchserve"]));
        }
    }

    /// `weight_map`: the files that hold the tensors.
    fn index(&self, json: &Json, context: &mut Context<'_>) {
        let Some(map) = json.get("weight_map") else { return };
        let mut shards: Vec<&str> = map.entries().iter().filter_map(|(_, value)| value.str()).collect();
        shards.sort_unstable();
        shards.dedup();
        // What else may be wrong with the names is said where the list is read as one.
        for shard in shards.iter().take(SHARDS_MAX) {
            if matches!(self.piece.source.sibling(shard), Sibling::Missing) {
                let title = "a shard of the model is missing: what it holds was not scanned";
                context.report(self.finding("SNS-703", Severity::Low, title).text("shard", shard));
            }
        }
        if shards.len() > SHARDS_MAX {
            context.limit_reached("shards", SHARDS_MAX as u64, self.piece.member.as_deref(), None);
        }
    }
}
