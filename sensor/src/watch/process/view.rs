//! What an alert says of a process and of those above it, kept while nothing new is known of any of them: a process acts
//! more often than it changes.

use std::sync::Arc;

use crate::event::{Lineage, TaskKey};
use crate::table::Map;

/// Processes that views are kept of. Full: all are forgotten, which costs time and nothing else.
const VIEWS_MAX: usize = 64;

/// A process as it is known now.
#[derive(Debug, Clone)]
pub struct View {
    pub lineage: Arc<Lineage>,
    /// Somebody said of it, and of each above it, what it runs.
    pub is_known: bool,
}

/// The latest views.
#[derive(Debug, Default)]
pub struct Views {
    kept: Map<TaskKey, (u64, View)>,
    /// How often anything changed that a view may show.
    changes: u64,
}

impl Views {
    /// Something is known now of a process that was there before.
    pub fn changed(&mut self) {
        self.changes += 1;
    }

    /// The view of `task` in `cgroup`, if nothing has changed since.
    pub fn get(&self, task: TaskKey, cgroup: u64) -> Option<&View> {
        let (of, view) = self.kept.get(&task)?;
        (*of == self.changes && view.lineage.cgroup_id == cgroup).then_some(view)
    }

    /// Keeps a view that was made just now. One that says the same as before shares what is said.
    pub fn keep(&mut self, task: TaskKey, mut view: View) -> View {
        if let Some((_, known)) = self.kept.get(&task)
            && *known.lineage == *view.lineage
        {
            view.lineage = Arc::clone(&known.lineage);
        } else if self.kept.len() >= VIEWS_MAX {
            self.kept.clear();
        }
        self.kept.insert(task, (self.changes, view.clone()));
        view
    }
}
