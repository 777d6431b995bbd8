//! The state against a naive model of what is promised about addresses: plain lists, every address looked at one by one,
//! no index. Nodes take no part: without any, what is freed is free at once.

mod commands;
mod model;
mod rules;

use proptest::prelude::*;

use self::commands::command;
use self::model::Model;
use self::rules::is_of;
use super::*;
use crate::rejection::Rejection;

/// Sequences in a run, and commands in the longest of them: more than 100,000 commands in all.
const SEQUENCES: u32 = 700;
const LONGEST: usize = 220;

proptest! {
    #![proptest_config(ProptestConfig { cases: SEQUENCES, ..ProptestConfig::default() })]
    #[test]
    fn addresses_are_given_as_a_naive_model_of_the_rules_says(
        commands in prop::collection::vec(command(), LONGEST - 120..LONGEST),
    ) {
        let (mut state, mut model) = (State::default(), Model::default());
        for (i, command) in commands.into_iter().enumerate() {
            let index = i as u64 + 1;
            let at = Millis(index * 10);
            let wanted = model.apply(&command, at.0);
            let proposal = Proposal { at, command, by: None };
            let said = state.apply(index, &proposal).map(|_| ()).map_err(|why| why.reason());
            let taken = said.is_ok();
            prop_assert_eq!(said, wanted, "{:?}", proposal.command);
            prop_assert_eq!(state.vips().len(), model.vips.len());
            for vip in &model.vips {
                let is = &state.vips()[&vip.name];
                prop_assert_eq!(&is.addresses[..], &vip.has[..], "{} after {:?}: {:?} {:?}", vip.name, proposal.command, is.unmet, is.spec);
                prop_assert_eq!(is.unmet.is_empty(), vip.unmet.is_empty(), "{} after {:?}", vip.name, proposal.command);
            }
            if taken && let Command::PutVip { name, .. } = &proposal.command {
                let (is, wanted) = (&state.vips()[name], &model.vip(name).unmet);
                let told: Vec<String> = is.unmet.iter().map(|unmet| told(&unmet.why)).collect();
                // Who wants both or nothing is not looked at again when others take what was there of one family: then
                // more is in his way than he was told.
                let more = is.spec.families == Families::RequireDual && told.iter().all(|why| wanted.contains(&why.as_str()));
                // Nor is who was told that something cools down, when that is given again to whose it was.
                let told_before = told == model.at_first;
                prop_assert!(more || told_before || told == *wanted, "{told:?}, not {wanted:?}: {:?}", proposal.command);
            }
            for pool in &model.pools {
                for family in Family::ALL {
                    let usage = state.usage(&state.pools()[&pool.name], family);
                    let used = model.given.iter().filter(|it| it.pool == pool.name && is_of(it.address, family)).count();
                    let offers = || pool.offers.iter().filter(|it| is_of(**it, family));
                    let free = offers().filter(|a| model.given(**a).is_none() && !model.cooling.iter().any(|it| it.address == **a));
                    let counts = (offers().count() as u128, used as u128, free.count() as u128);
                    let is = (usage.total.unwrap(), usage.used, usage.available.unwrap());
                    prop_assert_eq!(is, counts, "{} {} after {:?}", pool.name, family, proposal.command);
                }
            }
            prop_assert_eq!(state.check(), Ok(()), "after {:?}", proposal.command);
        }
        let bytes = state.to_bytes();
        prop_assert_eq!(State::from_bytes(&bytes).unwrap().to_bytes(), bytes);
    }
}

/// A reason as the model has it: of those who may not share, the rule.
fn told(why: &Rejection) -> String {
    let text = match why {
        Rejection::Incompatible { rule, .. } => rule.to_string(),
        other => other.reason().to_string(),
    };
    text.split(':').next().unwrap_or_default().to_string()
}
