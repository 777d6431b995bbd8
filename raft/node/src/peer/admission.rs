//! What a stranger asks, and what an admitted one is told.

use std::net::{IpAddr, SocketAddr};

use sha2::{Digest, Sha256};
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;

use crate::raft_wire::{get_bytes, put_bytes};

/// A stranger asks to be admitted.
#[derive(Clone, Debug)]
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

/// What an admitted node needs to know.
#[derive(Debug)]
pub(crate) struct JoinAnswer {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) role: Role,
    pub(crate) certificate: Vec<u8>,
    /// For voters only.
    pub(crate) ca_key: Option<Vec<u8>>,
    pub(crate) members: Vec<(NodeId, SocketAddr)>,
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
