//! How to look around in a lab that stays: commands to copy, about what is so at the moment.

use std::net::IpAddr;

use anyhow::{Context, Result};

use super::screen::Screen;
use crate::cluster::Cluster;

/// Prints the commands.
pub(super) fn explain(cluster: &Cluster, addresses: &[IpAddr], screen: &Screen) -> Result<()> {
    let lab = cluster.lab();
    let &vip = addresses.first().context("the VIP has no address")?;
    let holder = cluster.holder(vip)?.name();
    let standby = lab
        .servers()
        .find(|host| host.name() != holder)
        .context("there is one server only")?;
    let vipctl = format!(
        "{} --server unix:{}",
        cluster.binaries().vipctl.display(),
        cluster.node(standby.name()).socket().display()
    );
    let (client, switch) = (lab.client().namespace(), lab.switch().name());
    let log = lab.dir().join(holder).join("vipd.log");
    screen.title("the lab stays until you press Ctrl-C; in another terminal, as root:");
    for (what, how) in [
        ("ask vipd", format!("{vipctl} status --watch")),
        (
            "be the client",
            format!("ip netns exec {client} curl --noproxy '*' http://{vip}/"),
        ),
        ("its neighbours", format!("ip -n {client} neighbour")),
        (
            "hear the wire",
            format!("ip netns exec {switch} tcpdump -eni any arp or icmp6"),
        ),
        (
            "drain the holder",
            format!("{vipctl} node drain {holder}   # and: undrain"),
        ),
        (
            "unplug the holder",
            format!("ip -n {switch} link set {holder} down   # and: up"),
        ),
        ("read its log", format!("tail -f {}", log.display())),
    ] {
        screen.plain(&format!("  {what:<18} {how}\n"));
    }
    Ok(())
}
