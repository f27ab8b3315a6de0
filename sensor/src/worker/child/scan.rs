//! `sensor worker scan`: parses what it is handed, and can do nothing else.

use std::fs::File;
use std::io::{self, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use sensor_scan::{Limits, Policy, Report, Source};

use super::locate;
use crate::event::ModelFinding;
use crate::hash;
use crate::worker::frame::{self, FrameError};
use crate::worker::wire::{
    Confinement, FINDINGS_MAX, FromScanner, Mode, ScanReport, Stamp, TITLE_BYTES_MAX, ToScanner,
};

/// Serves until the daemon closes `channel`.
pub fn serve(channel: &mut (impl Read + Write), confinement: Confinement) -> Result<(), FrameError> {
    frame::write(channel, &FromScanner::Hello(confinement))?;
    loop {
        let ToScanner::Scan { id, mode, hash, name, models_code, time_ms, cpu_s } = frame::read(channel)?;
        let file = File::from(take(id)?);
        allow_cpu_time(cpu_s)?;
        let before = stamp(&file)?;
        let source = Handed { file: &file, len: before.size, name: &name.0, models_code };
        let time_max = Duration::from_millis(time_ms);
        let until = Instant::now() + time_max;
        let mut report = judge(&source, mode, time_max);
        if hash {
            report.sha256 = hash::sha256(&source, Some(until));
        }
        let after = stamp(&file)?;
        frame::write(channel, &FromScanner::Done { id, before, after, report })?;
    }
}

/// Receives the descriptor of request `id` from the opener, on standard output.
fn take(id: u64) -> Result<OwnedFd, FrameError> {
    let mut bytes = [0; 8];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::net::recvmsg(
        rustix::stdio::stdout(),
        &mut [IoSliceMut::new(&mut bytes)],
        &mut control,
        RecvFlags::CMSG_CLOEXEC | RecvFlags::WAITALL,
    )
    .map_err(io::Error::from)?;
    if received.bytes == 0 {
        return Err(FrameError::Closed);
    }
    let file = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    match file {
        Some(file) if received.bytes == bytes.len() && u64::from_le_bytes(bytes) == id => Ok(file),
        _ => Err(FrameError::Invalid("not the descriptor that was announced")),
    }
}

/// Lets the kernel end this process `cpu_s` seconds of CPU time from now (SIGXCPU; the limit counts from its start).
fn allow_cpu_time(cpu_s: u64) -> io::Result<()> {
    let used = clock_gettime(ClockId::ProcessCPUTime).tv_sec.unsigned_abs();
    let maximum = getrlimit(Resource::Cpu).maximum;
    // The first second may be nearly over: one more is never too little.
    Ok(setrlimit(Resource::Cpu, Rlimit { current: Some(used + cpu_s + 1), maximum })?)
}

fn stamp(file: &File) -> io::Result<Stamp> {
    Ok(locate::stamp(&rustix::fs::fstat(file)?))
}

/// The descriptor that was handed over, as the scanner reads it.
struct Handed<'a> {
    file: &'a File,
    len: u64,
    name: &'a [u8],
    models_code: bool,
}

impl Source for Handed<'_> {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }

    fn name(&self) -> &[u8] {
        self.name
    }

    fn is_models_code(&self) -> bool {
        self.models_code
    }
}

fn judge(source: &Handed<'_>, mode: Mode, time_max: Duration) -> ScanReport {
    let limits = Limits { time_max, ..Limits::default() };
    match mode {
        Mode::Full => full(sensor_scan::scan(source, &limits, &Policy::standard())),
        Mode::Sniff => {
            let (format, content) = sensor_scan::sniff(source);
            ScanReport {
                format: format.to_owned(),
                content: content.into(),
                verdict: None,
                sha256: None,
                all_globals_safe: false,
                findings: Vec::new(),
                findings_omitted: 0,
                size: source.len,
                elapsed_us: 0,
            }
        }
    }
}

/// Cuts a report to what alerts carry.
fn full(report: Report) -> ScanReport {
    let findings: Vec<ModelFinding> = report
        .findings
        .iter()
        .take(FINDINGS_MAX)
        .map(|finding| ModelFinding {
            id: finding.id.to_owned(),
            severity: finding.severity.name().to_owned(),
            title: cut(&finding.title).to_owned(),
        })
        .collect();
    ScanReport {
        format: report.format.to_owned(),
        content: report.content.into(),
        verdict: Some(report.verdict.into()),
        sha256: None,
        all_globals_safe: report.all_globals_safe,
        findings_omitted: (report.findings.len() - findings.len()) as u64,
        findings,
        size: report.size,
        elapsed_us: u64::try_from(report.elapsed.as_micros()).unwrap_or(u64::MAX),
    }
}

/// The first [`TITLE_BYTES_MAX`] bytes, whole characters.
fn cut(title: &str) -> &str {
    &title[..title.floor_char_boundary(TITLE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("{}é", "x".repeat(TITLE_BYTES_MAX - 1));
        assert_eq!(cut(&long), "x".repeat(TITLE_BYTES_MAX - 1));
    }
}
