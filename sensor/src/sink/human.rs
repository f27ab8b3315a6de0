//! Shape `human`: what a person understands at three in the morning. First what happened, then who, which file, and in
//! which order.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::alert::{Alert, AlertModel, AlertProcess, Argv, Detail, Moment, MomentDetail, Program, exact};
use crate::escape;
use crate::event::{Access, Basis, EventKind, Severity, Verdict};

/// Findings that are shown; the count of the others follows.
const FINDINGS_SHOWN_MAX: usize = 5;
/// Ancestors that are shown; the JSON has the others.
const ANCESTORS_SHOWN_MAX: usize = 6;
/// Characters of a command line that are shown.
const COMMAND_CHARS_MAX: usize = 160;

/// The alert, with an empty line behind it.
pub fn render(alert: &Alert, colour: bool) -> String {
    let mut page = Page { out: String::with_capacity(1024), colour };
    page.headline(alert);
    page.row("rule", &format!("{} ({})", show(&alert.rule.name), show(&alert.rule.id)));
    page.row("when", &when(alert));
    if let Some(process) = &alert.process {
        page.processes(process);
    }
    if let Some(model) = &alert.model {
        page.model(model);
    }
    if let Some(omitted) = alert.models_omitted {
        page.row("", &format!("and {omitted} more files in the same load"));
    }
    page.timeline(alert);
    page.row("incident", &incident(alert));
    page.out.push('\n');
    page.out
}

struct Page {
    out: String,
    colour: bool,
}

impl Page {
    fn headline(&mut self, alert: &Alert) {
        let word = alert.severity.name().to_uppercase();
        let update = if alert.update == Some(true) { " (raised)" } else { "" };
        let summary = summary(alert);
        // SGR codes: bold, then red, yellow or none.
        let (on, off) = match (self.colour, alert.severity) {
            (false, _) => ("", ""),
            (true, Severity::Critical) => ("\x1b[1;97;41m", "\x1b[0m"),
            (true, Severity::High) => ("\x1b[1;31m", "\x1b[0m"),
            (true, Severity::Medium) => ("\x1b[1;33m", "\x1b[0m"),
            (true, Severity::Low | Severity::Info) => ("\x1b[1m", "\x1b[0m"),
        };
        self.line(&format!("{on}{word}{off}{update}  {summary}"));
    }

    fn line(&mut self, text: &str) {
        self.out.push_str(text);
        self.out.push('\n');
    }

    fn row(&mut self, name: &str, text: &str) {
        let (on, off) = if self.colour && !name.is_empty() { ("\x1b[2m", "\x1b[0m") } else { ("", "") };
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "  {on}{name:<9}{off} {text}");
    }

    fn processes(&mut self, process: &AlertProcess) {
        let user = process.uid.map_or(String::new(), |uid| format!("  uid {uid}"));
        self.row("process", &format!("{}{user}", one_process(&process.program)));
        for (depth, ancestor) in process.ancestors.iter().take(ANCESTORS_SHOWN_MAX).enumerate() {
            self.row("", &format!("{}└ started by {}", "  ".repeat(depth), one_process(ancestor)));
        }
        let more = process.ancestors.len().saturating_sub(ANCESTORS_SHOWN_MAX);
        if more > 0 {
            self.row("", &format!("{}└ and {more} more", "  ".repeat(ANCESTORS_SHOWN_MAX)));
        }
    }

    fn model(&mut self, model: &AlertModel) {
        let path = show_exact(&model.path, model.path_b64.as_deref());
        self.row("model", &path);
        let mut facts = vec![verdict_words(model.verdict).to_owned()];
        facts.extend(model.format.as_deref().map(show));
        facts.push(size(model.size));
        if let Some(repo) = &model.repo {
            let revision = model.revision.as_ref().map_or(String::new(), |revision| format!("@{}", show(revision)));
            facts.push(format!("from {}{revision}", show(repo)));
        }
        facts.push(format!("inode {} on {}", model.ino, model.dev));
        self.row("", &facts.join(", "));
        if let Some(sha256) = &model.sha256 {
            self.row("", &format!("sha256 {}", show(sha256)));
        }
        for finding in model.findings.iter().take(FINDINGS_SHOWN_MAX) {
            self.row("", &format!("{} {} {}", show(&finding.severity), show(&finding.id), show(&finding.title)));
        }
        let more = model.findings.len().saturating_sub(FINDINGS_SHOWN_MAX) + model.findings_omitted.unwrap_or(0);
        if more > 0 {
            self.row("", &format!("and {more} more: sensor scan {path}"));
        }
    }

    fn timeline(&mut self, alert: &Alert) {
        for (i, moment) in alert.timeline.iter().enumerate() {
            self.row(if i == 0 { "timeline" } else { "" }, &moment_words(moment));
        }
        if let Some(omitted) = alert.timeline_omitted {
            self.row("", &format!("{omitted} more in between"));
        }
    }
}

/// One sentence: who did what, how long after which file.
fn summary(alert: &Alert) -> String {
    let who = alert
        .process
        .as_ref()
        .map_or_else(String::new, |process| format!("{} (pid {})", name_of(&process.program), process.program.pid));
    let file_of_load = alert.model.as_ref().map_or_else(String::new, |model| {
        let path = show_exact(&model.path, model.path_b64.as_deref());
        format!("{path} ({})", verdict_words(model.verdict))
    });
    let when = match (alert.event.in_load, alert.event.basis) {
        (true, Some(Basis::Born)) => "by a process born in the load of",
        (true, _) => "during the load of",
        (false, _) => "after the load of",
    };
    match &alert.event.detail {
        Detail::Open {} => format!("{who} opened {file_of_load}"),
        Detail::Exec { exe, exe_b64, argv } => {
            let program = command(exe, exe_b64.as_deref(), argv);
            // The process that was started is the one that acts.
            format!("{program} was started (pid {}) {when} {file_of_load}", pid_of(alert))
        }
        Detail::Network { ip, port, domain, proto, family, peer_ip, peer_port, bytes } => {
            let to = address(*ip, *port, &format!("a {} address", word(family)));
            let name = domain.as_ref().map_or(String::new(), |domain| format!(" [{}]", show(domain)));
            let did = match alert.event.kind {
                EventKind::Connect => format!("connected to {to}{name}"),
                EventKind::Dns => format!("asked the resolver {to}{name}"),
                EventKind::Bind => format!("waits for others at {to}"),
                EventKind::Accept => {
                    format!("was reached at {to} from {}", address(*peer_ip, *peer_port, "somewhere"))
                }
                EventKind::Egress => format!("sent {} to {to}{name}", size(bytes.unwrap_or(0))),
                _ => format!("sent a datagram to {to}{name}"),
            };
            format!("{who} {did} ({}) {when} {file_of_load}", word(proto))
        }
        Detail::Unix { path, path_b64, .. } => {
            format!("{who} talked to the unix socket {} {when} {file_of_load}", show_exact(path, path_b64.as_deref()))
        }
        Detail::File { path, path_b64, access, file } => {
            let path = show_exact(path, path_b64.as_deref());
            let verb = if *access == Access::Write { "wrote" } else { "read" };
            format!("{who} {verb} {path} ({}) {when} {file_of_load}", show(file))
        }
        Detail::System { op, path, path_b64, target_pid, namespaces } => {
            let deed = deed_words(alert.event.kind, op, path.as_deref(), path_b64.as_deref(), *target_pid);
            let kinds = if namespaces.is_empty() { String::new() } else { format!(" ({})", namespaces.join(", ")) };
            format!("{who} {deed}{kinds} {when} {file_of_load}")
        }
        Detail::Loss { reason, count, cgroup } => {
            let of = cgroup.as_ref().map_or(String::new(), |id| format!(" of cgroup {id}"));
            format!("the sensor lost something{of}: {reason}, {count} times; what happened there was not seen")
        }
    }
}

fn pid_of(alert: &Alert) -> u32 {
    alert.process.as_ref().map_or(0, |process| process.program.pid)
}

fn when(alert: &Alert) -> String {
    let count = alert.incident.count;
    if count > 1 {
        format!("{}, {count} times since {}", alert.time, alert.incident.first_seen)
    } else {
        alert.time.clone()
    }
}

fn incident(alert: &Alert) -> String {
    let mut techniques: Vec<String> = Vec::new();
    techniques.extend(alert.rule.attack.iter().map(|id| show(id)));
    techniques.extend(alert.rule.atlas.iter().map(|id| show(id)));
    let techniques = if techniques.is_empty() { String::new() } else { format!("  {}", techniques.join(" ")) };
    format!("{} on {}{techniques}", show(&alert.incident.id), show(&alert.host.name))
}

fn one_process(process: &Program) -> String {
    let command = command(&process.exe, process.exe_b64.as_deref(), &process.argv);
    format!("{command} (pid {})", process.pid)
}

/// The executable's path, and the arguments as a shell would have them.
fn command(exe: &str, exe_b64: Option<&str>, argv: &Argv) -> String {
    let mut text = show_exact(exe, exe_b64);
    let mut arguments = argv.exact();
    let called = arguments.next();
    if text.is_empty() {
        text = called.map_or_else(|| "(unknown program)".to_owned(), |name| escape::terminal(&name));
    }
    for argument in arguments {
        text.push(' ');
        let shown = escape::terminal(&argument);
        if shown.is_empty() || shown.contains([' ', '"', '\'', ';', '|', '&', '$']) {
            text.push('\'');
            text.push_str(&shown.replace('\'', "'\\''"));
            text.push('\'');
        } else {
            text.push_str(&shown);
        }
    }
    let end = text.char_indices().nth(COMMAND_CHARS_MAX).map(|(at, _)| at);
    if let Some(end) = end {
        text.truncate(end);
    }
    if end.is_some() || argv.argv_truncated == Some(true) {
        text.push('…');
    }
    text
}

fn name_of(program: &Program) -> String {
    let exe = exact(&program.exe, program.exe_b64.as_deref());
    let name: Cow<'_, [u8]> = match exe.rsplit(|byte| *byte == b'/').next() {
        Some(name) if !name.is_empty() => Cow::Borrowed(name),
        _ => program.argv.exact().next().unwrap_or(Cow::Borrowed(b"a process")),
    };
    escape::terminal(&name)
}

fn moment_words(moment: &Moment) -> String {
    let what = match &moment.detail {
        MomentDetail::Load { path, path_b64, verdict } => {
            format!("opened {} ({})", show_exact(path, path_b64.as_deref()), verdict_words(*verdict))
        }
        MomentDetail::Exec { exe, exe_b64, argv } => format!("started {}", command(exe, exe_b64.as_deref(), argv)),
        MomentDetail::Network { ip, port, proto, peer_ip, peer_port, bytes } => {
            let at = address(*ip, *port, "without an address");
            let did = match moment.kind {
                EventKind::Connect => format!("connect {at}"),
                EventKind::Dns => format!("resolver {at}"),
                EventKind::Bind => format!("waits at {at}"),
                EventKind::Accept => format!("accept at {at} from {}", address(*peer_ip, *peer_port, "somewhere")),
                EventKind::Egress => format!("sent {} to {at}", size(bytes.unwrap_or(0))),
                _ => format!("datagram {at}"),
            };
            format!("{did} ({})", word(proto))
        }
        MomentDetail::Unix { path, path_b64 } => format!("unix socket {}", show_exact(path, path_b64.as_deref())),
        MomentDetail::File { path, path_b64, access } => {
            format!("{} {}", word(access), show_exact(path, path_b64.as_deref()))
        }
        MomentDetail::System { op, path, path_b64, target_pid } => {
            deed_words(moment.kind, op, path.as_deref(), path_b64.as_deref(), *target_pid)
        }
    };
    let times = moment.count.map_or(String::new(), |count| format!(", {count} times"));
    format!("{:>+9} ms  pid {}  {what}{times}", moment.t_ms, moment.pid)
}

/// What was done to the system, as the rest of a sentence.
fn deed_words(kind: EventKind, op: &str, path: Option<&str>, path_b64: Option<&str>, target: Option<u32>) -> String {
    let what = match (kind, op) {
        (EventKind::Ptrace, "attach") => "attached to",
        (EventKind::Ptrace, "read_memory") => "read the memory of",
        (EventKind::Ptrace, "write_memory") => "wrote into the memory of",
        (EventKind::Ptrace, "take_descriptor") => "took a descriptor of",
        (EventKind::Ptrace, _) => "reached into",
        (EventKind::Kmod, "kexec") => "loaded another kernel",
        (EventKind::Kmod, _) => "loaded code into the kernel",
        (EventKind::Mount, "pivot_root") => "changed its root to",
        (EventKind::Mount, _) => "mounted something on",
        (EventKind::Privilege, "exec") => "gained privileges by executing",
        (EventKind::Privilege, "set_user_id") => "let run as its owner",
        (EventKind::Privilege, "set_capabilities") => "gave capabilities to",
        (EventKind::Privilege, "load_bpf") => "loaded a BPF program into the kernel",
        (EventKind::Privilege, "bind_xdp") => "bound a socket past the kernel's network (AF_XDP)",
        (EventKind::Privilege, _) => "became root",
        (EventKind::Namespace, "enter") => "entered another namespace",
        (EventKind::Namespace, "clone") => "made a child in new namespaces",
        _ => "made new namespaces for itself",
    };
    let mut text = what.to_owned();
    match (kind, target) {
        (EventKind::Ptrace, Some(pid)) => text.push_str(&format!(" process {pid}")),
        (EventKind::Ptrace, None) => text.push_str(" another process"),
        _ => {}
    }
    if let Some(path) = path {
        text.push(' ');
        text.push_str(&show_exact(path, path_b64));
    }
    text
}

fn address(ip: Option<std::net::IpAddr>, port: Option<u16>, without: &str) -> String {
    match (ip, port) {
        (Some(ip), Some(port)) => std::net::SocketAddr::new(ip, port).to_string(),
        (Some(ip), None) => ip.to_string(),
        (None, _) => without.to_owned(),
    }
}

fn verdict_words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Clean => "clean",
        Verdict::Suspicious => "suspicious",
        Verdict::Malicious => "malicious",
        Verdict::Unscannable => "cannot be scanned",
        Verdict::Pending | Verdict::NotRead => "not scanned yet",
    }
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let unit = ((bytes.max(1).ilog2() / 10) as usize).min(UNITS.len() - 1);
    if unit == 0 {
        return format!("{bytes} B");
    }
    // Tenths, without the rounding of floats.
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
}

/// The contract's word for a unit variant: what serde writes, without its quotes.
fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn show(text: &str) -> String {
    escape::terminal(text.as_bytes())
}

fn show_exact(text: &str, base64: Option<&str>) -> String {
    escape::terminal(&exact(text, base64))
}

#[cfg(test)]
#[path = "human_tests.rs"]
mod tests;
