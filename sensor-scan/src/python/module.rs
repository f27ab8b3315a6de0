//! A module as its statements, each with the scope in which it runs: what runs at import, what in a function, what only
//! as a script.

use super::tree::{Arena, Id};

/// A function, a class, a script's block, or the module: index into [`Module::scopes`].
pub type Scope = usize;
/// The scope of the module itself.
pub const MODULE: Scope = 0;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeKind {
    Module,
    Class,
    Function,
    /// Below `if __name__ == "__main__":`.
    Script,
}

#[derive(Debug)]
pub struct ScopeInfo {
    pub kind: ScopeKind,
    pub name: String,
    pub parent: Scope,
    /// Names of a function's parameters.
    pub parameters: Vec<String>,
}

/// `from module import what as name`; dots of a relative import stand in `module`.
#[derive(Debug)]
pub struct From {
    pub module: String,
    pub what: String,
    pub name: String,
}

#[derive(Debug)]
pub enum Action {
    /// `import module as name`; without `as`, the first part is bound.
    Import {
        module: Box<str>,
        name: Option<Box<str>>,
    },
    From(Box<From>),
    Assign {
        targets: Vec<Id>,
        value: Id,
    },
    /// `for target in iterable`.
    Loop {
        target: Id,
        iterable: Id,
    },
    /// A call, a condition: evaluated.
    Evaluate(Id),
    Return(Id),
    /// `@x`: called with what it stands before.
    Decorate(Id),
    /// A function or class is made; its body is `scope`.
    Define {
        scope: Scope,
    },
}

#[derive(Debug)]
pub struct Statement {
    pub scope: Scope,
    pub line: u32,
    pub action: Action,
}

#[derive(Debug)]
pub struct Module {
    pub arena: Arena,
    pub scopes: Vec<ScopeInfo>,
    pub statements: Vec<Statement>,
    /// Lines of which something was not understood; the first of them.
    pub odd_lines: u32,
    pub odd_line: u32,
    /// Not everything was read: too many tokens, or nested too deep.
    pub cut: bool,
}

impl Module {
    /// The function around a scope, if there is one; classes run where they stand.
    pub fn function(&self, mut scope: Scope) -> Option<Scope> {
        loop {
            let info = self.scopes.get(scope)?;
            match info.kind {
                ScopeKind::Function => return Some(scope),
                ScopeKind::Module => return None,
                ScopeKind::Class | ScopeKind::Script => scope = info.parent,
            }
        }
    }

    /// Is the scope, or one around it, a script's block?
    pub fn is_script(&self, mut scope: Scope) -> bool {
        while let Some(info) = self.scopes.get(scope) {
            match info.kind {
                ScopeKind::Script => return true,
                ScopeKind::Module => return false,
                _ => scope = info.parent,
            }
        }
        false
    }
}

/// Functions that the interpreter calls while a module or class is made.
pub const AT_IMPORT: &[&str] =
    &["__init_subclass__", "__set_name__", "__prepare__", "__del__", "__getattr__", "__dir__"];

/// Functions that loaders call by their name: of models, tokenizers, pipelines, handlers of model servers, datasets.
pub const AT_USE: &[&str] = &[
    "__init__",
    "__new__",
    "__call__",
    "__post_init__",
    "forward",
    "from_pretrained",
    "_from_pretrained",
    "generate",
    "post_init",
    "_init_weights",
    "init_weights",
    "from_config",
    "_from_config",
    "tokenize",
    "_tokenize",
    "encode",
    "preprocess",
    "postprocess",
    "_sanitize_parameters",
    "_forward",
    "initialize",
    "handle",
    "inference",
    "load_context",
    "predict",
    "_load_pyfunc",
    "load_model",
    "model_fn",
    "input_fn",
    "predict_fn",
    "output_fn",
    "init",
    "run",
    "_split_generators",
    "_generate_examples",
    "_info",
    "setup",
    "build",
    "call",
];
