//! What an archive is by the names in it, and what that asks of its members.

use super::folded;
use crate::context::Piece;
use crate::format::{Seen, pt2};
use crate::report::Content;
use crate::slice::read;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flavour {
    /// Written by `torch.save` or `torch.jit.save` (`<top>/data.pkl`, tensors in `<top>/data/<key>`), or by
    /// `torch.package` (`<top>/.data/extern_modules`).
    Torch,
    /// `numpy.savez`: arrays only.
    Npz,
    /// Keras 3: `config.json` and `metadata.json`.
    Keras,
    /// skops: `schema.json`.
    Skops,
    /// TorchServe.
    Mar,
    /// `torch.export.save`, AOTInductor.
    Exported,
    Plain,
}

/// What a member is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// torch unpickles it.
    TorchPickle,
    /// Raw tensor data, which no loader interprets.
    TorchStorage,
    /// Python source that torch executes at first use or at import.
    TorchCode,
    /// Part of an exported program.
    Exported(pt2::Part),
    /// Anything: by content.
    Any,
}

pub fn of<'a>(names: impl Iterator<Item = &'a [u8]>) -> Flavour {
    let (mut arrays, mut others, mut keras, mut skops, mut mar, mut exported) = (0_u64, 0_u64, 0, false, false, false);
    for name in names {
        let name = folded(name);
        let (top, rest) = split_top(&name);
        if !top.is_empty() && (is_torch_pickle(rest) || rest == b".data/extern_modules") {
            return Flavour::Torch;
        }
        exported |= pt2::claims(&name, rest);
        match name.as_slice() {
            b"config.json" | b"metadata.json" => keras += 1,
            b"schema.json" => skops = true,
            b"mar-inf/manifest.json" => mar = true,
            _ => {}
        }
        if name.ends_with(b".npy") { arrays += 1 } else { others += 1 }
    }
    match () {
        () if keras == 2 => Flavour::Keras,
        () if skops => Flavour::Skops,
        () if mar => Flavour::Mar,
        () if exported => Flavour::Exported,
        () if arrays > 0 && others == 0 => Flavour::Npz,
        () => Flavour::Plain,
    }
}

impl Flavour {
    pub fn seen(self) -> Seen {
        let (format, content) = match self {
            Self::Torch => ("torch-zip", Content::Code),
            // Object arrays raise it to code, member by member.
            Self::Npz => ("npz", Content::Data),
            Self::Keras => ("keras", Content::Code),
            Self::Skops => ("skops", Content::Code),
            Self::Mar => ("mar", Content::Code),
            Self::Exported => ("pt2", Content::Code),
            Self::Plain => ("zip", Content::Unknown),
        };
        Seen { format, content }
    }

    pub fn role(self, name: &[u8]) -> Role {
        let name = folded(name);
        let (_, rest) = split_top(&name);
        match self {
            Self::Torch => {}
            Self::Exported => return pt2::part(&name, rest).map_or(Role::Any, Role::Exported),
            _ => return Role::Any,
        }
        // Pickles of `torch.package` have any name.
        if is_torch_pickle(rest) || rest.ends_with(b".pkl") {
            Role::TorchPickle
        } else if [&b"data/"[..], b"constants/", b"tensors/", b"xl_model_weights/", b"traced_inputs/"]
            .iter()
            .any(|folder| rest.strip_prefix(*folder).is_some_and(|key| !key.is_empty() && !key.contains(&b'.')))
        {
            Role::TorchStorage
        } else if rest.ends_with(b".py") {
            Role::TorchCode
        } else {
            Role::Any
        }
    }
}

fn split_top(name: &[u8]) -> (&[u8], &[u8]) {
    match name.iter().position(|byte| *byte == b'/') {
        Some(at) => (&name[..at], &name[at + 1..]),
        None => (&[], name),
    }
}

fn is_torch_pickle(rest: &[u8]) -> bool {
    matches!(rest, b"data.pkl" | b"constants.pkl" | b"bytecode.pkl" | b"attributes.pkl" | b"traced_inputs.pkl")
}

/// Flavour by the names in the first bytes and the last ones, for a look that may not read the file.
pub fn quick(piece: &Piece<'_>, head_bytes: usize, tail_bytes: usize) -> Flavour {
    let tail_at = piece.source.len().saturating_sub(tail_bytes as u64);
    let (head, tail) = (read(piece.source, 0, head_bytes), read(piece.source, tail_at, tail_bytes));
    let locals = find_all(&head, &super::header::LOCAL).filter_map(|at| super::header::local(&head[at..]));
    let centrals = find_all(&tail, &super::header::CENTRAL).filter_map(|at| super::header::central(&tail[at..]));
    let names: Vec<Vec<u8>> = locals.chain(centrals).map(|header| header.name).collect();
    of(names.iter().map(Vec::as_slice))
}

fn find_all<'a>(bytes: &'a [u8], signature: &'a [u8; 4]) -> impl Iterator<Item = usize> + 'a {
    bytes.windows(4).enumerate().filter(move |(_, window)| window == signature).map(|(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavour(names: &[&str]) -> Flavour {
        of(names.iter().map(|name| name.as_bytes()))
    }

    #[test]
    fn names_tell_the_flavour_however_they_are_written() {
        assert_eq!(flavour(&["a/data/0", "a/data.pkl", "a/version"]), Flavour::Torch);
        assert_eq!(flavour(&["a/DATA.pkl"]), Flavour::Torch);
        assert_eq!(flavour(&["a\\data.pkl\0.txt"]), Flavour::Torch);
        assert_eq!(flavour(&["arr_0.npy", "arr_1.npy"]), Flavour::Npz);
        assert_eq!(flavour(&["arr_0.npy", "readme.txt"]), Flavour::Plain);
        assert_eq!(flavour(&["metadata.json", "config.json", "model.weights.h5"]), Flavour::Keras);
        assert_eq!(flavour(&["1.npy", "schema.json"]), Flavour::Skops);
        assert_eq!(flavour(&["m/archive_format", "m/models/model.json"]), Flavour::Exported);
        assert_eq!(flavour(&["serialized_exported_program.json", "version"]), Flavour::Exported);
        assert_eq!(flavour(&[]), Flavour::Plain);
    }

    #[test]
    fn only_numbered_members_are_storages() {
        assert_eq!(Flavour::Torch.role(b"a/data/17"), Role::TorchStorage);
        assert_eq!(Flavour::Torch.role(b"a/data/x.bin"), Role::Any);
        assert_eq!(Flavour::Torch.role(b"a/models/m.pkl"), Role::TorchPickle);
        assert_eq!(Flavour::Exported.role(b"a/models/model.json"), Role::Exported(pt2::Part::Program));
        assert_eq!(Flavour::Exported.role(b"a/data/weights/weight_0"), Role::Exported(pt2::Part::Weights));
        assert_eq!(Flavour::Exported.role(b"a/data/aotinductor/model/x.so"), Role::Any);
        assert_eq!(Flavour::Torch.role(b"a/data.PKL"), Role::TorchPickle);
        assert_eq!(Flavour::Torch.role(b"a/code/m.py"), Role::TorchCode);
        assert_eq!(Flavour::Plain.role(b"a/data.pkl"), Role::Any);
    }
}
