//! What the tasks need from Debian, in one place, so that a reader sees the whole footprint.

use crate::apt::{Need, file, program};

/// For `cargo xtask demo`: network namespaces and bridges, and the faults of the lab.
pub(crate) const DEMO: &[Need] = &[program("ip", "iproute2"), program("nft", "nftables")];

/// For `cargo xtask bench`: the demo's, those that vipd is compared with, and what makes a cable bad and a daemon weak.
pub(crate) const BENCH: &[Need] = &[
    program("ip", "iproute2"),
    program("nft", "nftables"),
    program("keepalived", "keepalived"),
    program("ucarp", "ucarp"),
    program("etcd", "etcd-server"),
    program("strace", "strace"),
    program("ethtool", "ethtool"),
    program("setpriv", "util-linux"),
];

/// For `cargo xtask bench datapath`: a compiler for the C that the eBPF programs are measured beside.
pub(crate) const DATAPATH_BENCH: &[Need] = &[
    program("clang-19", "clang-19"),
    file("/usr/include/linux/bpf.h", "linux-libc-dev"),
];

/// For `cargo xtask bench balance`: what connections are forwarded by beside vipd, the client and the server, and a compiler
/// for the program that makes frames.
pub(crate) const BALANCE_BENCH: &[Need] = &[
    program("haproxy", "haproxy"),
    program("nginx", "nginx-light"),
    file(
        "/usr/lib/nginx/modules/ngx_stream_module.so",
        "libnginx-mod-stream",
    ),
    program("wrk", "wrk"),
    program("clang-19", "clang-19"),
    file("/usr/include/linux/bpf.h", "linux-libc-dev"),
];

/// For `cargo xtask test`: the demo's, clients and servers that are not ours, what takes rights and disks away from a daemon,
/// and one that vipd is compared with.
pub(crate) const TEST: &[Need] = &[
    program("ip", "iproute2"),
    program("nft", "nftables"),
    program("ping", "iputils-ping"),
    program("traceroute", "traceroute"),
    program("curl", "curl"),
    program("wrk", "wrk"),
    program("iperf3", "iperf3"),
    program("nginx", "nginx-light"),
    program("keepalived", "keepalived"),
    program("ethtool", "ethtool"),
    program("setpriv", "util-linux"),
    program("unshare", "util-linux"),
];

/// For `cargo xtask kernel`: the emulator, what unpacks Debian's kernel and makes test programs small, and what they call.
pub(crate) const KERNEL: &[Need] = &[
    program("qemu-system-x86_64", "qemu-system-x86"),
    program("dpkg-deb", "dpkg"),
    program("strip", "binutils"),
    program("ldd", "libc-bin"),
    program("ip", "iproute2"),
    program("tc", "iproute2"),
    program("ping", "iputils-ping"),
    program("traceroute", "traceroute"),
    program("ethtool", "ethtool"),
    program("setpriv", "util-linux"),
];

/// For `cargo xtask openapi --test`: an environment for the tester, which is in no package. A python3 without `ensurepip` can't
/// make one.
pub(crate) const OPENAPI: &[Need] = &[
    program("python3", "python3"),
    file("/usr/share/python-wheels", "python3-venv"),
];

/// For `cargo xtask package`: `xz` is cargo-deb's compressor, the others judge the result.
pub(crate) const PACKAGE: &[Need] = &[
    program("xz", "xz-utils"),
    program("strip", "binutils"),
    program("dpkg-deb", "dpkg"),
    program("lintian", "lintian"),
    program("rpm", "rpm"),
];

/// For `cargo xtask package --test`: a small Debian, booted in a container with a real systemd.
pub(crate) const BOOT: &[Need] = &[
    program("mmdebstrap", "mmdebstrap"),
    program("systemd-nspawn", "systemd-container"),
    program("ip", "iproute2"),
    program("unshare", "util-linux"),
    program("script", "bsdutils"),
];
