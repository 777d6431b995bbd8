//! The small size of what `cargo xtask model` explores, in every test run.
#![allow(clippy::unwrap_used)]

use vipd_model::explore::{Way, search};
use vipd_model::mutant::Mutant;
use vipd_model::scenes::{SCENES, Size, scene};

const THREADS: usize = 2;

#[test]
fn nothing_that_may_go_wrong_breaks_the_protocol() {
    for (name, _) in SCENES {
        let scene = scene(name, Size::Small, None).unwrap();
        let found = search(scene, Way::Everything(THREADS), |_| {});
        println!("{name}: {} states, {:.1?}", found.states, found.took);
        assert_eq!(found.broken, None, "scene {name}");
        assert!(found.taken_over, "scene {name} tries nothing");
    }
}

#[test]
fn every_rule_left_out_is_noticed() {
    for mutant in Mutant::ALL {
        let name = mutant.name();
        let scene = scene(mutant.scene(), Size::Small, Some(mutant)).unwrap();
        let found = search(scene, Way::Everything(THREADS), |_| {});
        println!("{name}: {} states, {:.1?}", found.states, found.took);
        assert!(found.broken.is_some(), "{name} was not noticed");
    }
}
