//! What is kept of a loaded object: descriptors. The loader's own copy of it (the instructions of every program on every
//! rung, and what describes them) is megabytes that nobody asks for once everything is attached.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use aya::Ebpf;
use aya::maps::Map;

/// An attachment of any kind: it ends when it is dropped.
pub type Attachment = Box<dyn Send + Sync>;

/// The attached programs and their maps.
pub struct Held {
    attachments: Vec<Attachment>,
    programs: Vec<OwnedFd>,
    /// Those that nothing here reads: whoever looks at this process's descriptors sees what it costs.
    _maps: Vec<Map>,
}

impl Held {
    /// Keeps what `attachments` need; maps that are read have been taken out of the object before.
    pub fn of(mut ebpf: Ebpf, attachments: Vec<Attachment>) -> io::Result<Self> {
        let loaded = ebpf.programs().filter_map(|(_, program)| program.fd().ok());
        let programs = loaded.map(|fd| fd.as_fd().try_clone_to_owned()).collect::<io::Result<_>>()?;
        let names: Vec<String> = ebpf.maps().map(|(name, _)| name.to_owned()).collect();
        let maps = names.iter().filter_map(|name| ebpf.take_map(name)).collect();
        Ok(Self { attachments, programs, _maps: maps })
    }

    /// Runs of our programs that the kernel left out because one was running already on that CPU; 0 where it doesn't
    /// count them (`recursion_misses` of kernel/bpf/syscall.c: bpf_prog_show_fdinfo, 5.12).
    pub fn skipped(&self) -> u64 {
        let skipped = self.programs.iter().filter_map(|program| {
            let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd())).ok()?;
            text.lines().find_map(|line| line.strip_prefix("recursion_misses:")?.trim().parse::<u64>().ok())
        });
        skipped.sum()
    }

    /// Detaches everything, at once: for each tracepoint the kernel waits until no CPU is inside it any more, twice, and one
    /// of those waits serves all (the other is under a lock: kernel/trace/trace_event_perf.c: perf_trace_destroy).
    pub fn detach(&mut self) {
        std::thread::scope(|scope| {
            for attachment in self.attachments.drain(..) {
                // Where no thread can be made it is dropped here, with what the thread was to do.
                let _ = std::thread::Builder::new().spawn_scoped(scope, || drop(attachment));
            }
        });
        self.programs.clear();
    }
}
