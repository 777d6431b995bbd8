//! The few calls of `bpf(2)` that aya has no name for: those about links; [`super::batch`] has those about maps.

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use nix::libc;

const OBJ_PIN: i32 = 6;
const OBJ_GET: i32 = 7;
const OBJ_GET_INFO_BY_FD: i32 = 15;

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

/// `struct bpf_link_info` as far as it is about tcx.
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
