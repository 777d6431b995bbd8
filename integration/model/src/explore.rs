//! The scene as Stateright sees it, and the search.

use std::time::{Duration, Instant};

use stateright::{Checker, Model, Property};

use crate::fault::Step;
use crate::scene::Scene;
use crate::world::{Broken, World};

/// Between looks at whether the search is done.
const LOOK: Duration = Duration::from_millis(5);
/// Between signs of life of a long search.
const PROGRESS: Duration = Duration::from_secs(10);

/// At most one node answers for the address.
pub const ONE_ANSWERS: &str = "one answers";
/// Tokens only grow.
pub const TOKENS_GROW: &str = "tokens grow";
/// A node that nothing happened to keeps its lease.
pub const NO_NEEDLESS: &str = "no needless takeover";
/// After a time of calm the address is answered.
pub const ANSWERED: &str = "answered again";
/// The nodes come to rest after each step.
pub const AT_REST: &str = "comes to rest";
/// Something does happen: a takeover is seen in some run.
pub const TAKEN_OVER: &str = "a takeover happens";

impl Model for Scene {
    type State = World;
    type Action = Step;

    fn init_states(&self) -> Vec<World> {
        self.rates
            .iter()
            .map(|rates| World::settled(self, rates))
            .collect()
    }

    fn actions(&self, world: &World, steps: &mut Vec<Step>) {
        world.steps(self, steps);
    }

    fn next_state(&self, world: &World, step: Step) -> Option<World> {
        let mut next = world.clone();
        next.step(self, step);
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_ANSWERS, |_, world: &World| {
                world.broken() != Some(Broken::TwoAnswer)
            }),
            Property::always(TOKENS_GROW, |_, world: &World| {
                world.broken() != Some(Broken::TokenFell)
            }),
            Property::always(NO_NEEDLESS, |_, world: &World| {
                world.broken() != Some(Broken::Needless)
            }),
            Property::always(AT_REST, |_, world: &World| {
                world.broken() != Some(Broken::Restless)
            }),
            Property::always(ANSWERED, |scene: &Self, world: &World| {
                !scene.live || !world.must_answer(scene) || world.answering(scene) == 1
            }),
            Property::sometimes(TAKEN_OVER, |scene: &Self, world: &World| {
                world.taken_over(scene)
            }),
        ]
    }
}

/// What a search found.
#[derive(Debug)]
pub struct Found {
    /// Distinct states visited.
    pub states: usize,
    /// The longest run, in steps.
    pub depth: usize,
    /// The property that does not hold, and the steps that show it.
    pub broken: Option<(&'static str, Vec<Step>)>,
    /// Another node took over in some run: without that, nothing was tried.
    pub taken_over: bool,
    /// How long it took.
    pub took: Duration,
}

/// Which way to search.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// Depth first on so many threads, which takes little memory: to see that nothing is broken.
    Everything(usize),
    /// Breadth first on one thread: the first counterexample is a shortest one.
    Shortest,
}

/// Searches a scene; `progress` is told now and then how many states were met.
pub fn search(scene: Scene, way: Way, progress: impl Fn(usize)) -> Found {
    let checker = scene
        .checker()
        .finish_when(stateright::HasDiscoveries::AnyFailures);
    match way {
        Way::Everything(threads) => finish(checker.threads(threads).spawn_dfs(), progress),
        Way::Shortest => finish(checker.spawn_bfs(), progress),
    }
}

fn finish(mut checker: impl Checker<Scene>, progress: impl Fn(usize)) -> Found {
    let began = Instant::now();
    let mut spoke = began;
    let threads = checker.handles();
    while threads.iter().any(|thread| !thread.is_finished()) {
        std::thread::sleep(LOOK);
        if spoke.elapsed() >= PROGRESS {
            spoke = Instant::now();
            progress(checker.unique_state_count());
        }
    }
    for thread in threads {
        if let Err(panic) = thread.join() {
            std::panic::resume_unwind(panic);
        }
    }
    let mut discoveries = checker.discoveries();
    let taken_over = discoveries.remove(TAKEN_OVER).is_some();
    let mut broken: Vec<_> = discoveries
        .into_iter()
        .map(|(name, path)| (name, path.into_actions()))
        .collect();
    broken.sort_by_key(|(name, steps)| (steps.len(), *name));
    Found {
        states: checker.unique_state_count(),
        depth: checker.max_depth(),
        broken: broken.into_iter().next(),
        taken_over,
        took: began.elapsed(),
    }
}
