//! Settings that name what is to be called: Hydra's `_target_` and its relatives in YAML and JSON, object tags, MLflow.

use std::borrow::Cow;

use super::code::{self, Named};
use super::target::{self, Target};
use super::yaml::{self, Token};
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format::jinja;
use crate::format::json::Json;

/// Keys whose value is called or imported, and who does it. The second part says whether only that is meant by the key.
const KEYS: &[(&str, bool, &str)] = &[
    ("_target_", true, "hydra.utils.instantiate"),
    ("class_path", false, "jsonargparse and LightningCLI"),
    ("target", false, "instantiate_from_config of latent diffusion"),
    ("()", false, "logging.config.dictConfig"),
    ("_component_", false, "torchtune"),
];

fn key(key: &str) -> Option<(bool, &'static str)> {
    KEYS.iter().find(|(known, ..)| *known == key).map(|(_, sure, loader)| (*sure, *loader))
}

/// Every `_target_` of a JSON tree.
pub fn targets(piece: &Piece<'_>, json: &Json, context: &mut Context<'_>) {
    json.walk(&mut |name, value| {
        if let (Some((sure, loader)), Some(path)) = (key(name), value.str()) {
            call(piece, None, (sure, loader), path, context);
        }
        // What `get_method` and `get_class` resolve stands beside them.
        if resolver(value.text("_target_").unwrap_or_default())
            && let Some(path) = value.text("path")
        {
            call(piece, None, (true, "hydra.utils.instantiate"), path, context);
        }
    });
}

fn resolver(path: &str) -> bool {
    matches!(
        path,
        "hydra.utils.get_method"
            | "hydra.utils.get_class"
            | "hydra.utils.get_object"
            | "hydra.utils.call"
            | "hydra.utils.instantiate"
            | "pydoc.locate"
            | "importlib.import_module"
    )
}

/// Judges what a configuration asks to be called.
fn call(
    piece: &Piece<'_>,
    at: Option<usize>,
    (sure, loader): (bool, &'static str),
    path: &str,
    context: &mut Context<'_>,
) {
    let (severity, title) = match target::called(path) {
        Target::Dangerous(effect) => {
            (Severity::High, format!("the configuration has something called that {}", effect.phrase()))
        }
        Target::Odd if sure => {
            (Severity::Medium, "the configuration has something called that no model is built of".to_owned())
        }
        Target::Unknown if sure => (Severity::Info, "the configuration names what is to be called".to_owned()),
        _ => return,
    };
    // Only dotted names are looked up.
    if !sure && !path.contains('.') {
        return;
    }
    let mut finding = Finding::new("SNS-521", severity, title).member(piece.member.as_deref()).text("target", path);
    finding.offset = at.map(|at| at as u64);
    context.report(finding.loaders(&[loader]));
}

/// A YAML file.
pub fn scan(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let tokens = yaml::tokens(text);
    let mut resolves = false;
    for (index, (at, token)) in tokens.iter().enumerate() {
        if context.expired() {
            return;
        }
        match token {
            Token::Tag(tag) => self::tag(piece, *at, tag, context),
            Token::Key(name) => {
                let value = tokens[index + 1..].iter().take(3).find_map(|(_, token)| match token {
                    Token::Scalar(value) => Some(Some(value)),
                    Token::Key(_) => Some(None),
                    Token::Tag(_) => None,
                });
                let Some(Some(value)) = value else { continue };
                if let Some(key) = key(name) {
                    call(piece, Some(*at), key, &interpolated(value, &tokens), context);
                    resolves = resolver(value);
                } else if name == "chat_template" && jinja::is_template(value) {
                    jinja::scan_text("chat_template", value, piece.member.as_deref(), context);
                } else if resolves && matches!(name.as_str(), "path" | "name" | "obj") {
                    call(piece, Some(*at), (true, "hydra.utils.instantiate"), value, context);
                }
            }
            Token::Scalar(_) => {}
        }
    }
}

/// OmegaConf puts the value of another key where `${path.key}` stands.
fn interpolated<'a>(value: &'a str, tokens: &[(usize, Token)]) -> Cow<'a, str> {
    const KEYS_MAX: usize = 8;
    let mut value = Cow::Borrowed(value);
    for _ in 0..KEYS_MAX {
        let Some((before, (path, after))) =
            value.split_once("${").and_then(|(before, rest)| Some((before, rest.split_once('}')?)))
        else {
            break;
        };
        let wanted = path.rsplit(['.', ':']).next().unwrap_or(path);
        let is_wanted = |pair: &&[(usize, Token)]| matches!(&pair[0].1, Token::Key(name) if name == wanted);
        let Some([_, (_, Token::Scalar(found))]) = tokens.windows(2).find(is_wanted) else { break };
        value = Cow::Owned(format!("{before}{found}{after}"));
    }
    value
}

const PYYAML: &[&str] = &["yaml.unsafe_load", "yaml.load with UnsafeLoader", "yaml.load of PyYAML < 5.1"];

/// `!!python/…` constructs, calls or imports; `!new:`, `!apply:` and `!name:` are those of HyperPyYAML.
fn tag(piece: &Piece<'_>, at: usize, tag: &str, context: &mut Context<'_>) {
    let mut report = |severity, title: &str, loaders: &[&'static str]| {
        let finding = Finding::new("SNS-522", severity, title).member(piece.member.as_deref());
        context.report(finding.at(at as u64).text("tag", tag).loaders(loaders));
    };
    for (prefix, sure) in [("!new:", false), ("!apply:", true), ("!name:", false), ("!module:", false)] {
        if let Some(path) = tag.strip_prefix(prefix) {
            match target::called(path) {
                Target::Dangerous(_) => {
                    report(Severity::High, "a tag has something called that acts on the machine", &["hyperpyyaml"]);
                }
                Target::Odd if sure => {
                    report(Severity::Medium, "a tag has something called that no model is built of", &["hyperpyyaml"]);
                }
                _ => {}
            }
            return;
        }
    }
    let Some(kind) = tag.strip_prefix("tag:yaml.org,2002:python/") else { return };
    let (kind, path) = kind.split_once(':').unwrap_or((kind, ""));
    match kind {
        "object/apply" | "object/new" | "object" | "name" => {
            let calls = kind != "name";
            match target::called(path) {
                Target::Dangerous(_) => {
                    report(Severity::High, "a tag has something called that acts on the machine", PYYAML);
                }
                Target::Odd => report(Severity::Medium, "a tag names what no model is built of", PYYAML),
                Target::Unknown if calls && kind != "object" => {
                    report(Severity::Medium, "a tag has an unknown callable called", PYYAML);
                }
                _ => report(Severity::Low, "a tag makes an object of Python", PYYAML),
            }
        }
        "module" => {
            let severity = if target::imported(path) == Target::Odd { Severity::Medium } else { Severity::Low };
            report(severity, "a tag imports a module", PYYAML);
        }
        _ => {}
    }
}

/// `MLmodel`: the flavour `python_function` imports its `loader_module`, with `code/` on the path.
pub fn mlflow(piece: &Piece<'_>, text: &str, context: &mut Context<'_>) {
    let tokens = yaml::tokens(text);
    for (index, (at, token)) in tokens.iter().enumerate() {
        let (Token::Key(name), Some((_, Token::Scalar(module)))) = (token, tokens.get(index + 1)) else { continue };
        if name != "loader_module" || module.starts_with("mlflow.") {
            continue;
        }
        let member = piece.member.as_deref();
        let file = format!("{}.py", module.replace('.', "/"));
        let found = [file.clone(), format!("code/{file}"), format!("code/{}/__init__.py", module.replace('.', "/"))]
            .into_iter()
            .map(|path| code::named(piece.source, &path, context))
            .find(|named| !matches!(named, Named::Missing | Named::Unseen));
        let loaders = &["mlflow.pyfunc.load_model"];
        let finding = match found {
            Some(Named::Does { severity, what, file, line }) => {
                let title = format!("loader_module names code that {what}");
                Finding::new("SNS-523", severity, title).text("file", file).number("line", line.into())
            }
            _ if target::imported(module) == Target::Odd => {
                Finding::new("SNS-523", Severity::Medium, "loader_module names a module that loads no models")
            }
            _ => Finding::new("SNS-523", Severity::Info, "loader_module names a module that is imported"),
        };
        context.report(finding.member(member).at(*at as u64).text("module", module).loaders(loaders));
    }
}
