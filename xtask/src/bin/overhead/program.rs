//! What each kernel program spends, as the kernel itself counts it: under `-icount shift=0` a nanosecond is an instruction.

use std::collections::BTreeMap;
use std::{fs, io};

use serde_json::{Value, json};

use crate::kernel::{Program, programs};
use crate::operation::{Bench, OPERATIONS, RUNS};

/// proc_sys_kernel(5), Linux 5.1.
const STATS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// For every operation the programs that ran: how often, and the instructions, for all of the operation's runs, of which
/// there are [`RUNS`].
pub fn of_operations(bench: &Bench) -> io::Result<Value> {
    fs::write(STATS, "1")?;
    let mut all = Vec::new();
    for (name, run) in OPERATIONS {
        let before = by_id()?;
        for _ in 0..RUNS {
            run(bench)?;
        }
        let mut spent = Vec::new();
        for (id, program) in by_id()? {
            let earlier = before.get(&id).map_or((0, 0), |earlier| (earlier.runs, earlier.time_ns));
            let (runs, instructions) = (program.runs - earlier.0, program.time_ns - earlier.1);
            if runs > 0 {
                spent.push(json!({ "name": program.name, "runs": runs, "instructions": instructions }));
            }
        }
        all.push(json!({ "name": name, "times": RUNS, "programs": spent }));
    }
    fs::write(STATS, "0")?;
    Ok(all.into())
}

fn by_id() -> io::Result<BTreeMap<u32, Program>> {
    Ok(programs()?.into_iter().map(|program| (program.id, program)).collect())
}
