//! Acts of loaders meet what the scanner says of their files.
//!
//! An act waits for the verdicts of its models, at most `scan_wait_ns`; then it leaves with what is known, and a late
//! verdict follows it. An act none of whose files is a model is dropped: its mark was provisional.

mod beyond;
mod known;
mod words;

use std::collections::VecDeque;
use std::sync::Arc;

use sensor_abi::identity::ContentStamp;
use sensor_abi::mark::{class, role, verdict};

use self::beyond::Beyond;
use self::known::{
    Aside, Known, Progress, Sight, is_bad, is_clean, is_fine, is_kind_unknown, is_owed, is_settled, remembered,
    unknown, worth,
};
pub use self::words::{Look, Missed, Put, Sums, Tell, Wanted, Word};
use super::record::{Header, Load, Open, Remembered, Repeats};
use crate::event::{ActKind, Artifact, Basis, ContentClass, InodeKey, Lineage, Model, Role, Verdict};
use crate::table::Map;
use crate::waiting::WaitingRoom;

/// Models that are remembered; the oldest give way and are looked at again.
pub const MODELS_MAX: usize = 8_192;
/// Executables whose role is remembered.
const ROLES_MAX: usize = 4_096;
/// Acts that wait at once; beyond, the oldest of the cgroup that has most leaves with what is known.
const WAITING_MAX: usize = 4_096;

/// Opens of one file that wait with it; others leave with what is known.
const OPENS_MAX: usize = 64;
/// Where the table of models is full, the one of so many of the oldest that is the least loss gives way: a data set of a
/// hundred thousand arrays doesn't make the model forgotten that is trained on them.
const OLDEST_MAX: usize = 16;

/// An act before it is known what its models are.
#[derive(Debug, Clone)]
pub struct Pending {
    pub header: Header,
    pub kind: ActKind,
    pub load: Load,
    pub repeats: Repeats,
    /// Who acted, as far as it is known at the act.
    pub who: Arc<Lineage>,
}

/// An act that has waited enough.
#[derive(Debug)]
pub struct Ready {
    pub header: Header,
    pub kind: ActKind,
    pub role: Role,
    pub artifacts: Vec<Artifact>,
    pub artifacts_omitted: u32,
    pub repeats: Repeats,
    pub who: Arc<Lineage>,
}

/// Joins acts and verdicts.
#[derive(Debug)]
pub struct Correlator {
    scan_wait_ns: u64,
    /// By file and content: a file that is rewritten is another model.
    models: Map<Sight, Known>,
    models_order: VecDeque<Sight>,
    next_sight: u64,
    roles: Map<InodeKey, Role>,
    waiting: WaitingRoom<Sight, Pending>,
    beyond: Beyond,
    /// Models that were taken away by who loaded them after the scanner had found them gone: to be judged again.
    pub unread: Vec<Arc<Model>>,
    pub sums: Sums,
    pub missed: Missed,
}

impl Correlator {
    pub fn new(scan_wait_ns: u64) -> Self {
        Self {
            scan_wait_ns,
            models: Map::default(),
            models_order: VecDeque::new(),
            next_sight: 0,
            roles: Map::default(),
            waiting: WaitingRoom::new(WAITING_MAX),
            beyond: Beyond::default(),
            unread: Vec::new(),
            sums: Sums::default(),
            missed: Missed::default(),
        }
    }

    /// Acts that wait now.
    pub fn waiting_len(&self) -> usize {
        self.waiting.len()
    }

    pub fn models_len(&self) -> usize {
        self.models.len()
    }

    /// An executable's role was decided.
    pub fn decided(&mut self, exe: InodeKey, role: Role) {
        if self.roles.len() >= ROLES_MAX {
            self.roles.clear();
        }
        self.roles.insert(exe, role);
    }

    /// The role of whoever opened a load.
    fn role(&self, load: &Load) -> Role {
        match load.role {
            role::READER => Role::Reader,
            role::LOADER => Role::Loader,
            _ => self.roles.get(&load.exe).copied().unwrap_or(Role::Loader),
        }
    }

    /// A file was opened. Says whether the scanner has to look at it.
    ///
    /// What was there when the sensor came can be thousands of files. Nobody acts because of them now: they wait until
    /// the scanner has nothing else to do, or somebody who has one acts, or opens it again.
    pub fn opened(&mut self, open: &Open) -> Option<Wanted> {
        let sight = (open.inode, open.stamp);
        self.called(sight, &open.path);
        let Self { models, beyond, .. } = self;
        beyond.opened(open, |sight| is_bad(models, sight), |sight| is_fine(models, sight));
        if let Some(known) = self.models.get_mut(&sight) {
            known.named |= open.named;
            // While somebody can change it, a verdict is as old as the look was; what could not be read is tried again.
            let again = open.writers != 0 || known.model.verdict == Verdict::NotRead;
            match known.progress {
                // There was no place for it before: it keeps the one that it has now. Who has it now is easier to ask.
                Progress::Put if known.put.as_ref().is_some_and(|aside| aside.is_owed) && !open.found => {
                    if let Some(aside) = &mut known.put {
                        aside.look.opener = open.header.task.tgid;
                        aside.look.fd = open.fd;
                        aside.look.cacheable &= open.writers == 0;
                    }
                    return None;
                }
                Progress::Put if !open.found => {
                    self.ask(sight, open.header.time_ns);
                }
                Progress::Done if again => known.progress = Progress::Asked,
                _ => return None,
            }
        } else {
            self.remember(sight, &open.path, open.named);
        }
        let look = Look {
            inode: open.inode,
            stamp: open.stamp,
            path: open.path.clone(),
            opener: open.header.task.tgid,
            fd: open.fd,
            cgroup: open.header.cgroup,
            cacheable: open.writers == 0,
            fs_magic: open.fs_magic,
            named: open.named,
        };
        match open.found {
            true => self.put(look, false).map(Wanted::Sometime),
            false if look.is_in_memory() => Some(Wanted::Urgent(look)),
            false => Some(Wanted::Now(look)),
        }
    }

    /// There is no place for this look now: it has time, and opens of its file wait with it; or, where somebody who has the
    /// file acted meanwhile or it has no file system, it is urgent. `None` where the file was forgotten.
    pub fn put_off(&mut self, look: Look) -> Option<Wanted> {
        let sight = (look.inode, look.stamp);
        if self.models.get(&sight)?.acted || look.is_in_memory() {
            return Some(Wanted::Urgent(look));
        }
        let is_owed = look.named;
        let put = self.put(look, is_owed)?;
        let mut opens = self.waiting.take(&sight);
        for open in opens.split_off(opens.len().min(OPENS_MAX)) {
            let deadline_ns = open.header.time_ns.saturating_add(self.scan_wait_ns);
            self.waiting.enter(open.header.cgroup, deadline_ns, vec![sight], open);
        }
        opens.shrink_to_fit();
        if let Some(aside) = self.models.get_mut(&sight).and_then(|known| known.put.as_mut()) {
            aside.opens = opens;
        }
        Some(Wanted::Sometime(put))
    }

    /// There is no place even for a file that can wait: it is looked at when somebody who has it acts, or opens it again.
    pub fn dropped(&mut self, put: &Put) {
        if let Some(aside) = self.models.get_mut(&(put.inode, put.stamp)).and_then(|known| known.put.as_mut()) {
            let count = if aside.is_owed { &mut self.missed.opened } else { &mut self.missed.others };
            *count += 1;
            aside.is_owed = false;
        }
    }

    /// Did somebody act who has this file, and waits for its verdict?
    pub fn is_awaited(&self, sight: Sight) -> bool {
        self.models.get(&sight).is_some_and(|known| known.acted)
    }

    /// Is this file remembered, and was nobody asked?
    pub fn waits(&self, put: &Put) -> bool {
        self.models.get(&(put.inode, put.stamp)).is_some_and(|known| known.progress == Progress::Put)
    }

    pub fn is_clean(&self, sight: Sight) -> bool {
        is_clean(&self.models, sight)
    }

    /// A look that has time.
    fn put(&mut self, look: Look, is_owed: bool) -> Option<Put> {
        let put = Put { inode: look.inode, stamp: look.stamp, turn: look.turn() };
        let known = self.models.get_mut(&(look.inode, look.stamp))?;
        known.progress = Progress::Put;
        // There is seldom a second one, and there are thousands of files that wait.
        known.put = Some(Box::new(Aside { look, opens: Vec::with_capacity(1), is_owed }));
        Some(put)
    }

    /// Now is the time for it, if nobody asked meanwhile.
    pub fn take(&mut self, put: &Put, now_ns: u64) -> Option<Look> {
        self.ask((put.inode, put.stamp), now_ns)
    }

    /// Ends the time of a file that had some.
    fn ask(&mut self, sight: Sight, now_ns: u64) -> Option<Look> {
        let known = self.models.get_mut(&sight).filter(|known| known.progress == Progress::Put)?;
        known.progress = Progress::Asked;
        let Aside { look, opens, .. } = *known.put.take()?;
        for open in opens {
            self.waiting.enter(open.header.cgroup, now_ns.saturating_add(self.scan_wait_ns), vec![sight], open);
        }
        Some(look)
    }

    fn remember(&mut self, sight: Sight, path: &[u8], named: bool) {
        while self.models.len() >= MODELS_MAX && self.forget_one() {}
        let known = Known::new(self.unknown(sight), Progress::Asked, named);
        if self.models.insert(sight, known).is_none() {
            self.models_order.push_back(sight);
        }
        self.called(sight, path);
    }

    fn unknown(&mut self, sight: Sight) -> Arc<Model> {
        self.next_sight += 1;
        Arc::new(unknown(sight, self.next_sight))
    }

    /// What a file is called, if nobody said so before.
    pub fn called(&mut self, sight: Sight, path: &[u8]) {
        if let Some(known) = self.models.get_mut(&sight) {
            known.call(path);
        }
    }

    /// Makes room for a model. What is spared for its worth comes again when the others were.
    fn forget_one(&mut self) -> bool {
        let worth = |sight: &Sight| self.models.get(sight).map_or(0, worth);
        let oldest = self.models_order.iter().take(OLDEST_MAX).enumerate();
        let Some((index, _)) = oldest.min_by_key(|(index, sight)| (worth(sight), *index)) else { return false };
        self.models_order.rotate_left(index);
        let Some(sight) = self.models_order.pop_front() else { return false };
        if let Some(known) = self.models.remove(&sight) {
            self.missed.acted += u64::from(known.acted);
            self.missed.opened += u64::from(!known.acted && is_owed(&known));
        }
        true
    }

    /// What an earlier sensor found out.
    pub fn recall(&mut self, known: Remembered) {
        let sight = (known.inode, known.stamp);
        self.remember(sight, &known.path, true);
        if let Some(entry) = self.models.get_mut(&sight) {
            let model = Arc::make_mut(&mut entry.model);
            model.format = known.format;
            model.class = known.class;
            model.verdict = known.verdict;
            model.findings = known.findings;
            model.all_globals_safe = known.all_globals_safe;
            model.sha256 = known.sha256;
            entry.progress = Progress::Done;
        }
    }

    /// What is known of one content of one file; `None` where it is no model.
    pub fn known(&self, inode: InodeKey, stamp: ContentStamp) -> Option<Remembered> {
        self.models.get(&(inode, stamp)).and_then(|known| remembered(stamp, known))
    }

    /// What is known of all of them, the latest first.
    pub fn all_known(&self) -> impl Iterator<Item = Remembered> {
        let order = self.models_order.iter().rev();
        order.filter_map(|(inode, stamp)| self.known(*inode, *stamp))
    }

    /// The scanner spoke. Says what to tell the kernel, and the model where an act left without its verdict.
    pub fn looked(&mut self, inode: InodeKey, stamp: ContentStamp, word: Word) -> Option<(Tell, Option<Arc<Model>>)> {
        // An earlier look came back, from before the file was forgotten: opens that wait with it wait no longer.
        self.ask((inode, stamp), 0);
        let known = self.models.get_mut(&(inode, stamp))?;
        self.waiting.stir(&(inode, stamp));
        let was_unknown = is_kind_unknown(known);
        let model = Arc::make_mut(&mut known.model);
        match word {
            Word::Sniffed { class, format } => {
                model.class = class;
                model.format = format;
                known.progress = known.progress.max(Progress::Sniffed);
            }
            Word::NotModel => {
                known.not_model = true;
                known.progress = Progress::Done;
            }
            Word::Judged { class, format, verdict, findings, all_globals_safe, sha256, is_another } => {
                known.is_lost = is_another;
                model.sha256 = sha256;
                model.class = class;
                model.format = format;
                model.verdict = verdict;
                model.findings = findings;
                model.all_globals_safe = all_globals_safe;
                known.progress = Progress::Done;
            }
            Word::NotRead { finding, .. } if !known.named && was_unknown => {
                // Nothing accuses it, and its content can't be read any more.
                model.class = ContentClass::Data;
                model.findings = vec![finding];
                known.progress = Progress::Done;
            }
            Word::NotRead { finding, is_lost } => {
                known.is_lost = is_lost;
                model.verdict = Verdict::NotRead;
                model.findings = vec![finding];
                known.progress = Progress::Done;
            }
        }
        known.settle_loss();
        let model = &known.model;
        let tell = Tell {
            inode,
            stamp,
            named: known.named,
            class: match model.class {
                _ if known.not_model => class::NOT_MODEL,
                ContentClass::Code => class::CODE,
                ContentClass::Data => class::DATA,
                ContentClass::Unknown => class::UNKNOWN,
            },
            verdict: match model.verdict {
                Verdict::Clean => verdict::CLEAN,
                Verdict::Suspicious => verdict::SUSPICIOUS,
                Verdict::Malicious => verdict::MALICIOUS,
                Verdict::Unscannable => verdict::UNSCANNABLE,
                Verdict::Pending | Verdict::NotRead => verdict::NONE,
            },
        };
        // Also when its kind comes first: what left as data may be judged as code now.
        let done = known.progress == Progress::Done;
        let late = known.missed && !known.not_model && (done || was_unknown);
        if done {
            known.missed = false;
            known.acted = false;
        }
        Some((tell, late.then(|| Arc::clone(&known.model))))
    }

    /// A process took from `load` the inode `ino`, or what is called `path`.
    pub fn destroyed(&mut self, header: &Header, load: &Load, ino: u64, path: &[u8]) {
        for artifact in &load.artifacts {
            let known = self.models.get_mut(&(artifact.inode, artifact.stamp));
            if let Some(known) = known.filter(|known| artifact.inode.ino == ino || known.is_called(path))
                && known.is_destroyed(artifact, header.time_ns)
            {
                self.unread.push(Arc::clone(&known.model));
            }
        }
    }

    /// An act of a process that carries a load. Gives back the files that nobody has looked at: they had time until now,
    /// their open was not announced, they were forgotten, or they still wait for the scanner.
    pub fn acted(&mut self, mut pending: Pending, now_ns: u64) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        if pending.load.omitted > 0 {
            let is_fine = |sight| is_fine(&self.models, sight);
            self.beyond.put_back(&mut pending.load, pending.header.task, is_fine);
        }
        let is_open = pending.kind == ActKind::ModelOpen;
        for artifact in &pending.load.artifacts {
            let sight = (artifact.inode, artifact.stamp);
            if let Some(known) = self.models.get_mut(&sight) {
                match &mut known.put {
                    // (An open says itself whether its file has time.)
                    Some(aside) if is_open && aside.opens.len() < OPENS_MAX => {
                        let same = |open: &&mut Pending| open.header.task == pending.header.task;
                        match aside.opens.iter_mut().find(same) {
                            Some(known) => known.repeats.times += pending.repeats.times,
                            None => aside.opens.push(pending),
                        }
                        return wanted;
                    }
                    Some(_) if !is_open => wanted.extend(self.ask(sight, now_ns).map(Wanted::Urgent)),
                    None if !is_open && known.progress != Progress::Done && !known.acted => {
                        let (inode, stamp) = sight;
                        wanted.push(Wanted::Sooner(Put { inode, stamp, turn: pending.header.cgroup }));
                    }
                    _ => {}
                }
            } else {
                self.remember(sight, b"", artifact.named);
                wanted.push(Wanted::Urgent(Look {
                    inode: artifact.inode,
                    stamp: artifact.stamp,
                    path: Vec::new(),
                    opener: artifact.opener.tgid,
                    fd: None,
                    cgroup: pending.header.cgroup,
                    cacheable: false,
                    fs_magic: 0,
                    named: artifact.named,
                }));
            }
            if let Some(known) = self.models.get_mut(&sight) {
                known.acted |= !is_open && known.progress != Progress::Done;
            }
        }
        let sights = pending.load.artifacts.iter().map(|artifact| (artifact.inode, artifact.stamp)).collect();
        self.waiting.enter(pending.header.cgroup, now_ns.saturating_add(self.scan_wait_ns), sights, pending);
        wanted
    }

    /// Somebody said who a process is.
    pub fn told(&mut self) {
        self.waiting.stir_all();
    }

    /// Acts that have waited enough. `is_known` says whether all is known that can be of the processes that one is about.
    pub fn due(&mut self, now_ns: u64, is_known: impl Fn(&Pending) -> bool) -> Vec<Ready> {
        let Self { waiting, models, .. } = self;
        let left = waiting.leave(now_ns, |pending| is_settled(models, &pending.load) && is_known(pending));
        left.into_iter().filter_map(|pending| self.settle(pending)).collect()
    }

    /// Everything that waits, as it is: the daemon stops.
    pub fn flush(&mut self) -> Vec<Ready> {
        self.due(u64::MAX, |_| true)
    }

    /// When the next act has to leave, boot clock, ns.
    pub fn next_deadline_ns(&self) -> Option<u64> {
        self.waiting.next_deadline_ns()
    }

    fn settle(&mut self, pending: Pending) -> Option<Ready> {
        let Pending { header, kind, load, repeats, who } = pending;
        let role = self.role(&load);
        let mut artifacts = Vec::with_capacity(load.artifacts.len());
        let (mut before_verdict, mut provisional) = (false, false);
        for of_load in &load.artifacts {
            let sight = (of_load.inode, of_load.stamp);
            let (mut model, kind_unknown) = match self.models.get_mut(&sight) {
                Some(known) if known.not_model => continue,
                Some(known) if known.progress == Progress::Done => (Arc::clone(&known.model), false),
                Some(known) => {
                    known.missed = true;
                    before_verdict = true;
                    (Arc::clone(&known.model), is_kind_unknown(known))
                }
                // Forgotten meanwhile. Of an open there is nothing more to say, but whoever acts is told.
                None if kind == ActKind::ModelOpen => continue,
                None => (self.unknown(sight), true),
            };
            if kind_unknown {
                // A name alone makes no accusation.
                provisional = true;
                Arc::make_mut(&mut model).class = ContentClass::Data;
            }
            let basis = match (of_load.held, of_load.born, of_load.cut) {
                (true, ..) => Some(Basis::Held),
                (_, true, _) => Some(Basis::Born),
                (.., true) => Some(Basis::Cut),
                _ => None,
            };
            artifacts.push(Artifact {
                model,
                opener: of_load.opener,
                opened_boottime_ns: of_load.opened_ns,
                in_window: of_load.held,
                born: of_load.born,
                basis,
                since_ns: header.time_ns.saturating_sub(of_load.opened_ns.max(of_load.held_ns)),
                bystander: of_load.bystander,
            });
        }
        if artifacts.is_empty() {
            self.sums.acts_without_model += repeats.times;
            return None;
        }
        self.sums.acts += repeats.times;
        self.sums.acts_before_verdict += u64::from(before_verdict);
        self.sums.acts_provisional += u64::from(provisional);
        Some(Ready { header, kind, role, artifacts, artifacts_omitted: load.omitted, repeats, who })
    }
}

#[cfg(test)]
#[path = "correlate_tests.rs"]
mod tests;
