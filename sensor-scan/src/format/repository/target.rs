//! What a dotted name stands for that a configuration asks somebody to import, or to call.

use crate::rule::globals::{self, Effect, Level};

/// What is known of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// Listed as harmless, or part of a package whose own configurations name its own classes.
    Safe,
    Unknown,
    /// Part of the standard library, where no model configuration has any business, or listed as risky.
    Odd,
    Dangerous(Effect),
}

/// Judges `module.name` as something that is called.
pub fn called(path: &str) -> Target {
    let path = path.trim().replace(':', ".");
    let mut at = path.len();
    let mut found = None;
    // The longest module first; what is behind it is a name in it.
    while let Some(dot) = path[..at].rfind('.') {
        at = dot;
        found = judge(&path[..dot], &path[dot + 1..]);
        if found.is_some() {
            break;
        }
    }
    let root = path.split('.').next().unwrap_or_default();
    match found {
        Some((Level::Dangerous, effect)) => Target::Dangerous(effect),
        Some((Level::Risky, effect)) if !matches!(effect, Effect::None | Effect::Trampoline | Effect::Deserialise) => {
            Target::Odd
        }
        Some((Level::Safe, _)) if shown(&path) == Target::Unknown => Target::Safe,
        _ if !path.contains('.') => {
            // A bare name is one of the builtins for those who look it up there.
            match judge("builtins", &path) {
                Some((Level::Dangerous, effect)) => Target::Dangerous(effect),
                _ => Target::Unknown,
            }
        }
        _ if globals::is_stdlib(root) && !HARMLESS.contains(&root) => Target::Odd,
        _ => shown(&path),
    }
}

/// A module that acts, reached as an attribute of one that nobody here knows: `acme.utils.os.system`.
fn shown(path: &str) -> Target {
    const ACTING: [&str; 8] = ["os", "posix", "nt", "subprocess", "builtins", "importlib", "pty", "runpy"];
    for (at, _) in path.match_indices('.') {
        let rest = &path[at + 1..];
        if ACTING.contains(&rest.split('.').next().unwrap_or_default())
            && let target @ Target::Dangerous(_) = called(rest)
        {
            return target;
        }
    }
    Target::Unknown
}

fn judge(module: &str, name: &str) -> Option<(Level, Effect)> {
    let module = globals::canonical_module(module).unwrap_or_else(|| module.to_owned());
    // `shutil.os.system`: what the module shows under another module's name.
    if let Some((first, rest)) = name.split_once('.')
        && let Some(target) = globals::alias(&module, first)
    {
        return judge(&target.replace(':', "."), rest);
    }
    if let Some(target) = globals::alias(&module, name) {
        return match target.split_once(':') {
            Some((module, name)) => judge(module, name),
            None => Some((Level::Risky, Effect::Import)),
        };
    }
    if let Some((outer, last)) = module.rsplit_once('.')
        && let Some(target) = globals::alias(outer, last)
        && target != module
    {
        return judge(&target.replace(':', "."), name);
    }
    globals::lookup(&module, name).map(|(rule, _)| (rule.called, rule.effect))
}

/// Judges a module that is imported by its name.
pub fn imported(module: &str) -> Target {
    let root = module.trim().split('.').next().unwrap_or_default();
    match root {
        _ if globals::is_stdlib(root) && !HARMLESS.contains(&root) => Target::Odd,
        "pip" | "setuptools" | "IPython" | "fabric" | "paramiko" | "pexpect" | "psutil" | "sh" | "plumbum" => {
            Target::Odd
        }
        _ => Target::Unknown,
    }
}

/// Modules of the standard library that hold values.
const HARMLESS: &[&str] = &[
    "collections",
    "datetime",
    "decimal",
    "fractions",
    "math",
    "pathlib",
    "uuid",
    "enum",
    "dataclasses",
    "typing",
    "numbers",
    "string",
    "random",
    "statistics",
    "functools",
    "itertools",
    "operator",
    "types",
    "argparse",
    "logging",
    "abc",
    "copy",
    "json",
    "re",
    "time",
    "calendar",
    "ipaddress",
    "builtins",
    "__main__",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_judged_as_what_they_are() {
        for path in [
            "os.system",
            "posix.system",
            "subprocess.run",
            "subprocess.Popen",
            "builtins.eval",
            "eval",
            "shutil.os.system",
            "os:system",
            "nt.system",
            "builtins.exec",
            "runpy.run_path",
            "acme.utils.os.system",
            "nemo.collections.asr.subprocess.Popen",
        ] {
            assert!(matches!(called(path), Target::Dangerous(_)), "{path}: {:?}", called(path));
        }
        for path in [
            "torch.nn.Linear",
            "nemo.collections.asr.modules.AudioToMel",
            "my_model.Net",
            "transformers.AutoModel",
            "torch.optim.AdamW",
            "functools.partial",
            "collections.OrderedDict",
            "pathlib.Path",
        ] {
            assert!(matches!(called(path), Target::Safe | Target::Unknown), "{path}: {:?}", called(path));
        }
        assert_eq!((imported("os"), imported("peft")), (Target::Odd, Target::Unknown));
    }
}
