//! All cases, by subject.

mod benign;
mod crowd;
mod evasion;
mod files;
mod flood;
mod hostile;
mod lifecycle;
mod neighbour;
mod network;
mod paths;
mod payload;
mod prior;
mod programs;
mod quiet;
mod real;
mod restart;
mod settings;
mod system;
mod verdict;
mod ways_in;
mod when;
mod who;

use crate::harness::Case;

pub fn all() -> Vec<Case> {
    let all = [
        prior::cases(),
        crowd::cases(),
        payload::cases(),
        ways_in::cases(),
        when::cases(),
        who::cases(),
        benign::cases(),
        quiet::cases(),
        real::cases(),
        hostile::cases(),
        evasion::cases(),
        files::cases(),
        programs::cases(),
        system::cases(),
        verdict::cases(),
        settings::cases(),
        paths::cases(),
        lifecycle::cases(),
        neighbour::cases(),
        flood::cases(),
        network::cases(),
        restart::cases(),
        lifecycle::after_a_crash(),
    ];
    all.into_iter().flatten().collect()
}
