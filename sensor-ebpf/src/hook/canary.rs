//! Does a rung run at all? A hook on something that the sensor does while it starts: it asks on which CPUs it may run
//! (match-proto: security/security.c: int security_task_getscheduler(struct task_struct *p)).
//!
//! LSM programs load and attach without an error where `bpf` isn't in `lsm=`, and never run.

use sensor_abi::counter::Counter;

use crate::entry::security_hook;
use crate::field::config;
use crate::maps::count;
use crate::task;

security_hook! {
    fn task_getscheduler(_task: *const u8) {
        if task::current_tgid() == config!(own_tgid) {
            count(Counter::CanaryRung);
        }
    }
}
