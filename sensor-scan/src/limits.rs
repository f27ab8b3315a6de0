//! What one file may cost. Hitting a limit is a finding (SNS-901, SNS-905) and never `clean`.

use std::time::Duration;

/// Limits per input file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Containers in containers, streams in streams.
    pub depth_max: u32,
    /// Members over all containers of the file.
    pub members_max: u64,
    /// Bytes decoded from compressed members, in all.
    pub decoded_bytes_max: u64,
    /// Bytes of one decoded member held in memory.
    pub window_bytes_max: u64,
    /// Decoded bytes per encoded byte, looked at beyond a megabyte.
    pub ratio_max: u64,
    /// Pickle opcodes over all streams of the file.
    pub opcodes_max: u64,
    /// Values that one pickle stream's machine keeps; from half of them on it forgets harmless ones that are out of sight.
    pub values_max: u64,
    /// Nested streams (pickles in pickles) over the file.
    pub nested_streams_max: u64,
    /// Findings of one id that are kept; the rest is counted.
    pub findings_per_id_max: usize,
    pub time_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 16,
            members_max: 200_000,
            decoded_bytes_max: 4 << 30,
            window_bytes_max: 64 << 20,
            ratio_max: 1_000,
            opcodes_max: 400_000_000,
            values_max: 2_000_000,
            nested_streams_max: 10_000,
            findings_per_id_max: 20,
            time_max: Duration::from_secs(120),
        }
    }
}
