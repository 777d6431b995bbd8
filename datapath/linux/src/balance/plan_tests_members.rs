//! Who takes new connections, for services that keep clients.

use std::time::Duration;

use vipd_datapath_common::balance::Member;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn sticky(backends: &[(u8, u32)]) -> Arc<WantedService> {
    Arc::new(WantedService {
        affinity: Some(HOUR),
        ..(*service(backends)).clone()
    })
}

#[test]
fn who_takes_new_connections_is_known_before_a_service_uses_its_table_and_until_it_uses_another() {
    let mut actual = Actual::default();
    let mut then = |port80: Arc<WantedService>| {
        let other = (frontend(81), service(&[(7, 1)]));
        let goal = goal(&[(frontend(80), port80), other].into(), &reaches());
        let steps = run(&goal, &mut actual);
        let used = |step: &Step| matches!(step, Step::Service(of, _) if of.port == 80);
        let at = steps.iter().position(used).unwrap();
        let late = |step: &Step| matches!(step, Step::Member(_));
        assert!(!steps[at..].iter().any(late), "{steps:?}");
        let early = |step: &&Step| matches!(step, Step::DropMember(_));
        assert_eq!(
            steps.iter().find(early),
            None,
            "a program may be on its way"
        );
        settle(&goal, &mut actual);
        let now = actual.services[&frontend(80)];
        let address = |member: &Member| {
            assert_eq!(member.table, now.table);
            IpAddr::from(actual.backends[&member.backend].address)
        };
        let members: BTreeSet<IpAddr> = actual.members.iter().map(address).collect();
        (members, now.timeout)
    };
    let all = |of: &[u8]| {
        of.iter()
            .map(|last| address(*last))
            .collect::<BTreeSet<_>>()
    };
    let hour = 3_600_000;
    assert_eq!(then(sticky(&[(1, 1), (2, 1)])), (all(&[1, 2]), hour));
    assert_eq!(
        then(sticky(&[(1, 1), (2, 0), (3, 9)])),
        (all(&[1, 3]), hour)
    );
    assert_eq!(then(service(&[(3, 1)])), (all(&[]), 0));
}

#[test]
fn members_that_there_is_no_room_for_wait_until_others_have_gone() {
    let goal = goal(
        &[(frontend(80), sticky(&[(1, 1), (2, 1)]))].into(),
        &reaches(),
    );
    // Of a table that is there no more.
    let left = (2..=max_entries::MEMBERS).map(|backend| Member {
        table: 7,
        backend: u32::try_from(backend).unwrap(),
    });
    let mut actual = Actual {
        members: left.collect(),
        last: 7,
        ..Actual::default()
    };
    let steps = run(&goal, &mut actual);
    let new = steps
        .iter()
        .filter(|step| matches!(step, Step::Member(_)))
        .count();
    assert_eq!(new, 1, "as many as there is room for");
    settle(&goal, &mut actual);
    let table = actual.services[&frontend(80)].table;
    assert_ne!(table, 7);
    assert!(actual.members.iter().all(|member| member.table == table));
    assert_eq!(actual.members.len(), 2);
}
