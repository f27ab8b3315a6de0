//! What a ZIP file's headers say against each other, whatever the members hold.

use std::collections::HashMap;

use super::directory::Entry;
use super::flavour::Flavour;
use super::folded;
use super::header::{FLAG_DESCRIPTOR, FLAG_ENCRYPTED, FLAG_PATCHED, FLAG_STRONG, FLAG_UTF8, Header};
use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::format;

/// Flags that make one reader refuse what another one reads.
const FLAGS_REFUSED: u16 = FLAG_ENCRYPTED | FLAG_PATCHED | FLAG_STRONG;

/// Names that are equal for one reader: `zipfile` takes the last, miniz any.
pub fn names(piece: &Piece<'_>, entries: &[Entry], context: &mut Context<'_>) {
    let mut seen: HashMap<Vec<u8>, &[u8]> = HashMap::new();
    for entry in entries {
        let name = entry.header().name.as_slice();
        let Some(before) = seen.insert(folded(name), name) else { continue };
        let title =
            if before == name { "zip member stands twice" } else { "zip member's name is another's for some readers" };
        let finding = Finding::new("SNS-302", Severity::Medium, title).text("name", name).text("other", before);
        context.report(finding.member(piece.member.as_deref()).at(entry.header_at));
    }
}

/// Holds the storages that a pickle just declared against the records that follow its name (`data.pkl`, `data/<key>`).
pub fn storages(piece: &Piece<'_>, entries: &[Entry], pickle: &Entry, context: &mut Context<'_>) {
    let declared = context.take_storages();
    let name = folded(&pickle.header().name);
    let folder = name.strip_suffix(b".pkl").filter(|_| !declared.is_empty());
    // (Of traced inputs torch only writes the names.)
    let Some(folder) = folder.filter(|folder| !folder.ends_with(b"/traced_inputs")) else { return };
    let folder = [folder, b"/"].concat();
    let sizes: HashMap<Vec<u8>, &Header> =
        entries.iter().map(|entry| (folded(&entry.header().name), entry.header())).collect();
    for storage in declared {
        let record = sizes.get(&[folder.as_slice(), &folded(&storage.key)].concat());
        let Some(record) = record.filter(|record| record.size < storage.bytes) else { continue };
        let finding = Finding::new("SNS-405", Severity::Medium, "a storage is declared larger than its record");
        let name = format::member(piece.member.as_deref(), &record.name);
        let finding = finding.member(Some(&name)).at(0).number("declared", storage.bytes).number("bytes", record.size);
        context.report(finding.loaders(&["torch.load, also with weights_only=True (torch < 2.10)"]));
    }
}

/// Says whether a reader of the local header sees other data than one of the central header.
pub fn reads_differ(central: &Header, local: &Header) -> bool {
    let sized = local.flags & FLAG_DESCRIPTOR == 0 || local.packed != 0;
    central.method != local.method || (sized && central.packed != local.packed && local.packed != 0)
}

pub fn headers(piece: &Piece<'_>, entry: &Entry, flavour: Flavour, context: &mut Context<'_>) {
    let central = entry.header();
    let name = format::member(piece.member.as_deref(), &central.name);
    let mut report = |finding: Finding| context.report(finding.member(Some(&name)).at(0));

    path(central, &mut report);
    for header in [Some(central), entry.local.as_ref()].into_iter().flatten() {
        if let Some(other) = header.other_name.as_ref().filter(|other| **other != header.name) {
            let title = "zip member has another name for readers of its Unicode path";
            report(Finding::new("SNS-301", Severity::Medium, title).text("other", other));
            if let Some(title) = escape(other) {
                report(Finding::new("SNS-305", Severity::Medium, title).text("name", other).loaders(&["extraction"]));
            }
        }
    }
    if central.name.ends_with(b"/") && central.size > 0 {
        report(
            Finding::new("SNS-301", Severity::Medium, "zip directory entry holds data").number("bytes", central.size),
        );
    }
    if std::str::from_utf8(&central.name).is_err() && central.flags & FLAG_UTF8 != 0 {
        report(Finding::new("SNS-301", Severity::Low, "zip member's name is marked as UTF-8 and is none"));
    }
    if central.flags & FLAGS_REFUSED & !FLAG_ENCRYPTED != 0 {
        let title = "zip member is marked as patched or strongly encrypted: zipfile refuses it, old torch reads it";
        let loaders = if flavour == Flavour::Torch { &["torch.load of torch < 2.7"][..] } else { &[] };
        report(Finding::new("SNS-303", Severity::Medium, title).number("flags", central.flags.into()).loaders(loaders));
    }
    let Some(local) = &entry.local else {
        let title = "zip directory points to a place without a local header";
        report(Finding::new("SNS-301", Severity::Medium, title).number("header_at", entry.header_at));
        return;
    };
    if local.flags & FLAGS_REFUSED != central.flags & FLAGS_REFUSED {
        let title = "zip headers disagree on the encryption flags";
        report(Finding::new("SNS-303", Severity::Low, title).number("flags", local.flags.into()));
    }
    if local.name != central.name {
        let title = "zip headers disagree on the name: zipfile refuses the member, torch reads it";
        report(Finding::new("SNS-301", Severity::Medium, title).text("local_name", &local.name));
    }
    if local.flags & FLAG_DESCRIPTOR == 0 && local.crc != central.crc {
        let finding = Finding::new("SNS-301", Severity::Low, "zip headers disagree on the checksum");
        report(finding.number("central", central.crc.into()).number("local", local.crc.into()));
    }
    if local.method != central.method {
        let title = "zip headers disagree on the method";
        let finding = Finding::new("SNS-301", Severity::Medium, title);
        report(finding.number("central", central.method.into()).number("local", local.method.into()));
    }
    // With the flag, writers put the sizes behind the data and zeros (or nothing sensible) here.
    let sizes = |header: &Header| (header.packed, header.size);
    if local.flags & FLAG_DESCRIPTOR == 0 && sizes(local) != sizes(central) {
        let finding = Finding::new("SNS-301", Severity::Medium, "zip headers disagree on the size");
        report(finding.number("central", central.packed).number("local", local.packed));
    }
}

/// Names that leave the folder they are extracted to.
fn path(header: &Header, report: &mut impl FnMut(Finding)) {
    if let Some(title) = escape(&header.name) {
        report(Finding::new("SNS-305", Severity::Medium, title).text("name", &header.name).loaders(&["extraction"]));
    }
    if header.is_link() {
        let finding = Finding::new("SNS-305", Severity::Medium, "archive member is a symbolic link");
        report(finding.text("name", &header.name).loaders(&["extraction"]));
    }
}

/// Why a name may be written elsewhere than below the folder of the extraction.
pub fn escape(name: &[u8]) -> Option<&'static str> {
    let separators = |byte: &u8| matches!(byte, b'/' | b'\\');
    if name.contains(&0) {
        return Some("archive member's name holds a NUL: some readers cut it there");
    }
    if name.first().is_some_and(separators) || matches!(name, [drive, b':', ..] if drive.is_ascii_alphabetic()) {
        return Some("archive member has an absolute path");
    }
    name.split(|byte| separators(byte)).any(|part| part == b"..").then_some("archive member's path leads upwards")
}

#[cfg(test)]
mod tests {
    use super::escape;

    #[test]
    fn paths_that_leave() {
        for name in [&b"../x"[..], b"a/../../x", b"/etc/passwd", b"\\x", b"a\\..\\x", b"C:x", b"a\0b"] {
            assert!(escape(name).is_some(), "{}", String::from_utf8_lossy(name));
        }
        for name in [&b"a/b"[..], b"a/..b", b"...", b"ab:c", b""] {
            assert!(escape(name).is_none(), "{}", String::from_utf8_lossy(name));
        }
    }
}
