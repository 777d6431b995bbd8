//! The few calls of `bpf(2)` that aya has no name for: those about links; [`super::batch`] has those about maps. And one
//! option of sockets.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::{ffi::OsStrExt, net::UnixDatagram},
    },
    path::Path,
};

use nix::libc;

const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;
const LINK_CREATE: i32 = 28;
const LINK_UPDATE: i32 = 29;
/// Attach type BPF_XDP, and the flag XDP_FLAGS_DRV_MODE: in the driver or not at all.
const XDP: u32 = 37;
const IN_THE_DRIVER: u32 = 1 << 2;

/// `union bpf_attr` for BPF_OBJ_*, as in linux/bpf.h.
#[repr(C)]
#[derive(Default)]
struct ObjectAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The same for BPF_OBJ_GET_INFO_BY_FD.
#[repr(C)]
#[derive(Default)]
struct InfoAttr {
    fd: u32,
    length: u32,
    info: u64,
}

/// The same for BPF_LINK_CREATE.
#[repr(C)]
#[derive(Default)]
struct CreateAttr {
    program: u32,
    ifindex: u32,
    attach: u32,
    flags: u32,
}

/// The same for BPF_LINK_UPDATE.
#[repr(C)]
#[derive(Default)]
struct UpdateAttr {
    link: u32,
    program: u32,
    flags: u32,
    old_program: u32,
}

/// `struct bpf_link_info` as far as it is about tcx, or about XDP, which has the index at the same place.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    program: u32,
    padding: u32,
    ifindex: u32,
    attach: u32,
}

/// A link that lives for as long as this is held, pinned or not.
#[derive(Debug)]
pub(crate) struct Link(OwnedFd);

impl Link {
    /// Opens a pinned link.
    pub(crate) fn from_pin(path: &Path) -> io::Result<Self> {
        let path = c_path(path)?;
        let mut attr = ObjectAttr {
            path: path.as_ptr() as u64,
            ..ObjectAttr::default()
        };
        let fd = bpf(OBJ_GET, &mut attr)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Attaches an XDP program in the driver of an interface. Not by aya, which tries again by netlink where the kernel
    /// says that the driver cannot, and could replace the program of somebody else so.
    pub(crate) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<Self> {
        let mut attr = CreateAttr {
            program: raw(program),
            ifindex,
            attach: XDP,
            flags: IN_THE_DRIVER,
        };
        let fd = bpf(LINK_CREATE, &mut attr)?;
        // SAFETY: the kernel has just made this descriptor for us, and nobody else knows it.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Replaces its program, without a gap.
    pub(crate) fn update(&self, program: BorrowedFd<'_>) -> io::Result<()> {
        let mut attr = UpdateAttr {
            link: raw(self.0.as_fd()),
            program: raw(program),
            ..UpdateAttr::default()
        };
        bpf(LINK_UPDATE, &mut attr).map(drop)
    }

    /// Pins it.
    pub(crate) fn pin(&self, path: &Path) -> io::Result<()> {
        let path = c_path(path)?;
        let mut attr = ObjectAttr {
            path: path.as_ptr() as u64,
            fd: raw(self.0.as_fd()),
            flags: 0,
        };
        bpf(OBJ_PIN, &mut attr).map(drop)
    }

    /// The interface that it is attached to; 0 if it is to none any more.
    pub(crate) fn ifindex(&self) -> io::Result<u32> {
        let mut info = LinkInfo::default();
        let mut attr = InfoAttr {
            fd: raw(self.0.as_fd()),
            length: size_of::<LinkInfo>() as u32,
            info: (&raw mut info) as u64,
        };
        bpf(OBJ_GET_INFO_BY_FD, &mut attr)?;
        Ok(info.ifindex)
    }
}

/// The kernel's number of this thread's network namespace, for ever. An error before Linux 5.14.
pub(super) fn namespace() -> io::Result<u64> {
    let socket = UnixDatagram::unbound()?;
    let (mut cookie, mut length) = (0u64, size_of::<u64>() as libc::socklen_t);
    // SAFETY: the kernel writes `length` bytes at most, and there are as many.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(cookie)
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::from)
}

pub(super) fn bpf<T>(command: i32, attr: &mut T) -> io::Result<i32> {
    // SAFETY: the attribute is a plain struct of the command's layout, larger fields being zero by the rule of
    // bpf(2); what it points to outlives the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attr, size_of::<T>()) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    i32::try_from(result).map_err(io::Error::other)
}
