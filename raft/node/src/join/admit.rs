//! The serving side of a join.

use std::net::IpAddr;

use sha2::{Digest, Sha256};
use vipd_core::command::{Applied, Command};
use vipd_core::id::NodeId;

use crate::identity::Subject;
use crate::node::RaftNode;
use crate::peer::{JoinAnswer, JoinAsk};

/// Admits a stranger through the leader and certifies its key, or says why not in one line.
pub(crate) async fn admit(node: &RaftNode, ask: JoinAsk) -> Result<JoinAnswer, String> {
    let identity = &node.core.identity;
    if identity.authority.key().is_none() {
        return Err("this node is an agent and cannot admit anybody; ask a voter".into());
    }
    let command = Command::Join {
        token: Sha256::digest(ask.secret).into(),
        name: ask.name.clone(),
        peer: ask.peer,
        beat_key: ask.beat_key,
    };
    let patience = node.core.settings.patience;
    let outcome = node
        .propose_numbered(ask.id, command, None, patience)
        .await
        .map_err(|error| error.to_string())?;
    let (number, role) = match outcome.map_err(|rejection| rejection.to_string())? {
        Applied::Joined { node, role } => (node, role),
        other @ (Applied::Done { .. } | Applied::Created { .. }) => {
            return Err(format!("the cluster answered {other:?} to a join"));
        }
    };
    let mut addresses: Vec<IpAddr> = vec![
        ask.peer.ip(),
        [127, 0, 0, 1].into(),
        std::net::Ipv6Addr::LOCALHOST.into(),
    ];
    addresses.extend(ask.addresses.into_iter().filter(|ip| !ip.is_unspecified()));
    let subject = Subject {
        cluster: &identity.cluster,
        node: number,
        name: &ask.name,
        addresses: &addresses,
    };
    let certificate = match identity.authority.sign(&subject, &ask.spki) {
        Some(Ok(certificate)) => certificate,
        Some(Err(error)) => return Err(format!("the key cannot be certified: {error}")),
        None => return Err("this node does not hold the CA's key".into()),
    };
    tracing::info!(node = %number, name = %ask.name, %role, "a node joined");
    Ok(JoinAnswer {
        cluster: identity.cluster,
        node: number,
        role,
        certificate,
        ca_key: role
            .votes()
            .then(|| identity.authority.key().map(<[u8]>::to_vec))
            .flatten(),
        members: members(node),
    })
}

fn members(node: &RaftNode) -> Vec<(NodeId, std::net::SocketAddr)> {
    let replica = node.core.shared.read();
    let mut known: Vec<_> = replica
        .membership
        .membership()
        .nodes()
        .map(|(id, member)| (NodeId(*id), member.peer))
        .collect();
    if known.is_empty() {
        known.push((node.id(), node.peer()));
    }
    known
}
