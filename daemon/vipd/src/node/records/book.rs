//! Whom to tell of which flows: each address's to the node that would hold it next. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vipd_core::id::NodeId;
use vipd_core::node::Role;
use vipd_core::state::State;
use vipd_datapath::{FlowNews, Forward, Services};

/// The addresses that this node holds and whose flows others must know, with their next holders.
#[derive(Debug, Default)]
pub(super) struct Book {
    next: BTreeMap<IpAddr, NodeId>,
}

/// What is to be told to whom.
pub(super) type Tellings<T> = BTreeMap<NodeId, T>;

/// Addresses of which others can't work everything out anew: those whose flows are translated, or whose clients are kept.
pub(super) fn recorded(services: &Services) -> BTreeSet<IpAddr> {
    let recorded = services
        .iter()
        .filter(|(_, it)| it.mode == Forward::Nat || it.affinity.is_some());
    recorded.map(|(frontend, _)| frontend.address).collect()
}

/// The next holders, as the state has them, of those addresses that `me` holds. Agents can't be told, they do not listen.
pub(super) fn next_holders(
    state: &State,
    me: NodeId,
    recorded: &BTreeSet<IpAddr>,
) -> BTreeMap<IpAddr, NodeId> {
    let mine = |address: &IpAddr| {
        let allocation = state.allocations().get(address);
        allocation.is_some_and(|allocation| allocation.holder == Some(me))
    };
    if !recorded.iter().any(mine) {
        return BTreeMap::new();
    }
    let listens = |node: &NodeId| {
        let node = state.node(*node);
        node.is_some_and(|node| node.role != Role::Agent)
    };
    state
        .loss(me)
        .into_iter()
        .filter(|(address, _)| recorded.contains(address))
        .filter_map(|(address, next)| Some((address, next.filter(listens)?)))
        .collect()
}

impl Book {
    /// Whether nobody is to be told anything.
    pub(super) fn is_empty(&self) -> bool {
        self.next.is_empty()
    }

    /// Takes the next holders as they are now; returns the addresses of which a node must be told everything, since it has
    /// just become the next holder.
    pub(super) fn turn(&mut self, next: BTreeMap<IpAddr, NodeId>) -> Tellings<BTreeSet<IpAddr>> {
        let mut everything = Tellings::<BTreeSet<IpAddr>>::new();
        for (address, node) in &next {
            if self.next.get(address) != Some(node) {
                everything.entry(*node).or_default().insert(*address);
            }
        }
        self.next = next;
        everything
    }

    /// A node missed something: at the next turn it is told everything.
    pub(super) fn missed(&mut self, node: NodeId) {
        self.next.retain(|_, next| *next != node);
    }

    /// All addresses, by whom to tell of them.
    pub(super) fn all(&self) -> Tellings<BTreeSet<IpAddr>> {
        let mut all = Tellings::<BTreeSet<IpAddr>>::new();
        for (address, node) in &self.next {
            all.entry(*node).or_default().insert(*address);
        }
        all
    }

    /// News by whom to tell; what concerns nobody is left out.
    pub(super) fn sort(&self, news: Vec<FlowNews>) -> Tellings<Vec<FlowNews>> {
        let mut sorted = Tellings::<Vec<FlowNews>>::new();
        for item in news {
            let address = match &item {
                FlowNews::Made(record) => record.key.destination.into(),
                FlowNews::Gone(key) => key.destination.into(),
                FlowNews::Kept(kept) => kept.frontend.address,
            };
            if let Some(node) = self.next.get(&address) {
                sorted.entry(*node).or_default().push(item);
            }
        }
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::super::wire::tests::{kept, record};
    use super::*;

    use std::sync::Arc;
    use std::time::Duration;

    use vipd_datapath::{Dispatch, Frontend, Protocol, WantedService};

    fn address(last: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, last])
    }

    fn next(of: &[(u8, u64)]) -> BTreeMap<IpAddr, NodeId> {
        of.iter().map(|(a, n)| (address(*a), NodeId(*n))).collect()
    }

    #[test]
    fn who_becomes_next_is_told_everything_once() {
        let mut book = Book::default();
        let told = book.turn(next(&[(100, 2), (101, 3)]));
        assert_eq!(told.len(), 2);
        assert_eq!(told[&NodeId(2)], BTreeSet::from([address(100)]));
        assert!(book.turn(next(&[(100, 2), (101, 3)])).is_empty());
        let told = book.turn(next(&[(100, 3), (101, 3)]));
        assert_eq!(told, book_of(3, &[100]));
        book.missed(NodeId(3));
        assert!(book.is_empty());
        let told = book.turn(next(&[(100, 3), (101, 3)]));
        assert_eq!(told, book_of(3, &[100, 101]));
        assert_eq!(book.all(), told);
    }

    /// What a teller says of these addresses to one node.
    fn book_of(node: u64, addresses: &[u8]) -> Tellings<BTreeSet<IpAddr>> {
        let addresses = addresses.iter().map(|last| address(*last)).collect();
        BTreeMap::from([(NodeId(node), addresses)])
    }

    #[test]
    fn addresses_with_flows_or_clients_that_others_cannot_work_out_are_recorded() {
        let port = |last, port| Frontend {
            address: address(last),
            port,
            protocol: Protocol::Tcp,
        };
        let service = |mode, affinity| {
            Arc::new(WantedService {
                mode,
                backends: Vec::new(),
                keep: false,
                affinity,
                ranges: Vec::new(),
            })
        };
        let (dsr, hour) = (Forward::Dsr(Dispatch::L2), Duration::from_secs(3600));
        let services = Services::from([
            (port(100, 80), service(Forward::Nat, None)),
            (port(101, 80), service(dsr, None)),
            (port(102, 80), service(dsr, None)),
            (port(102, 81), service(dsr, Some(hour))),
        ]);
        assert_eq!(recorded(&services), [address(100), address(102)].into());
    }

    #[test]
    fn news_go_to_who_would_hold_their_address_next_and_no_further() {
        let mut book = Book::default();
        book.turn(next(&[(100, 2), (101, 3)]));
        let news = vec![
            FlowNews::Made(record(1, 100)),
            FlowNews::Made(record(1, 101)),
            FlowNews::Gone(record(2, 100).key),
            FlowNews::Made(record(1, 102)),
            FlowNews::Kept(kept(1, 101)),
            FlowNews::Kept(kept(1, 102)),
        ];
        let sorted = book.sort(news.clone());
        assert_eq!(sorted.len(), 2);
        assert_eq!(sorted[&NodeId(2)], [news[0], news[2]]);
        assert_eq!(sorted[&NodeId(3)], [news[1], news[4]]);
    }
}
