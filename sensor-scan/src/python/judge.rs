//! What a module does, and when: statements walked in order, calls judged by what they act on, with what, and by
//! whether they run at import, at use, or only when somebody starts the file as a script.

use std::collections::{HashMap, HashSet};

use super::effect::{self, Act};
use super::module::{AT_IMPORT, AT_USE, Action, MODULE, Module, Scope, ScopeKind};
use super::tree::{Argument, Id, Node};
use super::value::{DECODED, DYNAMIC, NETWORK, Origin, SECRET, VARIABLE, Value, What, module_of};
use super::{Found, Role, fold};
use crate::finding::Severity;
use crate::shell;

/// What one file may cost, source within source included.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    /// Constant bytes that are made, in all.
    pub folded_bytes: usize,
    /// Expressions evaluated again for the items of a list.
    pub repeats: usize,
    /// Bytes of source within source.
    pub source_bytes: usize,
}

impl Budget {
    pub const FULL: Self = Self { folded_bytes: 8 << 20, repeats: 200_000, source_bytes: 4 << 20 };
}

/// Lambdas called in lambdas, source in source.
const DEPTH_MAX: u32 = 3;
/// Modules whose names are imported by `*` that a name is looked up in.
const STARS_MAX: usize = 16;
/// Findings of one source; the worst are kept.
const FOUND_MAX: usize = 64;

/// When something runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum When {
    /// Only where the file is started as a script.
    Script,
    /// In a function that nothing here calls at import.
    Body,
    /// In a function that whoever loads the class calls.
    Use,
    Import,
}

pub(super) struct Judge<'a> {
    pub module: &'a Module,
    role: Role,
    depth: u32,
    /// The runs of functions that were found so far: who calls whom.
    calls: HashSet<(Scope, Scope)>,
    pub(super) names: HashMap<(Scope, String), Value>,
    returns: HashMap<Scope, Value>,
    /// Of the present statement's expressions.
    pub(super) values: HashMap<Id, Value>,
    /// Modules of which every name is imported.
    stars: Vec<Value>,
    /// Acts per function, for what only two of them together say.
    pub(super) acts_by_function: HashMap<Scope, Vec<(Act, Origin, u32)>>,
    when: Vec<When>,
    pub(super) judging: bool,
    pub(super) left: Budget,
    pub found: Vec<Found>,
    /// Constant bytes that are unpickled: to be scanned.
    pub pickles: Vec<(u32, Vec<u8>)>,
}

impl<'a> Judge<'a> {
    pub fn new(module: &'a Module, role: Role, depth: u32, left: Budget) -> Self {
        Self {
            module,
            role,
            depth,
            calls: HashSet::new(),
            names: HashMap::new(),
            returns: HashMap::new(),
            values: HashMap::new(),
            stars: Vec::new(),
            acts_by_function: HashMap::new(),
            when: vec![When::Body; module.scopes.len()],
            judging: false,
            left,
            found: Vec::new(),
            pickles: Vec::new(),
        }
    }

    /// Walks the module twice: first to learn its names and who calls whom, then to judge. `outer` is when the module
    /// itself runs.
    pub fn run(&mut self, outer: When) {
        self.pass();
        self.reach(outer);
        self.judging = true;
        self.pass();
        self.together();
    }

    fn pass(&mut self) {
        let module = self.module;
        for statement in &module.statements {
            // What an expression is worth matters within its statement.
            self.values.clear();
            self.statement(statement.scope, statement.line, &statement.action);
        }
    }

    /// Closes over the calls: what runs at import, and what at use.
    fn reach(&mut self, outer: When) {
        let scopes = &self.module.scopes;
        for (scope, info) in scopes.iter().enumerate() {
            let script = self.module.is_script(scope);
            self.when[scope] = match self.module.function(scope) {
                _ if script => When::Script,
                None => outer,
                Some(function) if function == scope && AT_IMPORT.contains(&info.name.as_str()) => outer,
                Some(function) if function == scope && AT_USE.contains(&info.name.as_str()) => When::Use.min(outer),
                Some(_) => When::Body.min(outer),
            };
        }
        // Each round reaches one call further; most modules need a few.
        for _ in 0..64 {
            let mut changed = false;
            for (from, to) in &self.calls {
                let from_when = self.when.get(*from).copied().unwrap_or(When::Body);
                if let Some(when) = self.when.get_mut(*to)
                    && *when < from_when
                {
                    *when = from_when;
                    changed = true;
                }
            }
            for (scope, info) in scopes.iter().enumerate().filter(|(_, info)| info.kind == ScopeKind::Class) {
                // A class in a function runs where it stands.
                let parent = self.when_of(info.parent);
                if self.when_of(scope) < parent {
                    self.when[scope] = parent;
                    changed = true;
                }
            }
            if !changed {
                return;
            }
        }
    }

    pub(super) fn when_of(&self, scope: Scope) -> When {
        self.when.get(scope).copied().unwrap_or(When::Body)
    }

    pub(super) fn role(&self) -> Role {
        self.role
    }

    pub(super) fn source_depth(&self) -> u32 {
        self.depth
    }

    /// Names that source within source sees: imported ones and constants.
    pub(super) fn seen_from(&self, scope: Scope) -> Vec<(String, Value)> {
        let plain =
            |value: &Value| matches!(value.what, What::Global(..) | What::Text(_) | What::Bytes(_) | What::Number(_));
        let visible = self.names.iter().filter(|((at, _), value)| (*at == MODULE || *at == scope) && plain(value));
        visible.map(|((_, name), value)| (name.clone(), value.clone())).collect()
    }

    /// Keeps what a function does, for [`Judge::together`].
    pub(super) fn note(&mut self, act: Act, origin: Origin, scope: Scope, line: u32) {
        const ACTS_MAX: usize = 256;
        let function = self.module.function(scope).unwrap_or(MODULE);
        let acts = self.acts_by_function.entry(function).or_default();
        if acts.len() < ACTS_MAX {
            acts.push((act, origin, line));
        }
    }

    fn statement(&mut self, scope: Scope, line: u32, action: &Action) {
        match action {
            Action::Import { module, name } => {
                let top = module.split('.').next().unwrap_or(module);
                let (bound, value) = match name {
                    Some(name) => (&**name, module_of(module)),
                    None => (top, module_of(top)),
                };
                self.bind(scope, bound, value);
            }
            Action::From(from) => {
                let module = module_of(&from.module);
                if from.what == "*" {
                    self.stars.push(module);
                } else {
                    self.bind(scope, &from.name, module.attribute(&from.what));
                }
            }
            Action::Assign { targets, value } => {
                let value = self.evaluate(*value, scope, line);
                for target in targets {
                    self.evaluate(*target, scope, line);
                    self.assign(scope, *target, &value);
                }
            }
            Action::Loop { target, iterable } => {
                let iterable = self.evaluate(*iterable, scope, line);
                let item = match &iterable.what {
                    What::List(items) if items.len() == 1 => items[0].clone(),
                    _ => Value::from_origin(iterable.origin),
                };
                self.assign(scope, *target, &item);
            }
            Action::Evaluate(id) => {
                self.evaluate(*id, scope, line);
            }
            Action::Return(id) => {
                let value = self.evaluate(*id, scope, line);
                if let Some(function) = self.module.function(scope) {
                    self.returns.insert(function, value);
                }
            }
            Action::Decorate(id) => {
                let value = self.evaluate(*id, scope, line);
                match value.what {
                    What::Lambda(body) => self.lambda(body, scope, line),
                    What::Scope(inner) => {
                        self.calls.insert((self.module.function(scope).unwrap_or(scope), inner));
                    }
                    _ => {}
                }
                if self.judging
                    && let Some(act @ (Act::Command | Act::Code)) = effect::of(&value)
                {
                    // What it stands before is source or a name that nobody sees.
                    self.act(act, &value, &[Value::from_origin(DECODED)], &[], scope, line);
                }
            }
            Action::Define { scope: inner } => {
                let Some(info) = self.module.scopes.get(*inner) else { return };
                let value = Value::new(What::Scope(*inner));
                self.bind(scope, &info.name, value);
            }
        }
    }

    /// Binds a name; what acts on the machine stays bound, because only one of two branches runs.
    fn bind(&mut self, scope: Scope, name: &str, value: Value) {
        let key = (scope, name.to_owned());
        let acts = |value: &Value| effect::of(value).is_some() || value.origin & (DYNAMIC | NETWORK) != 0;
        if self.names.get(&key).is_some_and(|old| acts(old) && !acts(&value)) && value.is_unknown() {
            return;
        }
        self.names.insert(key, value);
    }

    pub(super) fn assign(&mut self, scope: Scope, target: Id, value: &Value) {
        let module = self.module;
        match module.arena.node(target) {
            Node::Name(name) => self.bind(scope, name, value.clone()),
            Node::Attribute(of, name) if matches!(module.arena.node(*of), Node::Name(me) if matches!(&**me, "self" | "cls")) =>
            {
                self.bind(MODULE, &format!("self.{name}"), value.clone());
            }
            Node::List(targets) => {
                for (index, target) in targets.iter().take(64).enumerate() {
                    let item = match &value.what {
                        What::List(items) => items.get(index).cloned().unwrap_or(Value::UNKNOWN),
                        _ => Value::from_origin(value.origin),
                    };
                    if let Node::Name(name) = module.arena.node(*target) {
                        self.bind(scope, name, item);
                    }
                }
            }
            _ => {}
        }
    }

    pub(super) fn name(&self, scope: Scope, name: &str) -> Value {
        let mut at = scope;
        let mut first = true;
        loop {
            let visible = first || self.module.scopes.get(at).is_none_or(|info| info.kind != ScopeKind::Class);
            if visible && let Some(value) = self.names.get(&(at, name.to_owned())) {
                return value.clone();
            }
            first = false;
            if at == MODULE {
                break;
            }
            at = self.module.scopes.get(at).map_or(MODULE, |info| info.parent);
        }
        match name {
            "__builtins__" | "builtins" => Value::global("builtins", ""),
            "self" | "cls" => Value::UNKNOWN,
            _ => {
                let mut stars = self.stars.iter().take(STARS_MAX).map(|module| module.attribute(name));
                let acts = stars.find(|value| effect::of(value).is_some());
                acts.unwrap_or_else(|| Value::global("builtins", name))
            }
        }
    }

    pub(super) fn call(&mut self, callee_id: Id, arguments: &[Argument], scope: Scope, line: u32) -> Value {
        let callee = self.value(callee_id);
        let mut plain = Vec::new();
        let mut named: Vec<(&str, Value)> = Vec::new();
        for argument in arguments {
            let value = self.value(argument.value);
            match &argument.name {
                Some(name) => named.push((name, value)),
                None => match (&value.what, argument.spread) {
                    (What::List(items), true) => plain.extend(items.iter().take(64).cloned()),
                    _ => plain.push(value),
                },
            }
        }
        let origin =
            plain.iter().chain(named.iter().map(|(_, value)| value)).fold(callee.origin, |all, v| all | v.origin);
        self.edges(&callee, callee_id, &plain, &named, scope, line);
        if self.judging {
            self.judge_call(&callee, &plain, &named, scope, line);
        }
        let made = match &callee.what {
            What::Global(module, name) => {
                // A call may make much of little: nothing is made once the budget is used up.
                let given = if self.left.folded_bytes > 0 { fold::function(module, name, &plain) } else { None };
                let given = given.or_else(|| self.made(module, name, &plain));
                given.unwrap_or_else(|| callee.called())
            }
            What::Scope(inner) => self.returns.get(inner).cloned().unwrap_or(Value::UNKNOWN),
            _ => match self.module.arena.node(callee_id) {
                Node::Attribute(of, name) => {
                    let of = self.value(*of);
                    fold::method(&of, name, &plain).unwrap_or(Value::from_origin(of.origin))
                }
                _ => Value::UNKNOWN,
            },
        };
        let from = match effect::of(&callee) {
            Some(Act::Network) => NETWORK,
            Some(Act::Open) if plain.first().and_then(Value::as_text).is_some_and(|path| shell::secret_path(&path)) => {
                SECRET
            }
            _ if callee.is_path() => plain.iter().fold(0, |all, value| all | value.place()),
            _ => decodes(&callee),
        };
        made.with(origin | from)
    }

    /// Calls whose result is a callable or the environment.
    fn made(&self, module: &str, name: &str, arguments: &[Value]) -> Option<Value> {
        match (module, name) {
            ("functools", "partial") | ("builtins", "staticmethod" | "classmethod") => arguments.first().cloned(),
            ("operator", "attrgetter()" | "methodcaller()") => arguments.first().cloned(),
            ("os", "getenv" | "environ.get" | "environ.pop") => Some(Value::from_origin(VARIABLE)),
            ("os", "environ.copy" | "environ.items" | "environ.values") => Some(Value::from_origin(SECRET)),
            ("builtins", "dict" | "str" | "repr" | "list") | ("json", "dumps")
                if arguments.first().is_some_and(is_environment) =>
            {
                Some(Value::from_origin(SECRET))
            }
            ("subprocess", "check_output" | "getoutput") => Some(Value::UNKNOWN),
            _ => None,
        }
    }

    /// Notes who is called from `scope`, by name or as an argument, and gives parameters their values.
    fn edges(
        &mut self,
        callee: &Value,
        callee_id: Id,
        plain: &[Value],
        named: &[(&str, Value)],
        scope: Scope,
        line: u32,
    ) {
        let module = self.module;
        let caller = module.function(scope).unwrap_or(scope);
        let mut called: Vec<Scope> = Vec::new();
        if let What::Scope(inner) = callee.what {
            called.push(inner);
            if !self.judging {
                self.parameters(inner, plain, named);
            }
        }
        if let Node::Attribute(of, name) = module.arena.node(callee_id) {
            // `self.method()`, and methods of what is made here.
            if matches!(module.arena.node(*of), Node::Name(me) if matches!(&**me, "self" | "cls"))
                || self.value(*of).is_unknown()
            {
                let methods = module.scopes.iter().enumerate().filter(|(_, info)| {
                    info.kind == ScopeKind::Function
                        && info.name == **name
                        && module.scopes.get(info.parent).is_some_and(|parent| parent.kind == ScopeKind::Class)
                });
                if !self.judging && module.scopes.len() < 2_000 {
                    called.extend(methods.map(|(scope, _)| scope));
                }
            }
        }
        for argument in plain.iter().chain(named.iter().map(|(_, value)| value)) {
            match argument.what {
                What::Scope(inner) => called.push(inner),
                What::Lambda(body) => self.lambda(body, scope, line),
                _ => {}
            }
        }
        if let What::Lambda(body) = callee.what {
            self.lambda(body, scope, line);
        }
        if self.judging {
            return;
        }
        for inner in called {
            self.calls.insert((caller, inner));
            if module.scopes.get(inner).is_some_and(|info| info.kind == ScopeKind::Class) {
                let makers = module.scopes.iter().enumerate().filter(|(_, info)| {
                    info.parent == inner
                        && matches!(info.name.as_str(), "__init__" | "__new__" | "__post_init__" | "__enter__" | "run")
                });
                self.calls.extend(makers.map(|(maker, _)| (caller, maker)));
            }
        }
    }

    fn parameters(&mut self, function: Scope, plain: &[Value], named: &[(&str, Value)]) {
        let Some(info) = self.module.scopes.get(function) else { return };
        for (index, parameter) in info.parameters.iter().enumerate().take(32) {
            let given =
                plain.get(index).or_else(|| named.iter().find(|(name, _)| name == parameter).map(|(_, value)| value));
            if let Some(value) = given {
                self.bind(function, parameter, value.clone());
            }
        }
    }

    fn lambda(&mut self, body: Id, scope: Scope, line: u32) {
        if self.depth < DEPTH_MAX {
            self.depth += 1;
            self.evaluate(body, scope, line);
            self.depth -= 1;
        }
    }

    fn judge_call(&mut self, callee: &Value, plain: &[Value], named: &[(&str, Value)], scope: Scope, line: u32) {
        if let Some(act) = effect::of(callee) {
            self.act(act, callee, plain, named, scope, line);
        } else if callee.origin & DYNAMIC != 0 && matches!(&callee.what, What::Global(_, name) if &**name == "?") {
            let severity = match (self.role, self.when_of(scope)) {
                (Role::Named | Role::Likely, When::Import) => Severity::High,
                (Role::Named | Role::Likely, When::Use) => Severity::Medium,
                _ => return,
            };
            if let What::Global(module, _) = &callee.what
                && matches!(
                    &**module,
                    "os" | "subprocess" | "builtins" | "sys" | "ctypes" | "socket" | "pty" | "shutil"
                )
            {
                self.report(
                    severity,
                    line,
                    scope,
                    format!("calls something in `{module}` by a name that is put together"),
                    String::new(),
                );
            }
        }
        // Handed on: `map(eval, [...])`, `Thread(target=os.system, args=…)`, `atexit.register(os.system, "…")`.
        let values: Vec<&Value> = plain.iter().chain(named.iter().map(|(_, value)| value)).collect();
        for (index, value) in values.iter().enumerate() {
            let Some(act @ (Act::Command | Act::Code)) = effect::of(value) else { continue };
            let mut rest: Vec<Value> = Vec::new();
            for other in values.iter().skip(index + 1).take(64) {
                match &other.what {
                    What::List(items) => rest.extend(items.iter().take(64).cloned()),
                    _ => rest.push((*other).clone()),
                }
            }
            self.act(act, value, &rest, &[], scope, line);
        }
    }

    pub(super) fn report(&mut self, severity: Severity, line: u32, scope: Scope, what: String, detail: String) {
        let when = self.when_of(scope);
        let found = Found { severity, line, what, detail, when };
        if self.found.contains(&found) {
            return;
        }
        if self.found.len() < FOUND_MAX {
            self.found.push(found);
        } else if let Some(mildest) = self.found.iter_mut().min_by_key(|found| found.severity)
            && mildest.severity < severity
        {
            *mildest = found;
        }
    }
}

/// The whole environment as a value.
fn is_environment(value: &Value) -> bool {
    matches!(&value.what, What::Global(module, name) if &**module == "os" && matches!(&**name, "environ" | "environ.copy()"))
        || value.origin & SECRET != 0
}

/// What a decoder gives back where it could not be folded.
fn decodes(callee: &Value) -> Origin {
    let What::Global(module, name) = &callee.what else { return 0 };
    let decodes = match &**module {
        "base64" | "binascii" => name.contains("decode") || name.starts_with("a2b") || &**name == "unhexlify",
        "zlib" | "gzip" | "bz2" | "lzma" => &**name == "decompress",
        "marshal" => &**name == "loads",
        "builtins" => matches!(&**name, "bytes.fromhex" | "bytearray.fromhex"),
        module => module.starts_with("cryptography") && name.ends_with("decrypt"),
    };
    if decodes { DECODED } else { 0 }
}
