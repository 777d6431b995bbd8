//! The programs against the rule of kernel 6.1 for loops, which newer ones have relaxed: none goes back by mere falling through,
//! from an instruction that is no jump (`check_cfg` in its verifier).

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use aya_obj::generated::bpf_insn;
use support::linked::{CALL, called, programs};

/// Of instructions, as in linux/bpf.h: the classes of jumps, of which each has an operation in the upper bits.
const JUMPS: [u8; 2] = [0x05, 0x06];
const ALWAYS: u8 = 0x00;
const EXIT: u8 = 0x90;

/// How far the walk has come with an instruction.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    No,
    /// It leads to where the walk is.
    OnTheWay,
    Done,
}

/// Where an instruction leads, in the order in which the kernel goes there; and whether it may go back there.
fn next(at: usize, insn: &bpf_insn) -> Vec<(usize, bool)> {
    let jump = || at.checked_add_signed(isize::from(insn.off) + 1).unwrap();
    if !JUMPS.contains(&(insn.code & 0x07)) {
        return vec![(at + 1, false)];
    }
    match insn.code & 0xf0 {
        EXIT => Vec::new(),
        ALWAYS => vec![(jump(), true)],
        _ if insn.code == CALL => {
            let behind = (at + 1, false);
            let callee = called(at, insn).map(|start| (start, false));
            [behind].into_iter().chain(callee).collect()
        }
        _ => vec![(at + 1, true), (jump(), true)],
    }
}

/// The step back that kernel 6.1 would refuse, from where to where.
fn refused(code: &[bpf_insn]) -> Option<(usize, usize)> {
    let mut seen = vec![Seen::No; code.len()];
    let mut way = vec![(0, next(0, &code[0]).into_iter())];
    seen[0] = Seen::OnTheWay;
    while let Some((at, left)) = way.last_mut() {
        let at = *at;
        match left.next() {
            None => {
                seen[at] = Seen::Done;
                way.pop();
            }
            Some((to, may_go_back)) => match seen[to] {
                Seen::No => {
                    seen[to] = Seen::OnTheWay;
                    way.push((to, next(to, &code[to]).into_iter()));
                }
                Seen::OnTheWay if !may_go_back => return Some((at, to)),
                Seen::OnTheWay | Seen::Done => {}
            },
        }
    }
    None
}

/// An instruction with this code and offset.
fn insn(code: u8, off: i16) -> bpf_insn {
    // SAFETY: integers and bit fields, for which zeros are a value.
    let mut insn: bpf_insn = unsafe { std::mem::zeroed() };
    (insn.code, insn.off) = (code, off);
    insn
}

#[test]
fn no_loop_of_a_program_is_of_a_shape_that_kernel_6_1_refuses() {
    let (moves, goes, exits) = (insn(0xb7, 0), |off| insn(0x05, off), insn(0x95, 0));
    let goes_if = |off| insn(0x15, off);
    // Into the head by falling through, and back by a jump; and the other way round.
    let good = [moves, moves, goes_if(-2), exits];
    let bad = [goes(1), moves, moves, goes_if(-3), exits];
    assert_eq!((refused(&good), refused(&bad)), (None, Some((1, 2))));

    for (name, _, code) in programs() {
        let back = refused(&code);
        assert_eq!(back, None, "{name}: of {} instructions", code.len());
    }
}
