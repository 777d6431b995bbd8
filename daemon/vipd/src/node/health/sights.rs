//! What this node sees of all backends of a VIP together, for VIPs that go elsewhere when all are down.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use tokio::time::Instant;
use vipd_core::block::Family;
use vipd_core::health::{Health, Seen, Sight};
use vipd_core::name::Name;
use vipd_core::service::Endpoint;
use vipd_raft::beat::now;

use super::Watched;
use super::patients::{Leaving, Who};

/// Between two looks, so that what has lasted long enough is told.
const LOOKS: Duration = Duration::from_millis(500);
/// How long what was told may take to come back by the log, before it is told again.
const HEARD: Duration = Duration::from_secs(5);

/// Each such VIP that this node looks after.
#[derive(Debug, Default)]
pub(super) struct Sights {
    all: BTreeMap<Name, One>,
    looked: Option<Instant>,
}

#[derive(Debug)]
struct One {
    sight: Sight,
    /// What the cluster knows.
    told: bool,
    /// When something else was told, and what.
    telling: Option<(Instant, bool)>,
}

impl Sights {
    /// These are the VIPs now, and what the cluster knows of each.
    pub(super) fn follow(&mut self, leaving: BTreeMap<Name, Leaving>) {
        self.all.retain(|name, _| leaving.contains_key(name));
        for (name, Leaving { told }) in leaving {
            match self.all.entry(name) {
                Entry::Occupied(mut one) => one.get_mut().told = told,
                Entry::Vacant(one) => drop(one.insert(One {
                    sight: Sight::default(),
                    told,
                    telling: None,
                })),
            }
        }
    }

    /// Whether there is any.
    pub(super) fn any(&self) -> bool {
        !self.all.is_empty()
    }

    /// When to look again if nothing happens.
    pub(super) fn due(&self) -> Instant {
        self.looked.map_or_else(Instant::now, |at| at + LOOKS)
    }

    /// The VIPs of which the cluster is to be told that all backends are down (`true`), or are no longer.
    pub(super) fn look(&mut self, watched: &BTreeMap<Who, Watched>) -> Vec<(Name, bool)> {
        self.looked = Some(Instant::now());
        let mut news = Vec::new();
        for (name, one) in &mut self.all {
            let known = match one.telling {
                Some((at, down)) if at.elapsed() < HEARD && down != one.told => down,
                Some(_) | None => {
                    one.telling = None;
                    one.told
                }
            };
            let seen = seen(name, watched);
            if let Some(told) = one.sight.look(now(), seen, known) {
                let down = told == Seen::Down;
                one.telling = Some((Instant::now(), down));
                news.push((name.clone(), down));
            }
        }
        news
    }
}

/// What is seen of those backends of a VIP that this node would use.
fn seen(name: &Name, watched: &BTreeMap<Who, Watched>) -> Seen {
    let first = Endpoint {
        address: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        port: 0,
    };
    let of = watched.range((name.clone(), first)..);
    let of = of.take_while(|((vip, _), _)| vip == name);
    let of = of.filter(|(_, watched)| watched.patient.counts);
    let of: Vec<_> = of
        .map(|((_, at), watched)| (Family::of(at.address), watched.health))
        .collect();
    together(&of)
}

/// The worst of the families; of each it is enough that one is up.
fn together(all: &[(Family, Health)]) -> Seen {
    let mut together = Seen::Up;
    for family in Family::ALL {
        let of = || all.iter().filter(|(its, _)| *its == family);
        if of().next().is_none() {
            continue;
        }
        if of().all(|(_, health)| !health.is_up()) {
            return Seen::Down;
        }
        if !of().any(|(_, health)| health.is_known_up()) {
            together = Seen::Unknown;
        }
    }
    match all.is_empty() {
        true => Seen::Unknown,
        false => together,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vipd_core::health::{AllDown, Check, Question};
    use vipd_core::time::Millis;

    /// One that has given these answers: `+` well, `-` not.
    fn after(answers: &str) -> Health {
        let check = Check {
            question: Question::Tcp,
            port: 0,
            interval: Millis(1000),
            timeout: Millis(1000),
            fall: 2,
            rise: 1,
            all_down: AllDown::Withdraw,
        };
        let mut health = Health::default();
        for answer in answers.chars() {
            health.take(answer == '+', &check);
        }
        health
    }

    #[test]
    fn a_family_is_as_its_best_backend_and_all_of_them_as_the_worst_family() {
        use Family::{V4, V6};
        use Seen::{Down, Unknown, Up};
        let table: [(&[(Family, &str)], Seen); 9] = [
            (&[], Unknown),
            (&[(V4, "")], Unknown),
            (&[(V4, "+")], Up),
            (&[(V4, "-")], Unknown),
            (&[(V4, "--")], Down),
            (&[(V4, "--"), (V4, "+")], Up),
            (&[(V4, "--"), (V4, "")], Unknown),
            (&[(V4, "+"), (V6, "--")], Down),
            (&[(V4, ""), (V6, "+")], Unknown),
        ];
        for (all, wanted) in table {
            let all_after: Vec<_> = all
                .iter()
                .map(|(family, of)| (*family, after(of)))
                .collect();
            assert_eq!(together(&all_after), wanted, "{all:?}");
        }
    }
}
