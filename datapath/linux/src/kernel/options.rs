//! How to open the datapath.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use super::Attach;
use crate::{Bounds, Xdp};

/// How to open the datapath.
#[derive(Clone, Debug)]
pub struct Options {
    /// Parent folder of the pins. Daemons in different network namespaces of one machine need one
    /// each: the pins carry interface indexes, which mean something in one namespace only.
    pub pin_dir: PathBuf,
    /// How programs are attached.
    pub attach: Attach,
    /// How often an address is announced once it has settled.
    pub refresh: Duration,
    /// Bounds of balancing.
    pub bounds: Bounds,
    /// The ports at which backends may be at loopback addresses of this host: whoever writes VIPs could else let others in to what
    /// was meant for the host alone.
    pub loopback: BTreeSet<u16>,
    /// Whether packets of open connections are sent on in drivers of network cards.
    pub xdp: Xdp,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            pin_dir: crate::DEFAULT_PIN_DIR.into(),
            attach: Attach::Auto,
            refresh: crate::DEFAULT_REFRESH,
            bounds: Bounds::default(),
            loopback: BTreeSet::new(),
            xdp: Xdp::default(),
        }
    }
}
