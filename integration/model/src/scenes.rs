//! The scenes that are explored.

use anyhow::{Context, Result};
use vipd_core::id::NodeId;
use vipd_core::time::Span;

use crate::clock::{LEASE, Rate, SHORT};
use crate::cluster::Cluster;
use crate::fault::{Fault, Kind, Place};
use crate::log::Entry;
use crate::mutant::Mutant;
use crate::scene::Scene;

/// How much is explored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Size {
    /// In every test run: seconds.
    Small,
    /// `cargo xtask model`: a few minutes.
    Usual,
    /// Many minutes.
    Large,
}

impl Size {
    fn pick<T>(self, small: T, usual: T, large: T) -> T {
        match self {
            Self::Small => small,
            Self::Usual => usual,
            Self::Large => large,
        }
    }
}

/// Makes the scene of this name.
///
/// # Errors
/// When there is none, with the names that there are.
pub fn scene(name: &str, size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let names = || SCENES.map(|(name, _)| name).join(", ");
    let found = SCENES.iter().find(|(known, _)| *known == name);
    let (_, make) = found.with_context(|| format!("no scene {name:?}; there are {}", names()))?;
    make(size, mutant)
}

/// How a scene is made.
type Make = fn(Size, Option<Mutant>) -> Result<Scene>;

/// All scenes, by name.
pub const SCENES: [(&str, Make); 12] = [
    ("failures", failures),
    ("disks", disks),
    ("one-way", one_way),
    ("delays", delays),
    ("drift", drift),
    ("tight", tight),
    ("leases", leases),
    ("voters", voters),
    ("judged", judged),
    ("replaced", replaced_and_calm),
    ("moves", moves),
    ("calm", calm),
];

fn three(name: &'static str, about: &'static str, mutant: Option<Mutant>) -> Result<Scene> {
    Scene::new(name, about, Cluster::new(3, &[&[&[0, 1, 2]]])?, mutant)
}

fn each(places: impl IntoIterator<Item = Place>, fault: impl Fn(Place) -> Fault) -> Vec<Fault> {
    places.into_iter().map(fault).collect()
}

fn dead(node: Place) -> Fault {
    Fault::Dead {
        node,
        written: false,
    }
}

fn paused(node: Place) -> Fault {
    Fault::Paused { node, keeps: true }
}

fn starved(node: Place) -> Fault {
    Fault::Paused { node, keeps: false }
}

fn failures(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three(
        "failures",
        "crash, restart, pause, full cuts, lagging logs, late commits",
        mutant,
    )?;
    scene.faults = [
        each(0..3, dead),
        each(0..1, paused),
        each(0..1, Fault::Isolated),
        each(0..2, Fault::Behind),
        vec![Fault::Late(Kind::Down)],
    ]
    .concat();
    scene.budget = size.pick(2, 3, 4);
    scene.troubles = size.pick(7, 7, 8);
    scene.calm = 5;
    Ok(scene)
}

fn disks(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three(
        "disks",
        "slow disks, and crashes with the fence on disk or not",
        mutant,
    )?;
    scene.faults = vec![
        paused(0),
        Fault::DiskStalls(2),
        dead(2),
        Fault::Dead {
            node: 2,
            written: true,
        },
    ];
    if size > Size::Small {
        scene
            .faults
            .extend([Fault::Isolated(0), Fault::DiskStalls(1), dead(1)]);
    }
    scene.budget = size.pick(3, 3, 4);
    scene.troubles = size.pick(7, 7, 8);
    scene.calm = 5;
    Ok(scene)
}

fn one_way(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three(
        "one-way",
        "cuts in one direction, between pairs, healed and not",
        mutant,
    )?;
    scene.faults = [
        each(0..3, Fault::Deaf),
        each(0..3, Fault::Mute),
        vec![Fault::Cut(0, 1), Fault::Cut(0, 2), Fault::Cut(1, 2)],
        each(0..3, Fault::Behind),
    ]
    .concat();
    scene.budget = size.pick(2, 3, 4);
    scene.troubles = size.pick(5, 6, 7);
    scene.calm = 6;
    Ok(scene)
}

fn delays(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three("delays", "datagrams late, twice, out of order", mutant)?;
    let held = |from, to, answer, twice| Fault::Held {
        from,
        to,
        answer,
        twice,
    };
    scene.faults = [
        each(0..1, Fault::Isolated),
        each(0..1, Fault::Behind),
        each(0..1, dead),
        vec![
            held(1, 0, true, false),
            held(2, 0, true, true),
            held(0, 1, false, false),
            held(0, 2, false, true),
            held(1, 2, false, false),
            Fault::Late(Kind::Down),
        ],
    ]
    .concat();
    scene.budget = size.pick(2, 3, 4);
    scene.troubles = size.pick(8, 8, 9);
    scene.calm = 5;
    Ok(scene)
}

/// Every way in which three clocks can differ.
fn all_rates() -> Vec<Vec<Rate>> {
    let rates = [Rate::Slow, Rate::Fast];
    let mut all = Vec::new();
    for a in rates {
        for b in rates {
            for c in rates {
                all.push(vec![a, b, c]);
            }
        }
    }
    all
}

fn drift(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three("drift", "clocks as far apart as they may run", mutant)?;
    scene.rates = all_rates();
    scene.faults = [
        each(0..1, Fault::Isolated),
        each(0..2, dead),
        each(0..1, Fault::Behind),
        vec![Fault::Cut(0, 1), Fault::Cut(0, 2)],
    ]
    .concat();
    scene.budget = size.pick(1, 2, 3);
    scene.troubles = 6;
    scene.calm = 6;
    Ok(scene)
}

fn tight(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = drift(size, mutant)?;
    scene.name = "tight";
    scene.about = "the same with ticks at which promises end less than 2 ms after the lease";
    scene.tick = Span(501_500_000);
    Ok(scene)
}

fn leases(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three(
        "leases",
        "leases of different length, and voters that restart",
        mutant,
    )?;
    scene.leases = vec![LEASE, SHORT, SHORT];
    scene.faults = vec![dead(1), Fault::Cut(0, 1), Fault::Cut(0, 2)];
    if size > Size::Small {
        scene
            .faults
            .extend([dead(0), Fault::Isolated(0), Fault::Behind(0)]);
    }
    scene.budget = size.pick(3, 3, 4);
    scene.troubles = size.pick(5, 7, 8);
    scene.calm = 6;
    Ok(scene)
}

/// Of voters 1, 2, 3 the last two are replaced by 4 and 5, through a joint membership.
fn replaced(name: &'static str, about: &'static str, mutant: Option<Mutant>) -> Result<Scene> {
    let memberships: [&[&[Place]]; 3] = [&[&[0, 1, 2]], &[&[0, 1, 2], &[0, 3, 4]], &[&[0, 3, 4]]];
    let cluster = Cluster::new(5, &memberships.map(|sets| sets as &[&'static [Place]]))?;
    let mut scene = Scene::new(name, about, cluster, mutant)?;
    scene.operator = vec![Entry::Voters(1), Entry::Voters(2)];
    Ok(scene)
}

fn voters(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let about = "two of three voters are replaced while nodes lag, crash and start";
    let mut scene = replaced("voters", about, mutant)?;
    scene.faults = vec![Fault::Behind(0), Fault::Behind(2), dead(0)];
    if size == Size::Large {
        scene
            .faults
            .extend([Fault::Behind(1), Fault::Isolated(0), dead(3)]);
    }
    scene.budget = size.pick(2, 3, 4);
    scene.troubles = size.pick(6, 7, 8);
    scene.calm = 4;
    Ok(scene)
}

fn replaced_and_calm(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let about = "a holder lost while voters are replaced: the address is answered again";
    let mut scene = replaced("replaced", about, mutant)?;
    scene.faults = vec![dead(0)];
    if size > Size::Small {
        scene.faults.extend([Fault::Isolated(0), Fault::Behind(0)]);
    }
    scene.budget = size.pick(1, 1, 2);
    scene.troubles = size.pick(4, 6, 7);
    scene.calm = 24;
    scene.live = true;
    Ok(scene)
}

fn judged(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let about = "two of three voters are replaced while a withdrawal is under way";
    let mut scene = replaced("judged", about, mutant)?;
    scene.faults = vec![
        Fault::Isolated(0),
        Fault::Late(Kind::Down),
        Fault::Behind(1),
    ];
    if size == Size::Large {
        scene.faults.extend([Fault::Behind(0), Fault::Cut(0, 3)]);
    }
    scene.budget = size.pick(2, 2, 3);
    scene.troubles = size.pick(8, 9, 9);
    scene.calm = 3;
    Ok(scene)
}

fn moves(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three(
        "moves",
        "the operator moves, deletes and makes the VIP meanwhile",
        mutant,
    )?;
    let third = scene.nodes()[2];
    scene.operator = vec![Entry::Move(third), Entry::Delete, Entry::Put];
    scene.faults = [
        each(0..1, Fault::Isolated),
        each(0..1, dead),
        each(0..2, Fault::Behind),
        vec![Fault::Late(Kind::Released)],
    ]
    .concat();
    scene.budget = size.pick(2, 3, 3);
    scene.troubles = size.pick(6, 6, 7);
    scene.calm = 6;
    Ok(scene)
}

fn calm(size: Size, mutant: Option<Mutant>) -> Result<Scene> {
    let mut scene = three(
        "calm",
        "what goes wrong stays so, or ends: the address is answered again",
        mutant,
    )?;
    scene.faults = [
        each(0..2, dead),
        each(1..3, starved),
        each(0..1, Fault::Deaf),
    ]
    .concat();
    if size > Size::Small {
        let more = [
            dead(2),
            starved(0),
            Fault::Mute(0),
            Fault::Isolated(0),
            Fault::Behind(0),
            Fault::Cut(0, 1),
        ];
        scene.faults.extend(more);
    }
    scene.budget = size.pick(2, 2, 3);
    scene.troubles = size.pick(6, 8, 8);
    scene.calm = 24;
    scene.live = true;
    Ok(scene)
}

/// The nodes of a scene, for what the operator says to them.
impl Scene {
    fn nodes(&self) -> &[NodeId] {
        self.logs().cluster().nodes()
    }
}
