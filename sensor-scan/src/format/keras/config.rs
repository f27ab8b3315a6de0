//! The configuration as a tree: every object in it, whatever key it stands under, is what keras would deserialise.

use super::module::{self, Leads};
use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::format::json::{self, Json, TEXT_BYTES_MAX};
use crate::format::{self, marshal, text};

/// Keys under which a path or a URL is opened by a layer, and a list or a name is normal.
const RESOURCES: &[&str] = &[
    "vocabulary",
    "filepath",
    "file_path",
    "filename",
    "file",
    "fname",
    "path",
    "origin",
    "url",
    "handle",
    "directory",
    "log_dir",
    "cache_dir",
    "cache_subdir",
    "export_dir",
    "model_path",
    "weights",
    "module_path",
    "backup_dir",
    "untar",
    "proto",
    "merges",
    "vocabulary_file",
    "sentencepiece_model",
    "idf_weights",
    "mask_token_file",
    "root",
];
/// Layers that are dangerous by what they are for.
const LOADERS: &[(&str, Severity, &str)] = &[
    ("TFSMLayer", Severity::High, "a layer that loads a SavedModel from a path"),
    ("TorchModuleWrapper", Severity::High, "a layer that unpickles a torch module"),
];
const KERAS: &[&str] = &["keras.models.load_model(safe_mode=False)", "keras 2", "keras < 3.9"];

/// Reads a text as a Keras configuration; `false` where it is none, or no JSON.
pub fn scan_text(text: &[u8], member: Option<&[u8]>, context: &mut Context<'_>) -> bool {
    let plain = json::narrow(text);
    let text = plain.as_deref().unwrap_or(text);
    if text.iter().find(|byte| !byte.is_ascii_whitespace()) != Some(&b'{') {
        return false;
    }
    if text.len() > TEXT_BYTES_MAX {
        context.limit_reached("config_bytes", TEXT_BYTES_MAX as u64, member, None);
    }
    match Json::prefix(&text[..text.len().min(TEXT_BYTES_MAX)]) {
        Ok((json, _)) if is_config(&json) => {
            scan(&json, member, context);
            true
        }
        Ok(_) => false,
        Err(broken) => {
            // What a tolerant reader still can't read, but that looks like a configuration, is not clean.
            if contains(text, b"class_name") {
                let finding = Finding::new("SNS-903", Severity::Low, "a Keras configuration that can't be read");
                context.report(finding.member(member).text("reason", broken.to_string()));
                return true;
            }
            false
        }
    }
}

fn contains(text: &[u8], word: &[u8]) -> bool {
    text.windows(word.len()).any(|window| window == word)
}

/// A serialised object of keras at the top, or a few levels down.
pub fn is_config(json: &Json) -> bool {
    let is_object = |json: &Json| {
        json.get("class_name").is_some_and(|name| name.str().is_some())
            && (json.get("config").is_some() || json.get("module").is_some() || json.get("registered_name").is_some())
    };
    let mut found = false;
    json.walk(&mut |_, value| found |= is_object(value));
    found
}

/// Judges a configuration.
pub fn scan(json: &Json, member: Option<&[u8]>, context: &mut Context<'_>) {
    let mut judge = Judge { member, context };
    json.walk(&mut |key, value| match value {
        Json::Object(entries) => judge.object(value, entries),
        Json::Text(text) => judge.text(key, text),
        _ => {}
    });
}

struct Judge<'m, 'c, 'l> {
    member: Option<&'m [u8]>,
    context: &'c mut Context<'l>,
}

impl Judge<'_, '_, '_> {
    fn report(&mut self, id: &'static str, severity: Severity, title: &str, detail: (&'static str, &str)) {
        let finding = Finding::new(id, severity, title).member(self.member).text(detail.0, detail.1);
        self.context.report(finding.loaders(KERAS));
    }

    fn object(&mut self, object: &Json, entries: &[(Box<str>, Json)]) {
        let class = object.text("class_name").unwrap_or_default();
        let module = object.text("module").unwrap_or_default();
        let registered = object.text("registered_name").unwrap_or_default();
        if class == "__lambda__" {
            // Its code is found as a text below; where there is none to be read, that is no better.
            let config = object.get("config").unwrap_or(object);
            if !self.has_code(config) {
                self.opaque(class);
            }
        }
        // Legacy configurations mark code beside it: `function_type`, `output_shape_type`, `mask_type`.
        for (key, value) in entries {
            if key.ends_with("_type") && value.str() == Some("lambda") {
                let code = object.get(key.trim_end_matches("_type"));
                if !code.is_some_and(|code| self.has_code(code)) {
                    self.opaque(key);
                }
            }
            if key.ends_with("_type")
                && value.str() == Some("function")
                && let Some(name) = object.text(key.trim_end_matches("_type"))
            {
                self.leads(module, name, true, false);
            }
        }
        if entries.iter().any(|(key, value)| &**key == "safe_mode" && *value == Json::Bool(false)) {
            self.report("SNS-424", Severity::Medium, "the configuration switches safe mode off", ("key", "safe_mode"));
        }
        if class.is_empty() && module.is_empty() && registered.is_empty() {
            return;
        }
        let function = class == "function" || class == "function_type" || class == "builtin_function_or_method";
        let name = if function { object.text("config").unwrap_or(registered) } else { class };
        let callee = [(module, name), module::split(name), (module, registered), module::split(registered)];
        let called = object.get("inbound_nodes").is_some_and(|nodes| !nodes.items().is_empty());
        for (module, name) in callee {
            self.leads(module, name, function, called);
        }
        self.own(class, module);
    }

    fn leads(&mut self, module: &str, name: &str, function: bool, called: bool) {
        if name.is_empty() {
            return;
        }
        let full = format!("{module}.{name}");
        if let Some((_, severity, why)) = LOADERS.iter().find(|(layer, ..)| *layer == name) {
            self.report("SNS-423", *severity, why, ("class", name));
            return;
        }
        match module::judge(module, name, function) {
            Leads::Foreign(severity, why) => {
                let id = if name == "enable_unsafe_deserialization" { "SNS-424" } else { "SNS-422" };
                self.report(id, severity, &format!("the configuration names {why}"), ("name", &full));
            }
            Leads::Own if function && called => {
                let title = "the configuration calls a function of its own";
                self.report("SNS-422", Severity::Low, title, ("name", &full));
            }
            Leads::Own | Leads::Ordinary => {}
        }
    }

    /// A class that keras does not have needs code that comes from elsewhere.
    fn own(&mut self, class: &str, module: &str) {
        let root = module.split('.').next().unwrap_or_default();
        if !class.is_empty()
            && !root.is_empty()
            && matches!(module::judge(module, class, false), Leads::Own)
            && !matches!(class, "function" | "__lambda__" | "__tuple__" | "__numpy__" | "__tensor__" | "__typespec__")
        {
            let full = format!("{module}.{class}");
            self.report("SNS-422", Severity::Info, "the configuration names a class of its own", ("name", &full));
        }
    }

    fn opaque(&mut self, key: &str) {
        self.report("SNS-421", Severity::High, "marshalled code that can't be read", ("key", key));
    }

    /// Whether a value, or anything in it, is marshalled code that [`Self::text`] reads.
    fn has_code(&self, value: &Json) -> bool {
        let mut found = false;
        value.walk(&mut |_, value| found |= value.str().is_some_and(|text| code(text).is_some()));
        found
    }

    fn text(&mut self, key: &str, value: &str) {
        if let Some(bytes) = text::decoded(value) {
            self.bytes(key, &bytes);
        }
        // tf_keras before 2.0 wrote code without base64.
        if value.len() > 40 && (value.starts_with("c\0") || value.starts_with("ã")) {
            let bytes: Vec<u8> = value.chars().map(|char| char as u32 as u8).collect();
            self.bytes(key, &bytes);
        }
        if let Some(why) = text::leaves(value).filter(|_| RESOURCES.contains(&key)) {
            let title = format!("a layer opens {why}");
            let hub = key == "handle" && HUBS.iter().any(|hub| value.starts_with(hub));
            let severity = if hub { Severity::Low } else { Severity::High };
            self.report("SNS-423", severity, &title, ("value", value));
        } else if value.starts_with("file:") || value.starts_with("/etc/") || value.starts_with("/proc/") {
            self.report("SNS-423", Severity::Medium, "a path of the system among the operands", ("value", value));
        }
        if text::active(value).is_some() {
            self.report("SNS-422", Severity::Medium, "a text of the configuration is code", ("value", value));
        }
    }

    fn bytes(&mut self, key: &str, bytes: &[u8]) {
        if marshal::looks_like(bytes)
            || matches!(key, "code" | "function") && matches!(bytes.first(), Some(b'c' | 0xe3))
        {
            match marshal::code(bytes) {
                Some(code) => {
                    let (severity, why) = code.severity();
                    let names = code.names.join(" ");
                    let detail = ("names", names.as_str());
                    let title = match why {
                        Some(_) => "marshalled code that acts",
                        None => "marshalled code, which runs when the model is loaded or called",
                    };
                    let finding = Finding::new("SNS-421", severity, title).member(self.member).text(detail.0, detail.1);
                    let finding = finding.text("key", key).loaders(KERAS);
                    self.context.report(match why {
                        Some(why) => finding.text("because", why),
                        None => finding,
                    });
                }
                None => self.opaque(key),
            }
            return;
        }
        if text::holds_pickle(bytes, &format::member(self.member, key.as_bytes()), self.context) {
            self.report("SNS-110", Severity::Medium, "a pickle or an archive in the configuration", ("key", key));
        }
    }
}

/// Where `tensorflow_hub` modules ordinarily come from.
const HUBS: &[&str] = &["https://tfhub.dev/", "https://www.kaggle.com/models/", "https://kaggle.com/models/"];

/// Marshalled code in a text.
fn code(text: &str) -> Option<marshal::Code> {
    marshal::code(&text::decoded(text)?)
}

#[cfg(test)]
#[path = "tests.rs"]
pub mod tests;
