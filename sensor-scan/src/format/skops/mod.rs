//! skops: `schema.json` of the archive is a tree of nodes that names types, functions, methods and operators.
//!
//! Who executes what: `skops.io.load` imports `__module__.__class__` of a node and calls it as its `__loader__` says; what
//! is not trusted is refused, but trust is asked for by names that CVE-2025-54412 and -54413 (skops < 0.12) let a node
//! hide. `Card.get_model` before 0.13 falls back to joblib where the file is no archive (CVE-2025-54886).

use crate::context::Context;
use crate::finding::{Finding, Severity};
use crate::format::json::Json;
use crate::format::text;
use crate::rule::globals::{self, Effect, Level};

const LOADERS: &[&str] = &["skops.io.load"];

/// A schema: nodes with a loader, and the version that wrote it.
pub fn is_schema(json: &Json) -> bool {
    json.get("_skops_version").is_some() || json.get("__loader__").is_some() && json.get("__class__").is_some()
}

pub fn scan(json: &Json, member: Option<&[u8]>, context: &mut Context<'_>) {
    let mut nodes = Vec::new();
    json.walk(&mut |_, value| nodes.extend(matches!(value, Json::Object(_)).then_some(value)));
    for node in nodes {
        self::node(node, member, context);
    }
}

fn node(node: &Json, member: Option<&[u8]>, context: &mut Context<'_>) {
    let loader = node.text("__loader__").unwrap_or_default();
    let (module, class) = (node.text("__module__").unwrap_or_default(), node.text("__class__").unwrap_or_default());
    let mut report = |severity, title: &str, detail: &str| {
        let finding = Finding::new("SNS-103", severity, title).member(member).text("name", detail).text("node", loader);
        context.report(finding.loaders(LOADERS));
    };
    // The module and name may stand in the content of functions and methods too.
    let content = node.get("content");
    let inner = content.map(|content| {
        let module = content.text("module_path").unwrap_or_default();
        (module, content.text("function").or_else(|| content.text("func")).unwrap_or_default())
    });
    for (module, name) in [(module, class)].into_iter().chain(inner) {
        if module.is_empty() && name.is_empty() {
            continue;
        }
        let full = format!("{module}.{name}");
        match judge(module, name) {
            Judged::Acts(severity) => report(severity, "the schema names something that acts", &full),
            // The function that is bound is a node of its own.
            Judged::Operator if loader == "PartialNode" => {}
            Judged::Operator if loader != "OperatorFuncNode" => {
                report(
                    Severity::Medium,
                    "the schema names a function that reaches attributes or calls what it is given",
                    &full,
                );
            }
            Judged::Operator => operator(node, &full, &mut report),
            Judged::Ordinary => {}
        }
    }
    if loader == "MethodNode"
        && let Some(method) = content.and_then(|content| content.text("func")).or_else(|| node.text("func"))
        && (acts_by_name(method) || method.starts_with("__"))
    {
        report(Severity::High, "the schema calls a method that acts", method);
    }
    if let Some(path) = node.text("file")
        && text::leaves(path).is_some()
    {
        report(Severity::High, "the schema names a file outside the archive", path);
    }
}

/// `operator.methodcaller`, `attrgetter` and the like: by what they reach for.
fn operator(node: &Json, full: &str, report: &mut impl FnMut(Severity, &str, &str)) {
    let mut texts = Vec::new();
    if let Some(attributes) = node.get("attrs") {
        attributes.walk(&mut |key, value| {
            // Constants are JSON texts within the JSON.
            if key == "content"
                && let Some(text) = value.str()
            {
                let inner = Json::parse(text.as_bytes()).ok();
                texts.push(inner.as_ref().and_then(Json::str).unwrap_or(text).to_owned());
            }
        });
    }
    let reaches = texts.iter().find(|text| {
        acts_by_name(text) || text.split('.').any(|step| step.starts_with("__")) || text::active(text).is_some()
    });
    match reaches {
        Some(name) => report(Severity::High, "an operator that calls or reads something that acts", name),
        None if full.ends_with(".call") => {
            report(Severity::Medium, "an operator that calls what it is given", full);
        }
        None => report(Severity::Low, "an operator that reads attributes or calls methods by name", full),
    }
}

fn acts_by_name(name: &str) -> bool {
    const ACTS: &[&str] = &[
        "system",
        "popen",
        "Popen",
        "run",
        "call",
        "check_output",
        "check_call",
        "eval",
        "exec",
        "execute",
        "spawn",
        "compile",
        "open",
        "write",
        "unlink",
        "remove",
        "rmtree",
        "import_module",
        "load_module",
        "exec_module",
        "loads",
        "write_text",
        "write_bytes",
        "read_text",
        "urlopen",
        "getoutput",
        "fork",
        "kill",
        "send",
        "connect",
        "query",
        "to_pickle",
        "to_csv",
        "tofile",
        "dump",
        "download",
        "extractall",
    ];
    ACTS.contains(&name)
}

enum Judged {
    Ordinary,
    Operator,
    Acts(Severity),
}

fn judge(module: &str, name: &str) -> Judged {
    let canonical = globals::canonical_module(module).unwrap_or_else(|| module.to_owned());
    let root = module.split('.').next().unwrap_or_default();
    let rule = globals::lookup(&canonical, name).map(|(rule, _)| rule);
    let attribute = matches!(canonical.as_str(), "operator" | "_operator")
        || rule.is_some_and(|rule| matches!(rule.effect, Effect::Attribute | Effect::Trampoline));
    match rule.map(|rule| rule.called) {
        _ if name
            .split('.')
            .chain(module.split('.'))
            .any(|step| step.starts_with("__") && step.ends_with("__") && step != "__main__") =>
        {
            Judged::Acts(Severity::High)
        }
        _ if attribute => Judged::Operator,
        Some(Level::Dangerous) => Judged::Acts(Severity::Critical),
        Some(Level::Risky) => Judged::Acts(Severity::Medium),
        None | Some(Level::Unknown) if globals::is_stdlib(root) && !VALUES.contains(&root) => {
            Judged::Acts(Severity::Medium)
        }
        _ => Judged::Ordinary,
    }
}

/// Modules of the standard library whose classes are plain values.
const VALUES: &[&str] = &[
    "builtins",
    "collections",
    "datetime",
    "decimal",
    "fractions",
    "functools",
    "enum",
    "uuid",
    "random",
    "re",
    "types",
    "typing",
    "pathlib",
    "string",
    "numbers",
    "math",
    "itertools",
    "abc",
    "dataclasses",
    "array",
    "__main__",
    "copy",
];

#[cfg(test)]
mod tests {
    use crate::source::MemorySource;
    use crate::{Limits, Verdict, scan as scan_file};

    fn judged(schema: &str) -> Verdict {
        let report = scan_file(
            &MemorySource::new(schema.as_bytes(), b"schema.json"),
            &Limits::default(),
            &crate::Policy::standard(),
        );
        assert_eq!(report.format, "skops-schema", "{schema}");
        report.verdict
    }

    fn in_a_list(node: &str) -> String {
        format!(
            r#"{{"__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": [{node}], "_skops_version": "0.12"}}"#
        )
    }

    #[test]
    fn nodes_that_act_wherever_they_stand() {
        for node in [
            r#"{"__class__": "system", "__module__": "posix", "__loader__": "FunctionNode", "content": {"module_path": "posix", "function": "system"}}"#,
            r#"{"__class__": "x", "__module__": "sklearn", "__loader__": "FunctionNode", "content": {"module_path": "os", "function": "system"}}"#,
            r#"{"__class__": "Popen", "__module__": "subprocess", "__loader__": "ObjectNode", "content": {}}"#,
            r#"{"__class__": "methodcaller", "__module__": "operator", "__loader__": "OperatorFuncNode", "attrs": {"content": [{"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "\"system\"", "is_json": true}], "__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}}"#,
            r#"{"__class__": "attrgetter", "__module__": "_operator", "__loader__": "OperatorFuncNode", "attrs": {"content": [{"content": "\"__globals__\"", "__loader__": "JsonNode", "__class__": "str", "__module__": "builtins"}], "__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode"}}"#,
            r#"{"__class__": "call", "__module__": "builtins", "__loader__": "MethodNode", "content": {"func": "__call__", "obj": {}}}"#,
            r#"{"__class__": "eval", "__module__": "builtins", "__loader__": "TypeNode"}"#,
            r#"{"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "file": "../../x.npy"}"#,
        ] {
            assert_eq!(judged(&in_a_list(node)), Verdict::Malicious, "{node}");
        }
    }

    #[test]
    fn an_operator_that_calls_what_it_is_given() {
        let node = |name: &str| {
            format!(
                r#"{{"__class__": "{name}", "__module__": "operator", "__loader__": "OperatorFuncNode", "attrs": {{"content": []}}}}"#
            )
        };
        assert_eq!(judged(&in_a_list(&node("call"))), Verdict::Suspicious);
        assert_eq!(judged(&in_a_list(&node("itemgetter"))), Verdict::Clean);
    }

    #[test]
    fn ordinary_nodes() {
        for node in [
            r#"{"__class__": "LogisticRegression", "__module__": "sklearn.linear_model._logistic", "__loader__": "ObjectNode", "content": {}}"#,
            r#"{"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy", "file": "123.npy"}"#,
            r#"{"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "content": "\"lbfgs\"", "is_json": true}"#,
            r#"{"__class__": "partial", "__module__": "functools", "__loader__": "PartialNode", "content": {}}"#,
            r#"{"__class__": "MyTransformer", "__module__": "__main__", "__loader__": "ObjectNode", "content": {}}"#,
            r#"{"__class__": "exp", "__module__": "scipy.special._ufuncs", "__loader__": "FunctionNode", "content": {"module_path": "scipy.special._ufuncs", "function": "expit"}}"#,
        ] {
            assert!(matches!(judged(&in_a_list(node)), Verdict::Clean | Verdict::Suspicious), "{node}");
        }
    }
}
