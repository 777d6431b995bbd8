//! Where packets of open connections are sent on: by tcx as all others, or before it, in the driver of the network card.

/// Whether packets of open connections take the short way, by XDP. Everything else goes to the programs behind it in any
/// case, and so does all where it can't be had.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Xdp {
    /// Nowhere: to put a program into a driver resets the queues of some network cards.
    #[default]
    Off,
    /// On network cards whose drivers take it.
    Auto,
    /// Also on virtual interfaces whose drivers take it. Right only where all packets come with their checksums filled in:
    /// other hosts on this machine leave that to a card that there is not.
    Force,
}

/// What an interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HookSeen {
    /// The interface.
    pub interface: String,
    /// Whether XDP sends packets of open connections on; else the programs behind it do all.
    pub xdp: bool,
    /// Why, for people.
    pub why: String,
}

/// What is known of an interface before anything is tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The bus that its hardware is on, as sysfs calls it; `None`: it has none.
    pub(crate) bus: Option<String>,
    /// Whether it forwards IPv4 and IPv6. The kernel tells XDP next hops of those alone.
    pub(crate) forwards: [bool; 2],
}

/// Buses of network cards whose packets come from a wire, or from a host that fills in checksums once it is told that XDP
/// looks at them.
const BUSES: [&str; 3] = ["pci", "platform", "virtio"];

/// What XDP does on an interface, where it is already (`has`) or may be put; else why not.
///
/// Where it is, `vipd.toml` alone takes it off: to take it off, and put it on again, may reset the card twice, under addresses
/// that this host holds, and facts may be wrong for a moment, as while somebody renames the interface. Where it is not wanted nobody
/// asks for them.
pub(crate) fn judge(
    wanted: Xdp,
    has: bool,
    facts: impl FnOnce() -> Facts,
) -> Result<String, String> {
    let forced = match wanted {
        Xdp::Off => return Err("xdp is off in [balance] of vipd.toml".to_owned()),
        Xdp::Auto => false,
        Xdp::Force => true,
    };
    let facts = facts();
    match facts.refusal(forced) {
        Some(why) if !has => Err(why),
        Some(_) | None => Ok(facts.use_of_it()),
    }
}

impl Facts {
    /// Why XDP would be of no use there, or wrong.
    fn refusal(&self, forced: bool) -> Option<String> {
        match &self.bus {
            _ if forced => {}
            None => {
                return Some(
                    "it is no network card, so packets may come without their checksums".to_owned(),
                );
            }
            Some(bus) if !BUSES.contains(&bus.as_str()) => {
                return Some(format!(
                    "packets of a card on bus {bus} may come without their checksums"
                ));
            }
            Some(_) => {}
        }
        (self.forwards == [false; 2]).then(|| {
            "forwarding is off there (sysctl net.ipv4.conf.INTERFACE.forwarding, net.ipv6…; then reload vipd), and \
             so the kernel tells XDP no next hop"
                .to_owned()
        })
    }

    /// What XDP does there.
    fn use_of_it(&self) -> String {
        let which = match self.forwards {
            [true, true] => "",
            [true, false] => " of IPv4; forwarding of IPv6 is off there",
            [false, true] => " of IPv6; forwarding of IPv4 is off there",
            [false, false] => ": none, since forwarding has been switched off there",
        };
        format!("in its driver, for open connections{which}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(bus: Option<&str>, forwards: [bool; 2]) -> Facts {
        let bus = bus.map(str::to_owned);
        Facts { bus, forwards }
    }

    #[test]
    fn only_network_cards_get_it_unless_it_is_forced() {
        for (bus, auto) in [
            (Some("pci"), true),
            (Some("virtio"), true),
            (Some("xen"), false),
            (None, false),
        ] {
            let judged = |wanted| judge(wanted, false, || facts(bus, [true, true]));
            assert_eq!(judged(Xdp::Auto).is_ok(), auto, "{bus:?}");
            assert!(judged(Xdp::Force).is_ok(), "{bus:?}");
        }
    }

    #[test]
    fn where_nothing_is_forwarded_it_would_be_of_no_use() {
        for wanted in [Xdp::Auto, Xdp::Force] {
            let why = judge(wanted, false, || facts(Some("pci"), [false, false]));
            assert!(why.is_err_and(|why| why.contains("forwarding is off")));
            let used = judge(wanted, false, || facts(Some("pci"), [true, false]));
            assert!(used.is_ok_and(|used| used.contains("IPv6 is off")));
        }
    }

    #[test]
    fn where_it_is_already_it_stays_whatever_the_host_says_of_the_interface() {
        for wanted in [Xdp::Auto, Xdp::Force] {
            for bus in [Some("pci"), Some("xen"), None] {
                for forwards in [[true, true], [false, false]] {
                    let judged = judge(wanted, true, || facts(bus, forwards));
                    assert!(
                        judged.is_ok(),
                        "{wanted:?} {bus:?} {forwards:?}: {judged:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn where_it_is_off_it_goes_and_the_host_is_not_asked() {
        for has in [false, true] {
            let why = judge(Xdp::Off, has, || panic!("asked about an interface"));
            assert!(why.is_err_and(|why| why.contains("vipd.toml")));
        }
    }
}
