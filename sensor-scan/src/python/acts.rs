//! The severity of one act: what it does × with what × when it runs × who runs it.

use super::effect::{self, Act};
use super::judge::{Judge, When};
use super::module::Scope;
use super::value::{DECODED, NETWORK, PLACE, SECRET, VARIABLE, Value, What};
use super::{Found, Role};
use crate::finding::Severity;
use crate::rule::globals;
use crate::shell::{self, Command};

/// Shown of a command or a piece of code.
const SHOWN_CHARS: usize = 200;
/// Source in source in source.
const SOURCE_DEPTH_MAX: u32 = 3;

impl Judge<'_> {
    pub(super) fn act(
        &mut self,
        act: Act,
        callee: &Value,
        plain: &[Value],
        named: &[(&str, Value)],
        scope: Scope,
        line: u32,
    ) {
        let first = plain
            .first()
            .or_else(|| named.iter().find(|(name, _)| effect::keyword(act).contains(name)).map(|(_, value)| value))
            .cloned()
            .unwrap_or(Value::UNKNOWN);
        let origin = plain.iter().chain(named.iter().map(|(_, value)| value)).fold(0, |all, value| all | value.origin);
        self.note(act, origin, scope, line);
        let when = self.when_of(scope);
        let (severity, what, detail) = match act {
            Act::Command => {
                let words = if matches!(first.what, What::List(_)) || plain.len() < 2 {
                    first.as_command()
                } else {
                    spread(callee, plain)
                };
                self.command(when, words, origin)
            }
            Act::Code => {
                if self.code(&first, callee, scope, line) {
                    return;
                }
                self.unknown_code(when, origin)
            }
            Act::Deserialise => match &first.what {
                What::Bytes(bytes) => {
                    self.pickles.push((line, bytes.to_vec()));
                    (Severity::Low, "unpickles a constant".to_owned(), String::new())
                }
                _ if origin & NETWORK != 0 => {
                    (self.scaled(when, Severity::High), "unpickles what it downloads".to_owned(), String::new())
                }
                _ => return,
            },
            Act::Network => self.network(when, &first, plain, named, origin),
            Act::Open => {
                // A path's own method is not given the path.
                let method = callee.is_path();
                let mode = plain
                    .get(usize::from(!method))
                    .or_else(|| named.iter().find(|(name, _)| *name == "mode").map(|(_, value)| value));
                let writes = mode.and_then(Value::as_text).is_some_and(|mode| mode.contains(['w', 'a', 'x', '+']));
                if method && writes {
                    return self.write_of_path(callee, when, scope, line);
                }
                let path = first.as_text();
                if !writes {
                    let secret = path.is_some_and(|path| shell::secret_path(&path)) && !is_passwd_only(&first);
                    let severity = if self.role() == Role::Loose { Severity::Low } else { Severity::Medium };
                    if secret && when != When::Script {
                        self.report(severity, line, scope, "reads a file of secrets".to_owned(), shown(&first));
                    }
                    return;
                }
                self.written(when, path.as_deref(), "writes a file")
            }
            Act::Write if callee.is_path() && callee.origin & PLACE != 0 => {
                return self.write_of_path(callee, when, scope, line);
            }
            Act::Write => {
                let target = if plain.len() > 1 { plain.get(1) } else { plain.first() };
                let target = target.filter(|value| value.as_text().is_some());
                self.written(when, target.and_then(Value::as_text).as_deref(), "writes a file")
            }
            Act::Delete => self.written(when, first.as_text().as_deref(), "deletes files"),
            Act::Native => self.native(when, &first),
            Act::Redirect => return,
        };
        if severity > Severity::Info {
            self.report(severity, line, scope, what, detail);
        }
    }

    /// Milder where the code only runs when somebody starts it.
    fn scaled(&self, when: When, severity: Severity) -> Severity {
        match (self.role(), when) {
            (_, When::Import | When::Use) | (Role::Named | Role::Likely, When::Body) => severity,
            (Role::Loose, When::Body) | (_, When::Script) => severity.min(Severity::Medium),
        }
    }

    fn command(&self, when: When, words: Option<String>, origin: u8) -> (Severity, String, String) {
        let detail = words.as_deref().map(cut).unwrap_or_default();
        let judged = words.as_deref().map(shell::judge);
        if let Some(Command::Payload(what)) = judged {
            return (self.scaled(when, Severity::High), format!("runs a command that {what}"), detail);
        }
        if origin & NETWORK != 0 {
            return (
                self.scaled(when, Severity::High),
                "runs a command that comes over the network".to_owned(),
                detail,
            );
        }
        let named = self.role() != Role::Loose;
        let severity = match (judged, when) {
            (Some(Command::Ordinary | Command::Installs), When::Import | When::Use) if named => Severity::Low,
            (Some(Command::Ordinary | Command::Installs), _) => Severity::Info,
            (Some(_), When::Import | When::Use) if named => Severity::High,
            (Some(Command::Downloads), _) => Severity::Info,
            (Some(_), When::Body) if self.role() == Role::Named => Severity::Medium,
            (Some(_), When::Import) if origin & DECODED != 0 => Severity::High,
            (Some(_), When::Import) => Severity::Low,
            (None, When::Import | When::Use) if named && origin & DECODED != 0 => Severity::High,
            (None, When::Import) if self.role() == Role::Named => Severity::Medium,
            (None, When::Import) if named => Severity::Low,
            (None, When::Use | When::Body) if named => Severity::Low,
            _ => Severity::Info,
        };
        (severity, "runs a command".to_owned(), detail)
    }

    /// Constant source is judged as what it is; says whether there was any.
    fn code(&mut self, first: &Value, callee: &Value, scope: Scope, line: u32) -> bool {
        let (Some(text), What::Global(module, name)) = (first.as_text(), &callee.what) else { return false };
        if &**module == "runpy" || &**name == "FunctionType" {
            return false;
        }
        let when = self.when_of(scope);
        let hidden = first.origin & DECODED != 0;
        // Every piece costs its names too.
        let cost = text.len() + 64 * self.names.len() + 256;
        if self.source_depth() < SOURCE_DEPTH_MAX && cost <= self.left.source_bytes {
            self.left.source_bytes -= cost;
            let (names, mut left) = (self.seen_from(scope), self.left);
            let inner = super::inner(&text, self.role(), when, self.source_depth() + 1, names, &mut left);
            self.left = left;
            self.pickles.extend(inner.pickles.into_iter().map(|(_, bytes)| (line, bytes)));
            for found in inner.found {
                let Found { severity, what, detail, .. } = found;
                // Who hides a command from readers does not run `nvidia-smi`.
                let severity =
                    if hidden && severity >= Severity::Low { severity.max(Severity::High) } else { severity };
                self.report(severity, line, scope, format!("runs code that {what}"), detail);
            }
        } else {
            let title = "runs more source within source than is looked at";
            self.report(Severity::Medium, line, scope, title.to_owned(), cut(&text));
        }
        if hidden {
            let severity = if self.role() == Role::Loose { Severity::Medium } else { Severity::High };
            self.report(self.scaled(when, severity), line, scope, "runs code that was encoded".to_owned(), cut(&text));
        }
        true
    }

    fn unknown_code(&self, when: When, origin: u8) -> (Severity, String, String) {
        let detail = String::new();
        if origin & NETWORK != 0 {
            return (self.scaled(when, Severity::High), "runs code that comes over the network".to_owned(), detail);
        }
        if origin & DECODED != 0 {
            return (self.scaled(when, Severity::High), "runs code that was encoded".to_owned(), detail);
        }
        let severity = match (self.role(), when) {
            (Role::Named, When::Import) => Severity::Medium,
            (Role::Likely, When::Import) | (Role::Named, When::Use) => Severity::Low,
            _ => Severity::Info,
        };
        (severity, "runs code that is only known then".to_owned(), detail)
    }

    fn network(
        &self,
        when: When,
        first: &Value,
        plain: &[Value],
        named: &[(&str, Value)],
        origin: u8,
    ) -> (Severity, String, String) {
        let detail = shown(first);
        // A token in a header is how one logs in; the environment in a body is how it leaves.
        let body =
            plain.iter().chain(named.iter().filter(|(name, _)| *name != "headers" && *name != "auth").map(|(_, v)| v));
        let sent = body.fold(0, |all, value| all | value.origin);
        if sent & SECRET != 0
            || plain.iter().any(whole_environment)
            || named.iter().any(|(_, value)| whole_environment(value))
        {
            return (self.scaled(when, Severity::High), "sends secrets over the network".to_owned(), detail);
        }
        let metadata =
            first.as_text().is_some_and(|url| url.contains("169.254.169.254") || url.contains("metadata.google"));
        if metadata {
            return (self.scaled(when, Severity::High), "asks the cloud's metadata service".to_owned(), detail);
        }
        let _ = origin;
        let severity = match (self.role(), when) {
            (Role::Named | Role::Likely, When::Import) if sent & VARIABLE != 0 => Severity::High,
            (Role::Named | Role::Likely, When::Import) => Severity::Medium,
            (Role::Named | Role::Likely, When::Use) => Severity::Low,
            _ => Severity::Info,
        };
        (severity, "connects to the network".to_owned(), detail)
    }

    fn written(&self, when: When, path: Option<&str>, what: &str) -> (Severity, String, String) {
        let detail = path.map(cut).unwrap_or_default();
        let Some(path) = path else {
            let severity =
                if self.role() != Role::Loose && when == When::Import { Severity::Low } else { Severity::Info };
            return (severity, what.to_owned(), detail);
        };
        if shell::startup_path(path) {
            return (self.scaled(when, Severity::High), format!("{what} that others run later"), detail);
        }
        let away = path.starts_with(['/', '~', '\\']) || path.contains("..") || path.get(1..3) == Some(":\\");
        let root =
            what.starts_with("deletes") && matches!(path.trim_end_matches('/'), "" | "~" | "/home" | "/etc" | "/usr");
        if root {
            return (self.scaled(when, Severity::High), what.to_owned(), detail);
        }
        let severity = match (self.role(), when) {
            (Role::Named | Role::Likely, When::Import) if away => Severity::High,
            (Role::Named | Role::Likely, When::Import) => Severity::Low,
            (Role::Named | Role::Likely, When::Use) if away && !path.starts_with("/tmp/") => Severity::Medium,
            _ => Severity::Info,
        };
        (severity, what.to_owned(), detail)
    }

    /// Who writes to a path that was made of parts.
    fn write_of_path(&mut self, path: &Value, when: When, scope: Scope, line: u32) {
        let (severity, what) = if path.origin & PLACE != 0 {
            (self.scaled(when, Severity::High), "writes a file that others run later".to_owned())
        } else {
            let (severity, what, _) = self.written(when, None, "writes a file");
            (severity, what)
        };
        if severity > Severity::Info {
            self.report(severity, line, scope, what, String::new());
        }
    }

    fn native(&self, when: When, first: &Value) -> (Severity, String, String) {
        let detail = shown(first);
        let text = first.as_text();
        let system = text.as_deref().is_none_or(|name| {
            let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
            let in_system = !name.contains(['/', '\\']) || name.starts_with("/usr/") || name.starts_with("/lib");
            in_system && (file.starts_with("lib") || !file.contains('.') || file.ends_with(".dll"))
        });
        let severity = match (self.role(), when) {
            (Role::Named | Role::Likely, When::Import | When::Use) if !system => Severity::Medium,
            (Role::Named | Role::Likely, When::Import) => Severity::Low,
            _ => Severity::Info,
        };
        (severity, "loads a native library".to_owned(), detail)
    }

    /// What several acts of one function say together.
    pub(super) fn together(&mut self) {
        let acts = std::mem::take(&mut self.acts_by_function);
        let mut scopes: Vec<_> = acts.into_iter().collect();
        scopes.sort_unstable_by_key(|(scope, _)| *scope);
        for (scope, acts) in scopes {
            let first = |wanted: &[Act]| acts.iter().find(|(act, ..)| wanted.contains(act)).map(|(.., line)| *line);
            let network = first(&[Act::Network]);
            if let (Some(_), Some(line)) = (network, first(&[Act::Redirect]))
                && first(&[Act::Command, Act::Code]).is_some()
            {
                let severity = self.scaled(self.when_of(scope), Severity::High);
                self.report(severity, line, scope, "opens a shell to another machine".to_owned(), String::new());
            }
        }
    }
}

/// The arguments of `os.execl("/bin/sh", "sh", "-c", "…")` and `Popen` alike as one command.
fn spread(callee: &Value, plain: &[Value]) -> Option<String> {
    let What::Global(module, name) = &callee.what else { return None };
    let module = globals::canonical_module(module).unwrap_or_else(|| module.to_string());
    let mode_first = module == "os" && name.starts_with("spawn");
    let first = plain.get(usize::from(mode_first))?;
    let rest: Vec<Value> = match plain.get(usize::from(mode_first) + 1).map(|value| &value.what) {
        Some(What::List(items)) => items.to_vec(),
        _ => plain.iter().skip(usize::from(mode_first) + 1).cloned().collect(),
    };
    if !(module == "os" && (name.starts_with("exec") || name.starts_with("spawn") || name.starts_with("posix_spawn"))) {
        return first.as_command();
    }
    // argv[0] is the program's name once more.
    let words: Vec<Value> = std::iter::once(first.clone()).chain(rest.into_iter().skip(1)).collect();
    Value::list(words).as_command()
}

fn whole_environment(value: &Value) -> bool {
    matches!(&value.what, What::Global(module, name) if &**module == "os" && &**name == "environ")
}

/// `/etc/passwd` is read by `getpass` look-alikes and examples; alone it is no secret.
fn is_passwd_only(value: &Value) -> bool {
    value.as_text().is_some_and(|path| path == "/etc/passwd")
}

fn shown(value: &Value) -> String {
    value.as_text().as_deref().map(cut).unwrap_or_default()
}

fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}
