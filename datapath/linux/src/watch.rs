//! Tells the daemon that an interface or an address has changed.

use futures_util::StreamExt;
use rtnetlink::{MulticastGroup, packet_core::NetlinkPayload, packet_route::RouteNetlinkMessage};
use tokio::sync::watch;

use crate::{DatapathError, netlink::is_ours};

/// A counter that grows with every change of an interface (up, down, new, gone, MAC) or of an
/// address in this network namespace, but for the addresses that vipd itself adds and deletes. Changes that come together count once; what changed is read
/// by [`crate::Datapath::interfaces`]. The watch ends when the receiver is dropped.
///
/// # Errors
/// If the netlink socket cannot be opened.
pub fn watch_interfaces() -> Result<watch::Receiver<u64>, DatapathError> {
    let groups = [
        MulticastGroup::Link,
        MulticastGroup::Ipv4Ifaddr,
        MulticastGroup::Ipv6Ifaddr,
    ];
    let (connection, handle, mut messages) = rtnetlink::new_multicast_connection(&groups)
        .map_err(|source| DatapathError::system("watch interfaces by netlink", source))?;
    let (sender, receiver) = watch::channel(0);
    let connection = tokio::spawn(connection);
    tokio::spawn(async move {
        // The connection ends with its last handle.
        let _handle = handle;
        loop {
            let message = tokio::select! {
                message = messages.next() => message,
                () = sender.closed() => None,
            };
            match message {
                Some((message, _)) if of_our_address(&message.payload) => {}
                Some(_) => sender.send_modify(|changes| *changes += 1),
                None => break,
            }
        }
        connection.abort();
    });
    Ok(receiver)
}

/// Ten thousand addresses that vipd claims are no reason to look around ten thousand times.
fn of_our_address(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewAddress(address) | RouteNetlinkMessage::DelAddress(address),
        ) => is_ours(address),
        _ => false,
    }
}
