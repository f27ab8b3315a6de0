//! Scans the files on the command line as raw pickles and prints verdict and findings: a bench for the machine.

use std::path::Path;
use std::time::Instant;

use sensor_scan::format::pickle::{self, Dialect, Stream};
use sensor_scan::source::FileSource;
use sensor_scan::{Context, Limits, Piece, Policy, Source, Verdict};

fn door(piece: &Piece<'_>, context: &mut Context<'_>) -> bool {
    pickle::scan_all(&Stream::sniffed(piece), context).plausible
}

fn main() -> std::io::Result<()> {
    let verbose = std::env::var_os("VERBOSE").is_some();
    let torch = std::env::var_os("TORCH").is_some();
    for path in std::env::args_os().skip(1) {
        let path = Path::new(&path);
        let source =
            FileSource::new(std::fs::File::open(path)?, path.file_name().unwrap_or_default().as_encoded_bytes())?;
        let limits = Limits::default();
        let mut context = Context::new(&limits, door);
        let started = Instant::now();
        let piece = Piece { source: &source, start: 0, end: source.len(), member: None };
        let stream = if torch { Stream::of(&piece, Dialect::TorchZip) } else { Stream::sniffed(&piece) };
        let outcome = pickle::scan_all(&stream, &mut context);
        let elapsed = started.elapsed();
        let complete = context.complete();
        let safe = context.all_globals_safe;
        let findings = context.into_findings();
        let verdict = if outcome.plausible {
            Verdict::of(&findings, complete, safe, &Policy::standard()).name()
        } else {
            "no-pickle"
        };
        let mut ids: Vec<&str> = findings.iter().map(|finding| finding.id).collect();
        ids.dedup();
        let nanos = elapsed.as_nanos() / u128::from(outcome.opcodes.max(1));
        println!(
            "{verdict}\t{}\t{}\t{} opcodes, {nanos} ns each\tsafe={safe}",
            path.file_name().unwrap_or_default().to_string_lossy(),
            ids.join(","),
            outcome.opcodes
        );
        if verbose {
            for finding in &findings {
                println!(
                    "    {} {} @{:?} {:?}: {}",
                    finding.id,
                    finding.severity.name(),
                    finding.offset,
                    finding.opcode,
                    finding.title
                );
                println!("        {:?}", finding.evidence);
            }
        }
    }
    Ok(())
}
