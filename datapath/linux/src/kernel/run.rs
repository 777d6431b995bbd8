//! Runs a program on a frame: BPF_PROG_TEST_RUN, for programs that are in use.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use super::sys::bpf;

const PROG_TEST_RUN: i32 = 10;
/// Size of `struct __sk_buff` that all kernels know, and where `ingress_ifindex` and `ifindex` are in it.
const CONTEXT: usize = 192;
const INGRESS_IFINDEX: usize = 36;
const IFINDEX: usize = 40;
/// Room for a frame that grew.
const LONGEST: usize = 512;

/// `union bpf_attr` for BPF_PROG_TEST_RUN, as in linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct RunAttr {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    padding: u32,
}

/// What a program that sees frames enter says of this one, on this interface, and what it made of it. It goes nowhere; what
/// the program writes to its maps stays.
pub(super) fn ingress(
    program: BorrowedFd<'_>,
    ifindex: u32,
    frame: &[u8],
) -> io::Result<(i32, Vec<u8>)> {
    let mut context = [0u8; CONTEXT];
    for place in [INGRESS_IFINDEX, IFINDEX] {
        context[place..place + 4].copy_from_slice(&ifindex.to_ne_bytes());
    }
    let mut out = vec![0u8; LONGEST];
    let mut attr = RunAttr {
        program: program.as_raw_fd().cast_unsigned(),
        size_in: u32::try_from(frame.len()).map_err(io::Error::other)?,
        size_out: LONGEST as u32,
        data_in: frame.as_ptr() as u64,
        data_out: out.as_mut_ptr() as u64,
        context_size_in: CONTEXT as u32,
        context_in: context.as_ptr() as u64,
        ..RunAttr::default()
    };
    bpf(PROG_TEST_RUN, &mut attr)?;
    out.truncate(attr.size_out as usize);
    Ok((attr.returned.cast_signed(), out))
}
