//! The instructions of each program as they are loaded, with the functions that it calls behind it.

use std::collections::HashSet;

use aya_obj::generated::bpf_insn;
use vipd_datapath_common::program;

use super::bench::object;

/// Of instructions, as in linux/bpf.h: a call, and by this source register of a function of the program itself.
pub const CALL: u8 = 0x85;
const OF_OURS: u8 = 1;

/// Programs at interfaces, by name, and how many functions each has at least.
const INTERFACES: [(&str, usize); 3] = [
    (program::INGRESS, 6),
    (program::EGRESS, 6),
    (program::XDP, 1),
];

/// Each program: its name, how many functions it has at least, and its instructions.
pub fn programs() -> Vec<(&'static str, usize, Vec<bpf_insn>)> {
    let mut object = aya_obj::Object::parse(&object()).unwrap();
    let sections: HashSet<usize> = object
        .functions
        .keys()
        .map(|(section, _)| *section)
        .collect();
    object.relocate_calls(&sections).unwrap();
    let sockets = program::SOCKETS.map(|(name, _)| (name, 1));
    let all = INTERFACES.into_iter().chain(sockets);
    let linked = all.map(|(name, least)| {
        let key = object.programs[name].function_key();
        (name, least, object.functions[&key].instructions.clone())
    });
    linked.collect()
}

/// Where the function begins that an instruction calls, if it calls one of the program itself.
pub fn called(at: usize, insn: &bpf_insn) -> Option<usize> {
    let ours = insn.code == CALL && insn.src_reg() == OF_OURS;
    ours.then(|| at.checked_add_signed(insn.imm as isize + 1).unwrap())
}
