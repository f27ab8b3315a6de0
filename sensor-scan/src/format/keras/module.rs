//! What the module, class and function names of a configuration lead to.

use crate::finding::Severity;
use crate::rule::globals::{self, Level};

/// Parts of keras whose classes a model is made of.
const MODELING: &[&str] = &[
    "",
    "layers",
    "models",
    "engine",
    "activations",
    "initializers",
    "regularizers",
    "constraints",
    "losses",
    "metrics",
    "optimizers",
    "dtype_policies",
    "quantizers",
    "ops",
    "random",
    "operations",
    "mixed_precision",
    "src",
    "distribution",
    "preprocessing",
    "feature_column",
    "legacy",
    "legacy_tf_layers",
    "api",
    "_tf_keras",
    "keras",
    "backend",
    "saving",
    "utils",
    "trainers",
    "callbacks",
    "applications",
    "distillation",
    "optimizers.schedules",
    "datasets",
    "config",
];
/// Functions and classes of keras that read, write, fetch, load or switch safety off.
const GADGETS: &[&str] = &[
    "get_file",
    "load_model",
    "load_weights",
    "save_model",
    "save_weights",
    "load_img",
    "save_img",
    "model_from_json",
    "model_from_config",
    "model_from_yaml",
    "clone_model",
    "deserialize_keras_object",
    "enable_unsafe_deserialization",
    "disable_safe_mode",
    "func_load",
    "func_dump",
    "image_dataset_from_directory",
    "text_dataset_from_directory",
    "audio_dataset_from_directory",
    "plot_model",
    "model_to_dot",
    "custom_object_scope",
    "CustomObjectScope",
    "SafeModeScope",
    "set_backend",
    "set_floatx",
    "ModelCheckpoint",
    "CSVLogger",
    "RemoteMonitor",
    "TensorBoard",
    "BackupAndRestore",
    "LambdaCallback",
    "ExportArchive",
    "set_dtype_policy",
    "extract_archive",
    "FileEditor",
    "KerasFileEditor",
    "load_data",
    "DiskIOStore",
    "H5IOStore",
    "get_custom_objects",
    "print_msg",
    "run_eagerly",
    "execute_subclass",
    "exec",
    "eval",
    "import_module",
    "getattr",
    "delete",
    "rmtree",
];

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leads {
    /// Something that models are made of, or that nobody here knows and that has to be installed already.
    Ordinary,
    /// A class or function of the user's own: it adds nothing that is not there.
    Own,
    Foreign(Severity, &'static str),
}

/// Judges `module.name`; a function is called with what the configuration says, a class constructed.
pub fn judge(module: &str, name: &str, function: bool) -> Leads {
    let module = module.trim();
    let root = module.split('.').next().unwrap_or_default();
    if GADGETS.contains(&name) && matches!(root, "keras" | "tf_keras" | "tensorflow" | "keras_hub" | "keras_nlp" | "") {
        return Leads::Foreign(Severity::High, "a function of keras that reads, writes, fetches or loads");
    }
    match root {
        "keras" | "tf_keras" | "keras_hub" | "keras_cv" | "keras_nlp" => {
            let inner = module.split('.').nth(1).unwrap_or_default();
            let known = root != "keras" && root != "tf_keras" || MODELING.contains(&inner);
            if !known
                || function && matches!(inner, "utils" | "saving" | "config" | "callbacks" | "datasets" | "export")
            {
                return Leads::Foreign(Severity::High, "a part of keras that no model is made of");
            }
            if globals_say(module, name) == Some(Level::Dangerous) && function {
                return Leads::Foreign(Severity::High, "a function of keras that acts");
            }
            Leads::Ordinary
        }
        "" => Leads::Ordinary,
        // Keras writes this module for every function that was not registered.
        "builtins" | "__builtin__" => match globals_say("builtins", name) {
            Some(Level::Dangerous | Level::Risky) => {
                Leads::Foreign(Severity::Critical, "a function of Python that acts")
            }
            _ => Leads::Own,
        },
        _ => foreign(module, root, name, function),
    }
}

fn foreign(module: &str, root: &str, name: &str, function: bool) -> Leads {
    match globals_say(module, name) {
        Some(Level::Dangerous) => Leads::Foreign(Severity::Critical, "a callable that acts"),
        Some(Level::Risky) => Leads::Foreign(Severity::High, "a callable that may act"),
        _ if globals::is_stdlib(root) && root != "__main__" => {
            Leads::Foreign(Severity::High, "a module of Python's standard library")
        }
        Some(Level::Safe) if !function => Leads::Ordinary,
        _ if matches!(root, "tensorflow" | "tensorflow_addons" | "tensorflow_hub" | "tensorflow_probability") => {
            Leads::Ordinary
        }
        _ if function && (globals::is_known_root(root) || crate::format::pickle::acts_by_name(name)) => {
            Leads::Foreign(Severity::Medium, "a function outside keras")
        }
        _ => Leads::Own,
    }
}

fn globals_say(module: &str, name: &str) -> Option<Level> {
    let canonical = globals::canonical_module(module).unwrap_or_else(|| module.to_owned());
    globals::lookup(&canonical, name).map(|(rule, _)| rule.called)
}

/// The module and the name of a dotted name, as it may stand in `class_name` or `registered_name`.
pub fn split(dotted: &str) -> (&str, &str) {
    dotted.rsplit_once(['.', '>', ':']).unwrap_or(("", dotted))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_where_they_lead() {
        for (module, name, function) in [
            ("os", "system", true),
            ("posix", "system", true),
            ("subprocess", "Popen", false),
            ("builtins", "eval", true),
            ("builtins", "exec", true),
            ("keras.utils", "get_file", true),
            ("keras.src.utils.file_utils", "get_file", true),
            ("keras.config", "enable_unsafe_deserialization", true),
            ("keras.saving", "load_model", true),
            ("keras.models", "load_model", true),
            ("keras.utils", "anything", true),
            ("webbrowser", "open", true),
            ("collections", "Counter", false),
            ("pathlib", "Path", false),
        ] {
            let leads = judge(module, name, function);
            assert!(
                matches!(leads, Leads::Foreign(severity, _) if severity >= Severity::High),
                "{module}.{name} {leads:?}"
            );
        }
        for (module, name, function) in [
            ("keras", "Sequential", false),
            ("keras.layers", "Dense", false),
            ("keras.src.models.functional", "Functional", false),
            ("keras.optimizers.schedules", "ExponentialDecay", false),
            ("keras.activations", "relu", true),
            ("builtins", "my_loss", true),
            ("my_project.layers", "Attention", false),
            ("__main__", "Attention", false),
            ("keras_hub.src.models.bert", "BertBackbone", false),
            ("tensorflow.python.ops", "relu", true),
        ] {
            assert!(!matches!(judge(module, name, function), Leads::Foreign(..)), "{module}.{name}");
        }
    }
}
