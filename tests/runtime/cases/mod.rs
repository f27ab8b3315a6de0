//! All cases, by subject.

mod benign;
mod payload;
mod quiet;

use crate::harness::Case;

pub fn all() -> Vec<Case> {
    [payload::cases(), benign::cases(), quiet::cases()].into_iter().flatten().collect()
}
