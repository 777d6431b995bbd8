//! Sharing: when two VIPs may have the same address.
//!
//! The rules are those of Cilium's LB-IPAM, which people know, and two of our own, since an address has one holder
//! however many VIPs have it. The first rule that fails is the one that is told.

use alloc::collections::BTreeSet;
use core::fmt;
use core::net::IpAddr;

use crate::codec::wire_enum;
use crate::name::Name;
use crate::service::{Mode, Port, TrafficPolicy, both_claim};
use crate::vip::VipSpec;

/// The rule that keeps two VIPs from sharing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Incompatible {
    /// They have different sharing keys, or one has none.
    Key,
    /// They belong to different namespaces, and not each allows the other's.
    Namespace,
    /// Both claim this port.
    Port {
        /// Which.
        port: Port,
    },
    /// One of them names no port, and so claims all.
    AllPorts,
    /// They are in different groups, and so may have to be held by different nodes.
    Group,
    /// They ask to be announced on different interfaces.
    Interface,
    /// They differ in which nodes they may be on.
    TrafficPolicy,
    /// Each may only be where a backend of its own is, and these are in different places.
    Places,
    /// Only one of them is of mode dsr, whose backends speak for the whole address.
    Dsr,
}

wire_enum!(Incompatible {
    0 => Key,
    1 => Namespace,
    2 => Port { port },
    3 => AllPorts,
    4 => Group,
    5 => Interface,
    6 => TrafficPolicy,
    7 => Places,
    8 => Dsr,
});

impl fmt::Display for Incompatible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("different sharing key"),
            Self::Namespace => f.write_str("different and not permitted namespace"),
            Self::Port { port } => write!(f, "same port and protocol: {port}"),
            Self::AllPorts => {
                f.write_str("same port and protocol: one of them names no port, and so has all")
            }
            Self::Group => f.write_str("different group"),
            Self::Interface => f.write_str("different interface"),
            Self::TrafficPolicy => f.write_str("different traffic policy"),
            Self::Dsr => f.write_str(
                "different modes: the backends of one of mode dsr have the address too, with all of its ports",
            ),
            Self::Places => f.write_str(
                "different places: their traffic policy is local, and not all of their backends are on the same hosts",
            ),
        }
    }
}

/// Whether VIPs of these specs may have the same address.
///
/// # Errors
/// The first rule that they break.
pub fn compatible(a: &VipSpec, b: &VipSpec) -> Result<(), Incompatible> {
    if a.sharing_key.is_none() || a.sharing_key != b.sharing_key {
        return Err(Incompatible::Key);
    }
    let allows = |one: &VipSpec, other: &VipSpec| {
        let allowed = &one.sharing_namespaces;
        allowed.contains("*") || allowed.contains(other.namespace())
    };
    if a.namespace() != b.namespace() && !(allows(a, b) && allows(b, a)) {
        return Err(Incompatible::Namespace);
    }
    if a.ports.is_empty() || b.ports.is_empty() {
        return Err(Incompatible::AllPorts);
    }
    if let Some(port) = both_claim(&a.ports, &b.ports) {
        return Err(Incompatible::Port { port });
    }
    if a.group != b.group {
        return Err(Incompatible::Group);
    }
    if a.interface != b.interface {
        return Err(Incompatible::Interface);
    }
    if (a.mode == Mode::Dsr) != (b.mode == Mode::Dsr) {
        return Err(Incompatible::Dsr);
    }
    if a.traffic != b.traffic {
        return Err(Incompatible::TrafficPolicy);
    }
    // One holder serves both: where each may only be with a backend of its own, they must have them in the same places.
    if a.traffic == TrafficPolicy::Local && places(a) != places(b) {
        return Err(Incompatible::Places);
    }
    Ok(())
}

/// Where the backends are, drained ones too: draining one takes no address away.
fn places(spec: &VipSpec) -> BTreeSet<(IpAddr, Option<&Name>)> {
    let backends = spec.backends.iter();
    let places = backends.map(|(at, backend)| (at.address, backend.node.as_ref()));
    places.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{PortSpec, Protocol};
    use alloc::string::ToString;

    fn spec(key: &str, namespace: &str, allows: &[&str], ports: &[(Protocol, u16)]) -> VipSpec {
        VipSpec {
            sharing_key: Some(key).filter(|key| !key.is_empty()).map(Into::into),
            namespace: Some(Name::new(namespace).unwrap()),
            sharing_namespaces: allows.iter().map(ToString::to_string).collect(),
            ports: ports
                .iter()
                .map(|&(protocol, port)| (Port { protocol, port }, PortSpec::default()))
                .collect(),
            ..VipSpec::default()
        }
    }

    #[test]
    fn the_first_rule_that_fails_is_told() {
        use Protocol::{Tcp, Udp};
        let web = spec("k", "default", &[], &[(Tcp, 80)]);
        let table: [(VipSpec, Result<(), &str>); 14] = [
            (spec("k", "default", &[], &[(Tcp, 443)]), Ok(())),
            (spec("k", "default", &[], &[(Udp, 80)]), Ok(())),
            (
                spec("x", "other", &[], &[(Tcp, 80)]),
                Err("different sharing key"),
            ),
            (
                spec("", "default", &[], &[(Tcp, 443)]),
                Err("different sharing key"),
            ),
            (
                spec("k", "other", &[], &[(Tcp, 80)]),
                Err("different and not permitted namespace"),
            ),
            (
                spec("k", "other", &["default"], &[(Tcp, 443)]),
                Err("different and not permitted namespace"),
            ),
            (
                spec("k", "other", &["*"], &[(Tcp, 443)]),
                Err("different and not permitted namespace"),
            ),
            (
                spec("k", "default", &[], &[(Tcp, 80), (Udp, 80)]),
                Err("same port and protocol: TCP 80"),
            ),
            (
                spec("k", "default", &[], &[(Tcp, 0)]),
                Err("same port and protocol: TCP 80"),
            ),
            (
                spec("k", "default", &[], &[]),
                Err("same port and protocol: one of them names no port, and so has all"),
            ),
            (
                VipSpec {
                    group: Some(Name::new("g").unwrap()),
                    ..spec("k", "default", &[], &[(Tcp, 443)])
                },
                Err("different group"),
            ),
            (
                VipSpec {
                    interface: Some("eth1".into()),
                    ..spec("k", "default", &[], &[(Tcp, 443)])
                },
                Err("different interface"),
            ),
            (
                VipSpec {
                    traffic: TrafficPolicy::Local,
                    ..spec("k", "default", &[], &[(Tcp, 443)])
                },
                Err("different traffic policy"),
            ),
            (
                VipSpec {
                    namespace: None,
                    ..spec("k", "default", &[], &[(Tcp, 443)])
                },
                Ok(()),
            ),
        ];
        for (other, wanted) in table {
            for (a, b) in [(&web, &other), (&other, &web)] {
                let said = compatible(a, b).map_err(|why| why.to_string());
                assert_eq!(said, wanted.map_err(ToString::to_string), "{a:?} {b:?}");
            }
        }
    }

    #[test]
    fn namespaces_share_only_if_each_allows_the_other() {
        use Protocol::Tcp;
        let shared = |a: &[&str], b: &[&str]| {
            let a = spec("k", "a", a, &[(Tcp, 1)]);
            let b = spec("k", "b", b, &[(Tcp, 2)]);
            compatible(&a, &b).is_ok() && compatible(&b, &a).is_ok()
        };
        assert!(shared(&["b"], &["a"]) && shared(&["*"], &["a"]) && shared(&["*"], &["*"]));
        assert!(!shared(&["b"], &[]) && !shared(&["*"], &["c"]) && !shared(&[], &[]));
    }

    #[test]
    fn without_a_key_not_even_equals_share() {
        let a = spec("", "default", &[], &[(Protocol::Tcp, 80)]);
        assert_eq!(compatible(&a, &a), Err(Incompatible::Key));
    }
}
