//! What operators and backends do to where VIPs may be: policies, weights, rebalances, and nodes that see no backend.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use vipd_core::command::{Command, Expect};
use vipd_core::health::AllDown;
use vipd_core::id::NodeId;
use vipd_core::name::{Labels, Name};
use vipd_core::node::Weight;
use vipd_core::policy::{Pattern, PolicySpec};
use vipd_core::selector::{NAME_LABEL, Operator, Requirement, Selector};
use vipd_core::state::State;

use crate::clients::propose;
use crate::dice::Dice;
use crate::runtime::{sleep, true_now};
use crate::wishes::{TIER, TIERS};
use crate::world::World;

/// Policies that can be there at a time.
const POLICIES: u64 = 3;
/// Before what nobody took is asked again.
const AGAIN: Duration = Duration::from_millis(100);

/// Makes or replaces a policy: VIPs of a tier may be on some nodes only, or on some interfaces.
pub(crate) async fn restrict(world: &Arc<World>, dice: &mut Dice) {
    let names = world.judge.look(|state| {
        let nodes = state.nodes().values();
        nodes.map(|node| node.name.to_string()).collect::<Vec<_>>()
    });
    let some: BTreeSet<String> = names.into_iter().filter(|_| dice.one_in(2)).collect();
    let nodes = if dice.one_in(3) {
        Selector::default()
    } else {
        let key = NAME_LABEL.to_owned();
        let operator = Operator::In { values: some };
        Selector {
            match_expressions: vec![Requirement { key, operator }],
            ..Selector::default()
        }
    };
    let interfaces = dice.one_in(3).then(|| Pattern::new("^eth1$").ok());
    let tier = dice.pick(&TIERS).copied().unwrap_or_default();
    let labels = Labels::from([(TIER.to_owned(), tier.to_owned())]);
    let spec = PolicySpec {
        vips: Selector {
            match_labels: labels,
            ..Selector::default()
        },
        nodes,
        interfaces: interfaces.flatten().into_iter().collect(),
    };
    let Ok(name) = Name::new(&format!("policy-{}", dice.below(POLICIES))) else {
        return;
    };
    let put = Command::PutPolicy {
        name,
        labels: Labels::new(),
        spec,
        expect: Expect::Any,
    };
    ask(world, put).await;
}

/// Gives some node another weight.
pub(crate) async fn weigh(world: &Arc<World>, dice: &mut Dice, node: Name) {
    let weight = u8::try_from(dice.between(1, 100)).unwrap_or(1);
    let set = Command::SetNode {
        node,
        weight: Weight::new(weight).ok(),
        labels: std::collections::BTreeMap::new(),
        drained: None,
        expect: Expect::Any,
    };
    ask(world, set).await;
}

/// Evens the loads out.
pub(crate) async fn rebalance(world: &Arc<World>) {
    ask(world, Command::Rebalance).await;
}

/// A node sees none of the backends of about half of the VIPs that leave it for that. (How often a node may say so is
/// [`vipd_core::health::Sight`]'s, which is not simulated.)
pub(crate) async fn blind(world: &Arc<World>, dice: &mut Dice, node: NodeId) {
    let vips = world.judge.look(|state| {
        let vips = state.vips().values().filter(|vip| {
            let check = vip.spec.health.as_ref();
            check.is_some_and(|check| check.all_down == AllDown::Withdraw)
        });
        vips.map(|vip| vip.name.clone()).collect::<Vec<_>>()
    });
    for vip in vips {
        if dice.one_in(2) {
            let down = true;
            ask(world, Command::Sight { node, vip, down }).await;
        }
    }
}

/// Nobody is drained, restricted or blind any more. Asks until it is so, for the plan's bound at most: what is still in the
/// way then is for others to find.
pub(crate) async fn take_back(world: &Arc<World>) {
    let end = true_now() + world.plan.bound * 1_000_000;
    loop {
        let commands = world.judge.look(undo);
        if commands.is_empty() || true_now() > end {
            return;
        }
        for command in commands {
            ask(world, command).await;
        }
        sleep(AGAIN).await;
    }
}

fn undo(state: &State) -> Vec<Command> {
    let drained = state.nodes().values().filter(|node| node.drained);
    let undrain = drained.map(|node| Command::SetDrained {
        node: node.name.clone(),
        drained: false,
    });
    let delete = state.policies().keys().map(|name| Command::DeletePolicy {
        name: name.clone(),
        expect: Expect::Any,
    });
    let blind = state.vips().keys().flat_map(|vip| {
        let nodes = state.blind_to(vip);
        nodes.map(move |node| Command::Sight {
            node,
            vip: vip.clone(),
            down: false,
        })
    });
    undrain.chain(delete).chain(blind).collect()
}

/// Proposes through some node. What became of it is seen in the log.
async fn ask(world: &Arc<World>, command: Command) {
    let through = world.dice(|dice| dice.pick(&world.processes()).cloned());
    if let Some(through) = through {
        drop(propose(&through, command).await);
    }
}
