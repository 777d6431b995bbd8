//! Who this node is: its number, its name, its keys and the cluster's certificate authority.
//!
//! ```text
//!   cluster CA ── signs ──> node certificate: DNS n<id>.<cluster>.vipd   who it is, checked on every connection
//!                                             DNS peer.vipd              "a voter", all that a joiner can check
//!                                             the node's name and addresses, for clients of its API
//! ```
//! One file in the data directory, readable by its owner only. Every voter holds the CA's key, so that every
//! voter can admit others; an agent never does. Certificates do not expire, since a host whose clock is wrong
//! must not lose its VIPs: a node is put out by removing its record, which every peer checks.

mod authority;
mod file;
mod init;

use std::fmt;
use std::net::SocketAddr;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use sha2::{Digest, Sha256};
use vipd_core::id::NodeId;
use vipd_core::name::Name;
use vipd_core::node::Role;
use x25519_dalek::{PublicKey, StaticSecret};

pub(crate) use authority::{Authority, Subject, public_key_of};
pub(crate) use file::IDENTITY;
pub use file::IdentityError;
pub(crate) use init::{Bootstrap, take_data_dir};
pub use init::{Init, InitError, Initialized, init, is_node, joined_name, now, peer_address};

/// The name that every voter's certificate carries, and no agent's: a joiner shows its token to whoever has it.
pub(crate) const ANY_VOTER: &str = "peer.vipd";

/// What a node knows of itself. `Debug` shows no secret.
#[derive(Clone)]
pub(crate) struct Identity {
    pub(crate) cluster: [u8; 16],
    pub(crate) node: NodeId,
    pub(crate) name: Name,
    pub(crate) role: Role,
    /// Where peers reach this node.
    pub(crate) peer: SocketAddr,
    pub(crate) authority: Authority,
    /// Its certificate, DER.
    pub(crate) certificate: Vec<u8>,
    /// The certificate's private key, PKCS#8 DER.
    pub(crate) key: Vec<u8>,
    pub(crate) beat_secret: [u8; 32],
    /// Members to turn to before the state is known: as the join answered, then as last seen.
    pub(crate) members: Vec<(NodeId, SocketAddr)>,
}

impl Identity {
    /// The certificate chain to present: the node's, then the CA's, which a joiner compares with its token.
    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![
            self.certificate.clone().into(),
            self.authority.certificate().clone(),
        ]
    }

    /// The private key of the certificate.
    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }

    /// The public half of the secret that beats are sealed with.
    pub(crate) fn beat_key(&self) -> [u8; 32] {
        PublicKey::from(&StaticSecret::from(self.beat_secret)).to_bytes()
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity")
            .field("cluster", &hex::encode(self.cluster))
            .field("node", &self.node)
            .field("name", &self.name)
            .field("role", &self.role)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// The DNS name in the certificate of node `node` of cluster `cluster`.
pub(crate) fn node_dns(cluster: &[u8; 16], node: NodeId) -> String {
    format!("n{node}.{}.vipd", hex::encode(cluster))
}

/// The same as rustls wants it.
pub(crate) fn node_server_name(cluster: &[u8; 16], node: NodeId) -> ServerName<'static> {
    server_name(node_dns(cluster, node))
}

/// A DNS name made of hexadecimal digits, letters and dots.
pub(crate) fn server_name(name: String) -> ServerName<'static> {
    ServerName::try_from(name).expect("a name of lower-case letters, digits and dots is a DNS name")
}

/// The fingerprint by which a token pins a CA.
pub(crate) fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn secrets_are_readable_by_their_owner_only_and_never_printed() {
        let temp = tempfile::tempdir().unwrap();
        let data_dir = temp.path().join("data");
        init(&Init {
            data_dir: data_dir.clone(),
            name: "n1".parse().unwrap(),
            peer: "192.0.2.1:7400".parse().unwrap(),
            addresses: vec![],
            first: vec![],
        })
        .unwrap();
        let mode = |path: &std::path::Path| path.metadata().unwrap().mode() & 0o777;
        assert_eq!(mode(&data_dir), 0o700);
        for secret in [IDENTITY, "bootstrap", "log.witness"] {
            assert_eq!(mode(&data_dir.join(secret)), 0o600, "{secret}");
        }
        let identity = Identity::load(&data_dir).unwrap();
        let shown = format!("{identity:?}");
        assert!(shown.contains("n1") && !shown.contains(&format!("{:?}", identity.beat_secret)));
    }

    #[test]
    fn a_damaged_identity_is_refused_with_the_next_step() {
        let temp = tempfile::tempdir().unwrap();
        init(&Init {
            data_dir: temp.path().to_path_buf(),
            name: "n1".parse().unwrap(),
            peer: "192.0.2.1:7400".parse().unwrap(),
            addresses: vec![],
            first: vec![],
        })
        .unwrap();
        let path = temp.path().join(IDENTITY);
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&path, &bytes).unwrap();
        let error = Identity::load(temp.path()).unwrap_err().to_string();
        assert!(
            error.contains("is damaged") && error.contains("vipd join"),
            "{error}"
        );
    }

    #[test]
    fn an_address_that_nobody_can_reach_is_refused_before_anything_is_made() {
        let temp = tempfile::tempdir().unwrap();
        let data_dir = temp.path().join("data");
        let error = init(&Init {
            data_dir: data_dir.clone(),
            name: "n1".parse().unwrap(),
            peer: "0.0.0.0:7400".parse().unwrap(),
            addresses: vec![],
            first: vec![],
        });
        assert!(error.unwrap_err().to_string().contains("0.0.0.0:7400"));
        assert!(!data_dir.exists());
    }
}
