//! The stack of our programs, as verifiers before 6.9 count it: they round a function's part up to 32 bytes, later ones to
//! 16 where the code is compiled (kernel/bpf/verifier.c: check_max_stack_depth_subprog, round_up_stack_depth). None of the
//! kernels between 6.1 and 6.12 is among those that tests run on, so the object is held against the rule here.

use std::collections::{BTreeSet, HashMap, HashSet};

use aya_obj::Object;
use aya_obj::generated::bpf_insn;

use super::OBJECT;

/// include/linux/filter.h: MAX_BPF_STACK.
const STACK_BYTES_MAX: i64 = 512;
const ROUNDED_TO: i64 = 32;

const LOAD_WORDS: u8 = 0x18;
const MOVE: u8 = 0xbf;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const FRAME: u8 = 10;
/// `src_reg` of a call of another function, and of the address of one.
const OTHER_FUNCTION: [(u8, u8); 2] = [(CALL, 1), (LOAD_WORDS, 4)];

/// Where functions begin in a linked program, and whom each calls.
fn calls(program: &[bpf_insn]) -> HashMap<usize, BTreeSet<usize>> {
    let target = |at: usize, insn: &bpf_insn| {
        let other = OTHER_FUNCTION.contains(&(insn.code, insn.src_reg()));
        other.then(|| at.checked_add_signed(insn.imm as isize + 1).expect("inside the program"))
    };
    let targets = || program.iter().enumerate().filter_map(|(at, insn)| Some((at, target(at, insn)?)));
    let starts: BTreeSet<usize> = targets().map(|(_, start)| start).chain([0]).collect();
    let mut calls: HashMap<usize, BTreeSet<usize>> = starts.iter().map(|start| (*start, BTreeSet::new())).collect();
    for (at, callee) in targets() {
        let caller = starts.range(..=at).next_back().expect("one begins at 0");
        calls.get_mut(caller).expect("known").insert(callee);
    }
    calls
}

/// The deepest byte below its frame that a function touches, or gives the address of.
fn depth(function: &[bpf_insn]) -> i64 {
    let mut deepest = 0;
    // Registers that hold the frame's address.
    let mut held = HashSet::from([FRAME]);
    for insn in function {
        let (into, from) = (insn.dst_reg(), insn.src_reg());
        // include/uapi/linux/bpf_common.h: BPF_LDX, BPF_ST, BPF_STX.
        match insn.code & 7 {
            1 if held.contains(&from) => deepest = deepest.min(i64::from(insn.off)),
            2 | 3 if held.contains(&into) => deepest = deepest.min(i64::from(insn.off)),
            _ => {}
        }
        match insn.code {
            MOVE if held.contains(&from) => _ = held.insert(into),
            ADD if into != FRAME && held.remove(&into) => deepest = deepest.min(i64::from(insn.imm)),
            CALL => held.retain(|register| *register > 5),
            code if matches!(code & 7, 0 | 1 | 4 | 7) => _ = held.remove(&into),
            _ => {}
        }
    }
    -deepest
}

/// Of the deepest chain of calls from the function at `start`.
fn chain(start: usize, program: &[bpf_insn], calls: &HashMap<usize, BTreeSet<usize>>) -> i64 {
    let end = calls.keys().copied().filter(|other| *other > start).min().unwrap_or(program.len());
    let own = depth(&program[start..end]).max(1);
    let below = calls[&start].iter().map(|callee| chain(*callee, program, calls)).max().unwrap_or(0);
    (own + ROUNDED_TO - 1) / ROUNDED_TO * ROUNDED_TO + below
}

#[test]
fn every_program_fits_where_functions_are_rounded_up() {
    let mut object = Object::parse(OBJECT).expect("our own object");
    let sections = object.functions.keys().map(|(section, _)| *section).collect();
    object.relocate_calls(&sections).expect("our own object");
    let mut deepest = 0;
    for (name, program) in &object.programs {
        let program = &object.functions[&program.function_key()].instructions;
        let bytes = chain(0, program, &calls(program));
        assert!(bytes <= STACK_BYTES_MAX, "{name} needs {bytes} bytes");
        deepest = deepest.max(bytes);
    }
    assert!(deepest > STACK_BYTES_MAX / 2, "{deepest} bytes: the frames were not found");
}
