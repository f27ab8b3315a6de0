//! What is known of one content of one file.

use std::sync::Arc;

use sensor_abi::identity::ContentStamp;

use super::{Look, Pending};
use crate::event::{ContentClass, Destroyed, InodeKey, Model, ModelFinding, Verdict};
use crate::hub;
use crate::table::Map;
use crate::watch::record::{Load, LoadArtifact, Remembered};

/// What is taken away later after its open has been read, or will not be for another reason, ns.
pub const DESTROYED_NS_MAX: u64 = 10_000_000_000;

/// How far the look at a file has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Progress {
    /// Nobody was asked yet.
    Put,
    Asked,
    /// Its kind is known, its verdict isn't.
    Sniffed,
    Done,
}

/// One content of one file.
pub type Sight = (InodeKey, ContentStamp);

#[derive(Debug)]
pub struct Known {
    pub model: Arc<Model>,
    pub progress: Progress,
    pub not_model: bool,
    /// Its name or place says that it may be a model: where the content can't be read, that counts.
    pub named: bool,
    /// An act left before the verdict came.
    pub missed: bool,
    /// Who loaded it took it away soon after.
    pub destroyed: Option<Destroyed>,
    /// The look found that what was opened is no longer there.
    pub is_lost: bool,
    /// Somebody who has it acted, and waits for its verdict.
    pub acted: bool,
    /// Of [`Progress::Put`].
    pub put: Option<Box<Aside>>,
}

impl Known {
    pub fn new(model: Arc<Model>, progress: Progress, named: bool) -> Self {
        Self {
            model,
            progress,
            not_model: false,
            named,
            missed: false,
            destroyed: None,
            is_lost: false,
            acted: false,
            put: None,
        }
    }

    /// What it is called, if nobody said so before.
    pub fn call(&mut self, path: &[u8]) {
        if path.is_empty() || !self.model.path.is_empty() {
            return;
        }
        let model = Arc::make_mut(&mut self.model);
        model.path = path.to_vec();
        if let Some((repo, revision)) = hub::identity(path) {
            (model.repo, model.revision) = (Some(repo), revision);
        }
    }

    pub fn is_called(&self, path: &[u8]) -> bool {
        !path.is_empty() && self.model.path == path
    }

    /// Who loaded it as `artifact` took it away. True where it is news that nobody will read it any more because of that.
    pub fn is_destroyed(&mut self, artifact: &LoadArtifact, time_ns: u64) -> bool {
        if !self.named || time_ns.saturating_sub(artifact.opened_ns) > DESTROYED_NS_MAX {
            return false;
        }
        let when = if artifact.held || artifact.born { Destroyed::InLoad } else { Destroyed::Afterwards };
        self.destroyed = self.destroyed.max(Some(when));
        self.settle_loss()
    }

    /// Who loaded it took it away, and the look found it gone: the one because of the other. True where that is news.
    pub fn settle_loss(&mut self) -> bool {
        let is_unread = self.is_lost && self.model.verdict == Verdict::NotRead;
        if !is_unread || self.model.destroyed >= self.destroyed {
            return false;
        }
        let model = Arc::make_mut(&mut self.model);
        model.destroyed = self.destroyed;
        model.findings = vec![ModelFinding {
            id: "SNS-903".into(),
            severity: "high".into(),
            title: "not read: who loaded it rewrote, removed or moved it first".into(),
        }];
        true
    }
}

/// A model of which nothing is known yet but that it is there; `number`: [`Model::sight`].
pub fn unknown((inode, stamp): Sight, number: u64) -> Model {
    Model {
        sight: number,
        inode,
        path: Vec::new(),
        size: stamp.size,
        format: None,
        class: ContentClass::Unknown,
        verdict: Verdict::Pending,
        findings: Vec::new(),
        sha256: None,
        repo: None,
        revision: None,
        destroyed: None,
        all_globals_safe: false,
    }
}

/// A file that has time.
#[derive(Debug)]
pub struct Aside {
    pub look: Look,
    /// Opens of it, at most [`super::OPENS_MAX`]: they are told when it is looked at.
    pub opens: Vec<Pending>,
    /// It was opened while the sensor watched, its name or place says that it may be a model, and it has a place to wait.
    pub is_owed: bool,
}

pub fn remembered(stamp: ContentStamp, known: &Known) -> Option<Remembered> {
    let model = &known.model;
    (!known.not_model && known.progress > Progress::Asked).then(|| Remembered {
        inode: model.inode,
        stamp,
        path: model.path.clone(),
        format: model.format.clone(),
        class: model.class,
        verdict: model.verdict,
        findings: model.findings.clone(),
        all_globals_safe: model.all_globals_safe,
        sha256: model.sha256.clone(),
    })
}

/// How much of a loss it would be to forget a model: least one that nothing can come of, most one that an act waits for.
pub fn worth(known: &Known) -> u8 {
    let is_data = known.model.class == ContentClass::Data && known.model.verdict == Verdict::Clean;
    match known.progress {
        Progress::Done if known.not_model || is_data => 0,
        _ if known.acted => 4,
        _ if found_bad(known) => 3,
        // The scanner has it: its word would be said to nobody.
        Progress::Asked | Progress::Sniffed => 2,
        Progress::Put | Progress::Done => 1,
    }
}

/// Is a verdict still to come that its open calls for? (Where it has lost its place already, that was counted.)
pub fn is_owed(known: &Known) -> bool {
    match &known.put {
        Some(aside) => aside.is_owed,
        None => known.progress != Progress::Done && known.named,
    }
}

/// Does nobody know yet what kind of file it is?
pub fn is_kind_unknown(known: &Known) -> bool {
    known.progress <= Progress::Asked && known.model.format.is_none()
}

pub fn found_bad(known: &Known) -> bool {
    !known.not_model && matches!(known.model.verdict, Verdict::Malicious | Verdict::Suspicious | Verdict::Unscannable)
}

/// Was something found in it?
pub fn is_bad(models: &Map<Sight, Known>, sight: Sight) -> bool {
    models.get(&sight).is_some_and(found_bad)
}

/// Is nothing bad known of it, and nothing to be learned any more?
pub fn is_fine(models: &Map<Sight, Known>, sight: Sight) -> bool {
    models.get(&sight).is_none_or(|known| known.progress == Progress::Done) && !is_bad(models, sight)
}

/// Was it read, and nothing found in it?
pub fn is_clean(models: &Map<Sight, Known>, sight: Sight) -> bool {
    models.get(&sight).is_some_and(|known| known.progress == Progress::Done && known.model.verdict == Verdict::Clean)
}

/// Is everything known of a load's files?
pub fn is_settled(models: &Map<Sight, Known>, load: &Load) -> bool {
    load.artifacts.iter().all(|artifact| {
        let known = models.get(&(artifact.inode, artifact.stamp));
        known.is_none_or(|known| known.progress == Progress::Done)
    })
}
