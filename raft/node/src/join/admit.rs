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
        .propose_numbered(ask.number(), command, None, patience)
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
        role,
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

#[cfg(test)]
mod tests {
    use openraft::EntryPayload;
    use rcgen::KeyPair;
    use rustls::client::verify_server_name;
    use rustls::server::ParsedCertificate;
    use rustls_pki_types::CertificateDer;
    use vipd_core::node::Role;

    use super::*;
    use crate::identity::{ANY_VOTER, node_server_name, public_key_of, server_name};
    use crate::testing::{first_voter, stranger, token};

    /// The numbers of all joins in the log, as agents are fed them.
    fn seen_by_agents(node: &RaftNode) -> Vec<u128> {
        let voter = node.core.voter.as_ref().unwrap();
        let applied = node.core.shared.read().applied.unwrap();
        let entries = voter.log.following(None, applied, usize::MAX).unwrap();
        let number = |entry: &crate::types::Entry| match &entry.payload {
            EntryPayload::Normal(request) => {
                matches!(request.proposal.command, Command::Join { .. }).then_some(request.id)
            }
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        };
        entries.iter().filter_map(number).collect()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_number_of_a_join_is_worth_nothing_without_its_secret_or_with_another_key() {
        let host = first_voter().await;
        let ask = stranger("n2", &token(&host, Role::Voter).await);
        let admitted = admit(&host.node, ask.clone()).await.unwrap();
        assert!(admitted.ca_key.is_some(), "there is something to steal");

        let mut numbers = seen_by_agents(&host.node);
        assert_eq!(numbers.len(), 1);
        numbers.push(ask.id);
        for id in numbers {
            let no_secret = JoinAsk {
                id,
                secret: [0; 20],
                ..ask.clone()
            };
            let why = admit(&host.node, no_secret).await.unwrap_err();
            assert!(why.contains("token"), "{why}");
            let other_key = JoinAsk {
                id,
                spki: public_key_of(&KeyPair::generate().unwrap()),
                ..ask.clone()
            };
            let why = admit(&host.node, other_key).await.unwrap_err();
            assert!(why.contains("used"), "{why}");
        }
        host.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_joiner_shows_its_token_to_voters_alone() {
        let host = first_voter().await;
        for (name, role) in [
            ("n2", Role::Voter),
            ("w1", Role::Witness),
            ("a1", Role::Agent),
        ] {
            let ask = stranger(name, &token(&host, role).await);
            let admitted = admit(&host.node, ask).await.unwrap();
            let certificate = CertificateDer::from(admitted.certificate);
            let certificate = ParsedCertificate::try_from(&certificate).unwrap();
            let taken_for = |name| verify_server_name(&certificate, &name).is_ok();
            assert_eq!(
                taken_for(server_name(ANY_VOTER.into())),
                role.votes(),
                "{role}"
            );
            let own = node_server_name(&admitted.cluster, admitted.node);
            assert!(taken_for(own), "a member all the same");
        }
        host.node.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_joiner_that_lost_its_answer_asks_again_and_is_the_same_node() {
        let host = first_voter().await;
        let ask = stranger("a1", &token(&host, Role::Agent).await);
        let first = admit(&host.node, ask.clone()).await.unwrap();
        let again = admit(&host.node, ask).await.unwrap();
        assert_eq!((again.node, again.role), (first.node, Role::Agent));
        assert!(again.ca_key.is_none());
        assert_eq!(host.node.state().read().nodes().len(), 2);
        host.node.shutdown().await;
    }
}
