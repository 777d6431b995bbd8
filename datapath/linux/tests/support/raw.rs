//! A program run many times in a row by the kernel itself (BPF_PROG_TEST_RUN), and the emptiest program
//! there is, to compare with.

use std::io::Error;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_TEST_RUN: i64 = 10;
const SCHED_CLS: u32 = 3;
const XDP: u32 = 6;

/// The part of `union bpf_attr` that loads a program.
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    at: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The part of `union bpf_attr` that runs one.
#[repr(C)]
#[derive(Default)]
struct Run {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_in_size: u32,
    context_out_size: u32,
    context_in: u64,
    context_out: u64,
}

fn bpf<T>(command: i64, attributes: &mut T) -> i64 {
    let size = size_of::<T>();
    // SAFETY: the kernel reads and writes `size` bytes, and what these point to outlives the call.
    let result = unsafe { nix::libc::syscall(nix::libc::SYS_bpf, command, attributes, size) };
    assert!(result >= 0, "bpf({command}): {}", Error::last_os_error());
    result
}

/// A program that does nothing but pass.
pub fn empty() -> OwnedFd {
    // TC_ACT_UNSPEC
    returning(SCHED_CLS, u32::MAX)
}

/// The same for drivers.
pub fn empty_xdp() -> OwnedFd {
    // XDP_PASS
    returning(XDP, 2)
}

fn returning(kind: u32, value: u32) -> OwnedFd {
    // r0 = value; exit
    let code: [u64; 2] = [u64::from(value) << 32 | 0xb7, 0x95];
    let mut load = Load {
        kind,
        instructions: code.len() as u32,
        at: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..Load::default()
    };
    let fd = bpf(BPF_PROG_LOAD, &mut load) as i32;
    // SAFETY: the kernel has just returned it, to nobody else.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Runs a program on a frame, and on what it made of it, `repeat` times: its last return code, and
/// nanoseconds for each run. Frames come in on `ifindex`.
pub fn run(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, repeat: u32) -> (i32, u32) {
    // struct __sk_buff of linux/bpf.h: ingress_ifindex and ifindex.
    let mut context = [0u8; 192];
    context[36..40].copy_from_slice(&ifindex.to_ne_bytes());
    context[40..44].copy_from_slice(&ifindex.to_ne_bytes());
    run_in(program, frame, &context, repeat)
}

/// The same for an XDP program.
pub fn run_xdp(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, repeat: u32) -> (i32, u32) {
    // struct xdp_md of linux/bpf.h: data_end and ingress_ifindex.
    let mut context = [0u8; 24];
    context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
    context[12..16].copy_from_slice(&ifindex.to_ne_bytes());
    run_in(program, frame, &context, repeat)
}

fn run_in(program: BorrowedFd<'_>, frame: &[u8], context: &[u8], repeat: u32) -> (i32, u32) {
    let mut run = Run {
        program: program.as_raw_fd() as u32,
        size_in: frame.len() as u32,
        data_in: frame.as_ptr() as u64,
        repeat,
        context_in_size: context.len() as u32,
        context_in: context.as_ptr() as u64,
        ..Run::default()
    };
    bpf(BPF_PROG_TEST_RUN, &mut run);
    (run.returned as i32, run.duration)
}
