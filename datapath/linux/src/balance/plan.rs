//! The difference between the services that shall be and those that the maps hold, as steps. Pure.
//!
//! A packet finds a service, by it a table, by that a backend. So each is made before what names it,
//! and goes only after what named it: not in the same plan, but in the next one, since a program may
//! be on its way from the one to the other at this moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use vipd_datapath_common::{
    AddressKey,
    balance::{Answer, Backend, Member, Range, Service, TallyKey, service_flags},
    max_entries,
};

use super::{
    Frontend,
    goal::{Goal, Prefix, Recipe, Spot, Want},
    maglev,
};

/// What the maps hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Actual {
    pub(crate) services: BTreeMap<Frontend, Service>,
    pub(crate) tables: BTreeMap<u32, Table>,
    pub(crate) backends: BTreeMap<u32, Backend>,
    pub(crate) tallies: BTreeSet<TallyKey>,
    /// Who may begin a connection, by the service's number.
    pub(crate) ranges: BTreeSet<(u32, Prefix)>,
    /// For whom the ends of backends answer.
    pub(crate) answers: BTreeMap<Frontend, Answer>,
    /// Who takes new connections, of the tables of services that keep clients.
    pub(crate) members: BTreeSet<Member>,
    /// The highest number that was given to anything.
    pub(crate) last: u32,
}

/// What is remembered of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Table {
    /// What it was made of; `None`: it was read back, and nobody knows.
    pub(crate) recipe: Option<Recipe>,
    /// Of its slots.
    pub(crate) digest: u64,
    /// The backends in its slots.
    pub(crate) names: BTreeSet<u32>,
}

impl Table {
    /// What slots tell.
    pub(crate) fn read(slots: &[u32], recipe: Option<Recipe>) -> Self {
        let mut names: BTreeSet<u32> = slots.iter().copied().collect();
        names.remove(&0);
        let mut hasher = DefaultHasher::new();
        slots.hash(&mut hasher);
        Self {
            recipe,
            digest: hasher.finish(),
            names,
        }
    }
}

/// One step. The order matters; a step that names what could not be made is to be left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Write a backend under its number.
    Backend(u32, Backend),
    /// Make a table of these slots.
    Table(u32, Recipe, Vec<u32>),
    /// A table that was read back turns out to be of this recipe.
    Adopt(u32, Recipe),
    /// Count for this service and backend.
    Tally(TallyKey),
    /// Admit clients to a service.
    Range(u32, Prefix),
    /// Write for whom the end of a backend answers.
    Answer(Frontend, Answer),
    /// Clients may be kept with a backend.
    Member(Member),
    /// Write a service.
    Service(Frontend, Service),
    /// Forget a service.
    DropService(Frontend),
    /// Forget a table.
    DropTable(u32),
    /// Forget a backend.
    DropBackend(u32),
    /// Forget what was counted.
    DropTally(TallyKey),
    /// Admit them no more.
    DropRange(u32, Prefix),
    /// Nobody can tell any more for whom that end answers.
    DropAnswer(Frontend),
    /// No client is kept there any more: that table is used no more.
    DropMember(Member),
}

/// The steps from `actual` to `goal`. Empty once all is as it shall be, and nothing is left over.
pub(crate) fn plan(goal: &Goal, actual: &Actual) -> Vec<Step> {
    let mut plan = Planner {
        steps: Vec::new(),
        last: actual.last,
        numbers: actual
            .backends
            .iter()
            .map(|(number, backend)| (Spot::of(backend), *number))
            .collect(),
    };
    plan.backends(goal, actual);
    let tables = plan.tables(goal, actual);
    let mut tallies = BTreeSet::new();
    let mut ranges = BTreeSet::new();
    let services = plan.services(goal, actual, &tables, &mut tallies, &mut ranges);
    let new = tallies.difference(&actual.tallies);
    plan.steps.extend(new.copied().map(Step::Tally));
    plan.answers(goal, actual);
    plan.members(goal, actual, &tables);
    plan.steps.extend(services);
    plan.leave(goal, actual, &tables, &tallies);
    let gone = actual.ranges.difference(&ranges);
    plan.steps
        .extend(gone.map(|(service, prefix)| Step::DropRange(*service, *prefix)));
    plan.steps
}

struct Planner {
    steps: Vec<Step>,
    last: u32,
    numbers: BTreeMap<Spot, u32>,
}

impl Planner {
    /// Numbers are used once while the counter lasts: what is counted for one is not mixed with
    /// what an old flow still counts for another.
    fn number(&mut self) -> u32 {
        self.last = self.last.wrapping_add(1).max(1);
        self.last
    }

    fn backends(&mut self, goal: &Goal, actual: &Actual) {
        for (spot, reach) in &goal.spots {
            let number = match self.numbers.get(spot) {
                Some(number) => *number,
                None => {
                    let number = self.number();
                    self.numbers.insert(*spot, number);
                    number
                }
            };
            let entry = spot.entry(number, *reach);
            if actual.backends.get(&number) != Some(&entry) {
                self.steps.push(Step::Backend(number, entry));
            }
        }
    }

    /// The table of each recipe.
    fn tables(&mut self, goal: &Goal, actual: &Actual) -> BTreeMap<Recipe, u32> {
        let mut tables = BTreeMap::new();
        let mut unknown = BTreeMap::new();
        for (number, table) in &actual.tables {
            match &table.recipe {
                Some(recipe) => drop(tables.insert(Arc::clone(recipe), *number)),
                None => drop(unknown.insert(table.digest, *number)),
            }
        }
        for want in goal.services.values() {
            if tables.contains_key(&want.recipe) {
                continue;
            }
            let recipe = Arc::clone(&want.recipe);
            let slots = slots(&recipe, &|spot| self.numbers.get(&spot).copied());
            let known = (!unknown.is_empty()).then(|| Table::read(&slots, None).digest);
            let number = match known.and_then(|digest| unknown.remove(&digest)) {
                Some(number) => {
                    self.steps.push(Step::Adopt(number, Arc::clone(&recipe)));
                    number
                }
                None => {
                    let number = self.number();
                    let step = Step::Table(number, Arc::clone(&recipe), slots);
                    self.steps.push(step);
                    number
                }
            };
            tables.insert(recipe, number);
        }
        tables
    }

    fn services(
        &mut self,
        goal: &Goal,
        actual: &Actual,
        tables: &BTreeMap<Recipe, u32>,
        tallies: &mut BTreeSet<TallyKey>,
        ranges: &mut BTreeSet<(u32, Prefix)>,
    ) -> Vec<Step> {
        let mut steps = Vec::new();
        let mut counted = Vec::new();
        for prefix in &goal.answering {
            if ranges.insert((Range::ANSWERS, *prefix))
                && !actual.ranges.contains(&(Range::ANSWERS, *prefix))
            {
                steps.push(Step::Range(Range::ANSWERS, *prefix));
            }
        }
        for (frontend, want) in &goal.services {
            let before = actual.services.get(frontend);
            let Some(table) = tables.get(&want.recipe).copied() else {
                continue; // each recipe of the goal has one
            };
            let service = Service {
                table,
                flags: want.flags,
                id: before.map_or_else(|| self.number(), |service| service.id),
                timeout: want.timeout,
            };
            for prefix in &want.ranges {
                let range = (service.id, *prefix);
                if !actual.ranges.contains(&range) {
                    steps.push(Step::Range(service.id, *prefix));
                }
                ranges.insert(range);
            }
            if before != Some(&service) {
                steps.push(Step::Service(*frontend, service));
            }
            counted.push((service.id, want));
        }
        *tallies = self.tallies(&counted);
        steps
    }

    /// Before the services: nothing names them, and who reads one finds the rest, or has not begun yet.
    fn answers(&mut self, goal: &Goal, actual: &Actual) {
        for (end, whose) in &goal.answers {
            let answer = match whose {
                Some((frontend, spot)) => Answer {
                    vip: AddressKey::from(frontend.address),
                    port: frontend.port.to_be_bytes(),
                    reserved: [0; 2],
                    backend: self.numbers.get(spot).copied().unwrap_or(0),
                },
                None => Answer {
                    vip: AddressKey { octets: [0; 16] },
                    port: [0; 2],
                    reserved: [0; 2],
                    backend: 0,
                },
            };
            if actual.answers.get(end) != Some(&answer) {
                self.steps.push(Step::Answer(*end, answer));
            }
        }
        let gone = actual.answers.keys();
        let gone = gone.filter(|end| !goal.answers.contains_key(end));
        self.steps.extend(gone.copied().map(Step::DropAnswer));
    }

    /// Before the services: who reads one with its new table finds them. Where there is no room for all, the others keep no client.
    fn members(&mut self, goal: &Goal, actual: &Actual, tables: &BTreeMap<Recipe, u32>) {
        let sticky = goal.services.values();
        let sticky = sticky.filter(|want| want.flags & service_flags::BY_CLIENT != 0);
        let recipes: BTreeSet<&Recipe> = sticky.map(|want| &want.recipe).collect();
        let members = recipes.into_iter().flat_map(|recipe| {
            let table = tables.get(recipe).copied();
            let numbers = recipe.iter().map(|(spot, _)| self.numbers.get(spot));
            numbers.filter_map(move |backend| {
                let (table, backend) = (table?, *backend?);
                Some(Member { table, backend })
            })
        });
        let new = members.filter(|member| !actual.members.contains(member));
        let room = max_entries::MEMBERS.saturating_sub(actual.members.len());
        let new: Vec<Step> = new.take(room).map(Step::Member).collect();
        self.steps.extend(new);
    }

    /// Of each service, then of their backends as long as there is room: what has none is not counted.
    fn tallies(&self, services: &[(u32, &Want)]) -> BTreeSet<TallyKey> {
        let key = |service, backend| TallyKey { service, backend };
        let mut tallies: BTreeSet<TallyKey> = services.iter().map(|(id, _)| key(*id, 0)).collect();
        if !services.is_empty() {
            tallies.insert(key(0, 0)); // packets that belong to no service
        }
        let backends = services.iter().flat_map(|(id, want)| {
            let numbers = want.spots.iter().filter_map(|spot| self.numbers.get(spot));
            numbers.map(|number| key(*id, *number))
        });
        let room = max_entries::TALLY.saturating_sub(tallies.len());
        tallies.extend(backends.take(room));
        tallies
    }

    /// What is not wanted goes: services now, the rest once nothing in the maps names it.
    fn leave(
        &mut self,
        goal: &Goal,
        actual: &Actual,
        tables: &BTreeMap<Recipe, u32>,
        tallies: &BTreeSet<TallyKey>,
    ) {
        let gone = actual.services.keys();
        let gone = gone.filter(|frontend| !goal.services.contains_key(frontend));
        self.steps.extend(gone.copied().map(Step::DropService));

        let wanted = goal
            .services
            .values()
            .filter_map(|want| tables.get(&want.recipe));
        let used = actual.services.values().map(|service| &service.table);
        let used: BTreeSet<u32> = wanted.chain(used).copied().collect();
        let unused = actual.tables.keys().filter(|number| !used.contains(number));
        self.steps.extend(unused.copied().map(Step::DropTable));
        let gone = actual.members.iter();
        let gone = gone.filter(|member| !used.contains(&member.table));
        self.steps.extend(gone.copied().map(Step::DropMember));

        let named = actual.tables.values().flat_map(|table| &table.names);
        let wanted = goal.spots.keys().filter_map(|spot| self.numbers.get(spot));
        let used: BTreeSet<u32> = named.chain(wanted).copied().collect();
        let unused = actual
            .backends
            .keys()
            .filter(|number| !used.contains(number));
        self.steps.extend(unused.copied().map(Step::DropBackend));

        let gone = actual.tallies.difference(tallies);
        self.steps.extend(gone.copied().map(Step::DropTally));
    }
}

/// The slots of a recipe's table, by the numbers of its backends.
pub(crate) fn slots(recipe: &Recipe, number: &dyn Fn(Spot) -> Option<u32>) -> Vec<u32> {
    let member = |(spot, weight): &(Spot, u32)| {
        number(*spot).map(|number| maglev::Member {
            address: spot.address,
            port: spot.port,
            weight: *weight,
            number,
        })
    };
    let members: Vec<maglev::Member> = recipe.iter().filter_map(member).collect();
    maglev::fill(&members)
}

impl Actual {
    /// What the maps hold once this step is done.
    pub(crate) fn note(&mut self, step: &Step) {
        match step {
            Step::Backend(number, backend) => {
                self.last = self.last.max(*number);
                self.backends.insert(*number, *backend);
            }
            Step::Table(number, recipe, slots) => {
                self.last = self.last.max(*number);
                let table = Table::read(slots, Some(Arc::clone(recipe)));
                self.tables.insert(*number, table);
            }
            Step::Adopt(number, recipe) => {
                if let Some(table) = self.tables.get_mut(number) {
                    table.recipe = Some(Arc::clone(recipe));
                }
            }
            Step::Tally(key) => drop(self.tallies.insert(*key)),
            Step::Service(frontend, service) => {
                self.last = self.last.max(service.id);
                self.services.insert(*frontend, *service);
            }
            Step::Answer(end, answer) => drop(self.answers.insert(*end, *answer)),
            Step::DropAnswer(end) => drop(self.answers.remove(end)),
            Step::Member(member) => {
                self.last = self.last.max(member.table);
                self.members.insert(*member);
            }
            Step::DropMember(member) => drop(self.members.remove(member)),
            Step::DropService(frontend) => drop(self.services.remove(frontend)),
            Step::DropTable(number) => drop(self.tables.remove(number)),
            Step::DropBackend(number) => drop(self.backends.remove(number)),
            Step::DropTally(key) => drop(self.tallies.remove(key)),
            Step::Range(service, prefix) => drop(self.ranges.insert((*service, *prefix))),
            Step::DropRange(service, prefix) => drop(self.ranges.remove(&(*service, *prefix))),
        }
    }

    /// Whether all that a step names is there.
    pub(crate) fn has_what_it_names(&self, step: &Step) -> bool {
        match step {
            Step::Table(_, _, slots) => slots
                .iter()
                .all(|number| *number == 0 || self.backends.contains_key(number)),
            Step::Service(_, service) => self.tables.contains_key(&service.table),
            Step::Backend(..)
            | Step::Adopt(..)
            | Step::Tally(_)
            | Step::DropService(_)
            | Step::DropTable(_)
            | Step::DropBackend(_)
            | Step::DropTally(_)
            | Step::Range(..)
            | Step::DropRange(..)
            | Step::Answer(..)
            | Step::DropAnswer(_)
            | Step::Member(_)
            | Step::DropMember(_) => true,
        }
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
