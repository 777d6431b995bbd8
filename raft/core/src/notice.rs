//! Notices: what a node found out about its own host that whoever looks after the cluster should know of.

use alloc::string::String;
use core::fmt;
use core::net::IpAddr;

use crate::codec::wire_enum;
use crate::name::Name;
use crate::service::Endpoint;
use crate::token::Access;

/// Something that a node noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// Somebody else claims an address that the node holds.
    Conflict {
        /// Which.
        address: IpAddr,
        /// Who claims it.
        mac: [u8; 6],
        /// The node's interface on which that was heard.
        interface: String,
    },
    /// Somebody took the node's programs off an interface.
    ProgramsLost {
        /// Which.
        interface: String,
        /// They are there again. If not, the interface counts as down.
        back: bool,
    },
    /// The node's host was suspended, or its virtual machine stopped: its leases were dropped.
    ClockJumped {
        /// For how long, in milliseconds.
        milliseconds: u64,
    },
    /// The node's API refused what a token does not allow. The event's asker is whoever has that token.
    Refused {
        /// Method and path.
        asked: String,
        /// What the token allows.
        allows: Access,
        /// What it would have to allow.
        needs: Access,
        /// How many more were refused since the last such notice.
        more: u64,
    },
    /// The node, which holds addresses of the VIP, found a backend of it down, or up again.
    Backend {
        /// Whose backend.
        vip: Name,
        /// Which.
        backend: Endpoint,
        /// Up again.
        up: bool,
        /// What it answered, or did not.
        why: String,
    },
    /// The node sees all backends of the VIP down, or sees some up again; told only of VIPs that leave it for that.
    Sight {
        /// Which.
        vip: Name,
        /// All are down.
        down: bool,
    },
}

wire_enum!(Notice {
    0 => Conflict { address, mac, interface },
    1 => ProgramsLost { interface, back },
    2 => ClockJumped { milliseconds },
    3 => Refused { asked, allows, needs, more },
    4 => Backend { vip, backend, up, why },
    5 => Sight { vip, down },
});

impl fmt::Display for Notice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Conflict {
                address,
                mac: [a, b, c, d, e, g],
                interface,
            } => write!(
                f,
                "{address} is also claimed by {a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}, heard on {interface}; \
                 announced again. Next: find the host with that MAC and take the address off it"
            ),
            Self::ProgramsLost {
                interface,
                back: true,
            } => write!(
                f,
                "somebody took vipd's programs off {interface}; they were put back"
            ),
            Self::ProgramsLost {
                interface,
                back: false,
            } => write!(
                f,
                "vipd's programs are gone from {interface} and cannot be put back: it counts as down, and its addresses \
                 move. Next: see the node's log"
            ),
            Self::ClockJumped { milliseconds } => write!(
                f,
                "the host stood still for {milliseconds} ms (suspended, or its virtual machine stopped): its right to answer \
                 was dropped until a majority renewed it"
            ),
            Self::Refused {
                asked,
                allows,
                needs,
                more,
            } => {
                write!(
                    f,
                    "refused {asked}: the token allows {allows}, this needs {needs}"
                )?;
                match more {
                    0 => Ok(()),
                    more => write!(f, "; {more} more refused since the last one told"),
                }
            }
            Self::Backend {
                vip: _,
                backend,
                up: true,
                why,
            } => write!(f, "backend {backend} is up: {why}"),
            Self::Backend {
                vip: _,
                backend,
                up: false,
                why,
            } => write!(
                f,
                "backend {backend} is down: {why}"
            ),
            Self::Sight { vip: _, down: true } => f.write_str(
                "all backends are down, as this node sees them: the VIP goes to a node that has not said so, if there is one",
            ),
            Self::Sight {
                vip: _,
                down: false,
            } => f.write_str("not all backends are down any more, as this node sees them"),
        }
    }
}
