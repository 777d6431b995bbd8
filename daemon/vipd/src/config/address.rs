//! Addresses as operators write them, in files and on the command line.

use std::net::{IpAddr, SocketAddr};

/// Where peers talk to each other unless another port is named, TCP and UDP.
pub const PEER_PORT: u16 = 7400;

/// An address with its port.
///
/// # Errors
/// What would be one.
pub fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not IP:PORT, such as 192.0.2.1:7480 or [2001:db8::1]:7480")
    })
}

/// An address of peers: [`PEER_PORT`] unless it names another.
///
/// # Errors
/// What would be one.
pub fn peer(text: &str) -> Result<SocketAddr, String> {
    let alone = text
        .parse()
        .map(|ip: IpAddr| SocketAddr::new(ip, PEER_PORT));
    alone.or_else(|_| text.parse()).map_err(|_| {
        format!("{text:?} is neither IP nor IP:PORT, such as 192.0.2.1, 192.0.2.1:7400 or [2001:db8::1]:7400")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_of_peers_need_not_be_named() {
        for (written, meant) in [
            ("192.0.2.1", "192.0.2.1:7400"),
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("2001:db8::1", "[2001:db8::1]:7400"),
            ("[2001:db8::1]:9", "[2001:db8::1]:9"),
        ] {
            assert_eq!(peer(written), Ok(meant.parse().unwrap()));
        }
        for wrong in ["host", "192.0.2.1:", "192.0.2.1:70000", "[2001:db8::1]", ""] {
            let why = peer(wrong).unwrap_err();
            assert!(why.contains("neither IP nor IP:PORT"), "{wrong}: {why}");
        }
        assert!(socket("192.0.2.1").unwrap_err().contains("not IP:PORT"));
    }
}
