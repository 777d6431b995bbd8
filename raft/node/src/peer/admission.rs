//! What a stranger asks, and what an admitted one is told.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;

use crate::raft_wire::{get_bytes, put_bytes};

/// A stranger asks to be admitted. `Debug` shows no secret.
#[derive(Clone)]
pub(crate) struct JoinAsk {
    /// Random: makes a repeated question the same one, and two that are alike different ones.
    pub(crate) id: u128,
    pub(crate) secret: [u8; 20],
    pub(crate) name: Name,
    pub(crate) peer: SocketAddr,
    pub(crate) beat_key: [u8; 32],
    /// The public key to be certified.
    pub(crate) spki: Vec<u8>,
    pub(crate) addresses: Vec<IpAddr>,
}

impl JoinAsk {
    /// The number of its request in the log: the first half of the SHA-256 of all that is asked. A repeated question has the same
    /// one. Whoever has seen it, as every member does, can ask nothing else by it, and so does not get the answer (a
    /// certificate, for a voter the CA's key) with another key, or without the secret.
    pub(crate) fn number(&self) -> u128 {
        let digest: [u8; 32] = Sha256::digest(self.to_bytes()).into();
        let (first, _) = digest.split_at(16);
        first.iter().fold(0, |n, byte| n << 8 | u128::from(*byte))
    }
}

/// What an admitted node needs to know. `Debug` shows no secret.
pub(crate) struct JoinAnswer {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) certificate: Vec<u8>,
    /// For voters only.
    pub(crate) ca_key: Option<Vec<u8>>,
    pub(crate) members: Vec<(NodeId, SocketAddr)>,
}

impl fmt::Debug for JoinAsk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAsk")
            .field("name", &self.name)
            .field("peer", &self.peer)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for JoinAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAnswer")
            .field("cluster", &hex::encode(self.cluster))
            .field("node", &self.node)
            .field("role", &self.role)
            .field("members", &self.members)
            .finish_non_exhaustive()
    }
}

impl Wire for JoinAsk {
    fn encode(&self, out: &mut Writer) {
        self.id.encode(out);
        self.secret.encode(out);
        self.name.encode(out);
        self.peer.encode(out);
        self.beat_key.encode(out);
        put_bytes(&self.spki, out);
        self.addresses.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: u128::decode(input)?,
            secret: <[u8; 20]>::decode(input)?,
            name: Name::decode(input)?,
            peer: SocketAddr::decode(input)?,
            beat_key: <[u8; 32]>::decode(input)?,
            spki: get_bytes(input)?,
            addresses: Vec::decode(input)?,
        })
    }
}

impl Wire for JoinAnswer {
    fn encode(&self, out: &mut Writer) {
        self.cluster.encode(out);
        self.node.encode(out);
        self.role.encode(out);
        put_bytes(&self.certificate, out);
        put_bytes(self.ca_key.as_deref().unwrap_or_default(), out);
        self.members.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (cluster, node, role) = (
            <[u8; 16]>::decode(input)?,
            NodeId::decode(input)?,
            Role::decode(input)?,
        );
        let (certificate, key) = (get_bytes(input)?, get_bytes(input)?);
        let ca_key = (!key.is_empty()).then_some(key);
        Ok(Self {
            cluster,
            node,
            role,
            certificate,
            ca_key,
            members: Vec::decode(input)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_of_what_is_sent_when_a_node_joins_shows_no_secret() {
        let ask = JoinAsk {
            id: 1,
            secret: [0xa7; 20],
            name: "n2".parse().unwrap(),
            peer: "192.0.2.2:7400".parse().unwrap(),
            beat_key: [1; 32],
            spki: vec![2; 44],
            addresses: vec![],
        };
        let answer = JoinAnswer {
            cluster: [3; 16],
            node: NodeId(2),
            role: Role::Voter,
            certificate: vec![4; 300],
            ca_key: Some(vec![0xa7; 100]),
            members: vec![],
        };
        let answered: Result<JoinAnswer, String> = Ok(answer);
        for shown in [
            format!("{ask:?}"),
            format!("{ask:#?}"),
            format!("{answered:?}"),
            format!("{answered:#?}"),
        ] {
            // Two bytes of the secret, as a list of numbers and as hexadecimal digits.
            let bare: String = shown.split_whitespace().collect();
            assert!(!bare.contains("167,167"), "{shown}");
            assert!(!bare.to_lowercase().contains("a7a7"), "{shown}");
        }
        assert!(
            format!("{ask:?}").contains("n2"),
            "what is no secret is told"
        );
    }
}
