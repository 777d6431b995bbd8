//! The configuration that `init` and `join` write.

use std::net::SocketAddr;
use std::path::Path;

use vipd_core::name::Name;

/// A commented `vipd.toml` for a node with these values; everything else is at its default.
#[must_use]
pub fn template(
    name: &Name,
    data_dir: &Path,
    listen: SocketAddr,
    api: &[String],
    pin_dir: Option<&Path>,
) -> String {
    let api = api
        .iter()
        .map(|listen| format!("{listen:?}"))
        .collect::<Vec<_>>()
        .join(", ");
    let pin_dir = match pin_dir {
        Some(dir) => format!("pin_dir = {:?}", dir.display().to_string()),
        None => format!(
            "# pin_dir = {:?}       # where its maps and links are pinned",
            vipd_datapath::DEFAULT_PIN_DIR
        ),
    };
    format!(
        "\
# vipd on this node. Every key that is commented out shows its default.
# Check a change with: vipd check --config FILE

[node]
name = \"{name}\"
data_dir = {:?}
# labels = {{ rack = \"a\" }}                # shown with the node

[cluster]
listen = \"{listen}\"             # peers: TCP, and UDP on the same port

[api]
listen = [{api}]

[announce]
# interfaces = [\"^eth[0-9]+$\"]           # default: every Ethernet interface that is up and has a subnet
# refresh_s = 30                         # between announcements once the burst of a takeover is over
# in_use = \"refuse\"                      # refuse | warn: a new address that another host on the link has

[lease]
# profile = \"lan\"                        # fast | lan | safe; best the same on all nodes

[datapath]
# attach = \"auto\"                        # auto | tc | xdp
{pin_dir}

[balance]
# flows = 1048576                        # elements of the table of flows; and more keys: see vipd.toml.sample

[health]
# exec_dir = \"/etc/vipd/checks\"          # programs that checks of kind exec may run; none without it

[log]
# level = \"info\"
# format = \"text\"                        # text | json | journald

[metrics]
# listen = \"127.0.0.1:9480\"              # plain HTTP /metrics
",
        data_dir.display().to_string()
    )
}
