//! The programs against the rule of kernel 6.1 for the stack, which newer ones have relaxed: a chain of calls has 512 bytes,
//! and each function on it takes a multiple of 32.

#![allow(clippy::unwrap_used, unsafe_code, unreachable_pub)]

mod support;

use std::collections::{BTreeMap, BTreeSet};

use aya_obj::generated::bpf_insn;
use support::linked::{called, programs};

const MOST: usize = 512;
const UNIT: usize = 32;

/// Of instructions, as in linux/bpf.h: adds a constant to a register, which is how the address of something on the stack is made.
const ADD: u8 = 0x07;
/// Memory by a register: loads, stores of registers and of constants.
const CLASSES: [u8; 3] = [0x01, 0x02, 0x03];
/// The frame of a function.
const FRAME: u8 = 10;

/// One function: bytes of stack, and whom it calls.
#[derive(Debug, Default)]
struct Function {
    stack: usize,
    calls: BTreeSet<usize>,
}

/// The functions of a linked program by their first instruction.
fn functions(code: &[bpf_insn]) -> BTreeMap<usize, Function> {
    let targets = code
        .iter()
        .enumerate()
        .filter_map(|(at, insn)| called(at, insn));
    let mut all: BTreeMap<usize, Function> = targets
        .chain([0])
        .map(|at| (at, Function::default()))
        .collect();
    for (at, insn) in code.iter().enumerate() {
        let (_, function) = all.range_mut(..=at).next_back().unwrap();
        function.calls.extend(called(at, insn));
        let by_frame = (insn.src_reg() == FRAME && insn.code & 7 == CLASSES[0])
            || (insn.dst_reg() == FRAME && CLASSES[1..].contains(&(insn.code & 7)));
        let below = if by_frame {
            isize::from(insn.off)
        } else if insn.code == ADD {
            insn.imm as isize
        } else {
            0
        };
        if (-(MOST as isize)..0).contains(&below) {
            function.stack = function.stack.max(below.unsigned_abs());
        }
    }
    all
}

/// The greatest chain of calls that begins with a function, in bytes: what each takes.
fn greatest(all: &BTreeMap<usize, Function>, from: usize) -> Vec<usize> {
    let own = all[&from].stack.next_multiple_of(UNIT).max(UNIT);
    let calls = all[&from].calls.iter().map(|callee| greatest(all, *callee));
    let behind = calls
        .max_by_key(|chain| chain.iter().sum::<usize>())
        .unwrap_or_default();
    [vec![own], behind].concat()
}

#[test]
fn every_chain_of_calls_fits_into_the_stack_of_kernel_6_1() {
    for (name, least, code) in programs() {
        let all = functions(&code);
        assert!(
            all.len() >= least,
            "{name} has {} functions: the rest was not found",
            all.len()
        );
        let chain = greatest(&all, 0);
        let sum: usize = chain.iter().sum();
        assert!(
            sum <= MOST,
            "{name}: {sum} bytes of stack on 6.1: {chain:?}"
        );
    }
}
