//! `?watch=1` on a collection: what changes, as server-sent events.
//!
//! Nothing is queued for a slow reader: at its own pace it reads in the journal which objects have changed, and is shown
//! them as they are then. One that falls behind all that the journal remembers is told so, and has to list anew.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::convert::Infallible;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use axum::response::sse::{self, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream};
use tokio::sync::watch;
use tokio::time::Instant;
use vipd_api_types::{Problem, Watched, WatchedKind};
use vipd_core::name::Name;
use vipd_core::state::State;

use crate::audit;
use crate::erased::Daemon;
use crate::kind::{Kind, Look};
use crate::outlook::RunnersUp;
use crate::params::{Consistency, ListParams};
use crate::problem::Refusal;
use crate::room::Place;
use crate::select::Filter;

/// Below the clients' patience with silence, so that a quiet stream is told from a dead one.
const KEEP_ALIVE: Duration = Duration::from_secs(5);
/// How often a reader to whom nothing happens is told how far it is, so that it can be taken up again.
const BOOKMARK_EVERY: Duration = Duration::from_secs(30);
/// After so long a stream ends, and its token is looked at again when it is taken up.
const LASTS: Duration = Duration::from_secs(15 * 60);
/// For so long what is applied is gathered, so that a busy log costs a reader's share of it no more than so many looks.
const SETTLE: Duration = Duration::from_millis(10);
/// Objects that are shown in one look at the state.
const AT_ONCE: usize = 64;

/// Opens the stream.
pub(crate) async fn open<K: Kind>(
    daemon: Daemon,
    params: &ListParams,
    filter: Filter,
    last: Option<u64>,
) -> Result<Response, Refusal> {
    params.no_page()?;
    if let Some(field) = filter.untold::<K>() {
        return Err(Refusal::bad_request(
            "bad_selector",
            format!(
                "fieldSelector: {field} changes without an entry of the log, so a watch is not told of it"
            ),
            "watch without it and look at what comes, or list with it",
        ));
    }
    let place = daemon.room.watch(&audit::asker()?)?;
    let asked = last.or(params.revision);
    let applied = daemon.applied();
    let begun = daemon.read(|state| {
        let after = asked.unwrap_or(state.applied());
        if after > state.applied() && params.consistency == Consistency::Linearizable {
            return Err(Refusal::bad_request(
                "bad_revision",
                format!(
                    "revision {after} is beyond {}, which is all there is",
                    state.applied()
                ),
                "watch from the revision of a list, or of the last event",
            ));
        }
        Ok(after)
    });
    let after = begun?;
    let known = known::<K>(&daemon, &filter, after).await?;
    let watcher = Watcher::<K> {
        _place: place,
        daemon,
        applied,
        filter,
        after,
        known,
        ready: VecDeque::new(),
        out: VecDeque::from([message(WatchedKind::Bookmark, after)]),
        told: (after, Instant::now()),
        ends: Instant::now() + LASTS,
        over: false,
    };
    let keep_alive = KeepAlive::new().interval(KEEP_ALIVE);
    Ok(Sse::new(follow(watcher))
        .keep_alive(keep_alive)
        .into_response())
}

/// The revision after which a client that was cut off goes on.
pub(crate) fn last_event_id(headers: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let Some(value) = headers.get("last-event-id") else {
        return Ok(None);
    };
    let id = value.to_str().ok().and_then(|id| id.trim().parse().ok());
    let id = id.ok_or_else(|| {
        Refusal::bad_request(
            "bad_revision",
            "Last-Event-ID is not the id of an event of this stream",
            "send the last id as it came, or revision=N, or list anew",
        )
    });
    id.map(Some)
}

/// Those that met the conditions at `after`, and those that have changed since: they may have.
async fn known<K: Kind>(
    daemon: &Daemon,
    filter: &Filter,
    after: u64,
) -> Result<BTreeSet<Name>, Refusal> {
    let changed = |state: &State| {
        let changes = state.journal().since(after)?;
        let changes = changes.filter(|change| change.topic == K::TOPIC);
        let names: BTreeSet<Name> = changes.map(|change| change.name.clone()).collect();
        Some(names)
    };
    if filter.is_empty() {
        let reaches = daemon.read(|state| state.journal().reaches(after));
        return reaches.then(BTreeSet::new).ok_or_else(|| expired(after));
    }
    let turn = daemon.room.make().await?;
    let read = daemon.read(|state| Some((changed(state)?, state.clone())));
    let (mut known, copy) = read.ok_or_else(|| expired(after))?;
    let filter = filter.clone();
    let found = tokio::task::spawn_blocking(move || {
        let _turn = turn;
        let (local, next) = Default::default();
        let look = Look {
            state: &copy,
            local: &local,
            next: &next,
        };
        let meets = |name: &Name| filter.show::<K>(&look, name).is_some();
        known.extend(K::names(&copy, None).filter(meets));
        known
    });
    found.await.map_err(|cause| Refusal::broken(&cause))
}

struct Watcher<K> {
    _place: Place,
    daemon: Daemon,
    applied: watch::Receiver<u64>,
    filter: Filter,
    /// All changes up to this entry have been put into `ready`.
    after: u64,
    /// With conditions: those that the client may know.
    known: BTreeSet<Name>,
    /// What has changed and was not shown yet, oldest first.
    ready: VecDeque<Changed>,
    /// What is to be said.
    out: VecDeque<Watched<K>>,
    /// The last revision that was told, and when.
    told: (u64, Instant),
    ends: Instant,
    over: bool,
}

/// What became of an object since the client last looked.
struct Changed {
    /// The first entry that did something to it.
    first: u64,
    /// The last one.
    revision: u64,
    name: Name,
    /// The first one made it: before that, none of this name was there.
    made: bool,
}

fn follow<K: Kind>(watcher: Watcher<K>) -> impl Stream<Item = Result<sse::Event, Infallible>> {
    stream::unfold(watcher, async |mut watcher| {
        let said = watcher.next().await?;
        let last = watcher
            .out
            .front()
            .map(|next| next.revision)
            .or(watcher.ready.front().map(|next| next.revision))
            .is_none_or(|next| next != said.revision);
        let mut event = sse::Event::default().event(said.kind.as_str());
        // What came of the same entry and was not told yet would be lost by going on from here.
        if last && said.kind != WatchedKind::Error {
            event = event.id(said.revision.to_string());
        }
        Some((Ok(event.json_data(&said).unwrap_or_default()), watcher))
    })
}

impl<K: Kind> Watcher<K> {
    /// The next thing to say; `None` when all is said.
    async fn next(&mut self) -> Option<Watched<K>> {
        loop {
            if let Some(said) = self.out.pop_front() {
                self.told = (said.revision, Instant::now());
                return Some(said);
            }
            if self.over {
                return None;
            }
            if !self.ready.is_empty() {
                self.show();
                continue;
            }
            self.applied.mark_unchanged();
            if let Err(problem) = self.gather() {
                self.over = true;
                return Some(Watched {
                    problem: Some(problem),
                    ..message(WatchedKind::Error, self.after)
                });
            }
            if !self.ready.is_empty() {
                continue;
            }
            let now = Instant::now();
            self.over = now >= self.ends;
            if self.over || (now >= self.told.1 + BOOKMARK_EVERY && self.after > self.told.0) {
                self.out
                    .push_back(message(WatchedKind::Bookmark, self.after));
                continue;
            }
            let until = self.ends.min(now + BOOKMARK_EVERY);
            match tokio::time::timeout_at(until, self.applied.changed()).await {
                // What else is applied just now is told along with it.
                Ok(Ok(())) => tokio::time::sleep(SETTLE).await,
                Ok(Err(_)) => return None, // the node is gone
                Err(_) => {}
            }
        }
    }

    /// Reads in the journal what has changed.
    fn gather(&mut self) -> Result<(), Problem> {
        let (topic, after) = (K::TOPIC, self.after);
        let read = self.daemon.read(|state| {
            // On a node that lags there may be less than the client knows.
            let upto = state.applied().max(after);
            let mut changed = BTreeMap::<Name, Changed>::new();
            let changes = state.journal().since(after)?;
            for change in changes.filter(|change| change.topic == topic) {
                let revision = change.revision;
                let of = changed.entry(change.name.clone()).or_insert(Changed {
                    first: revision,
                    revision,
                    name: change.name.clone(),
                    made: false,
                });
                of.revision = revision;
                of.made |= change.made && of.first == revision;
            }
            Some((upto, changed))
        });
        let (upto, changed) = read.ok_or_else(|| *expired(after).0)?;
        let mut ready: Vec<_> = changed.into_values().collect();
        ready.sort_by_key(|changed| changed.revision);
        self.ready = ready.into();
        self.after = upto;
        Ok(())
    }

    /// Looks at some of those that have changed.
    fn show(&mut self) {
        let local = self.daemon.local();
        let some = self.ready.len().min(AT_ONCE);
        let some: Vec<Changed> = self.ready.drain(..some).collect();
        let shown: Vec<(Changed, Option<K>)> = self.daemon.read(|state| {
            let look = Look {
                state,
                local: &local,
                next: &RunnersUp::default(),
            };
            let show = |changed: Changed| {
                let object = self.filter.show::<K>(&look, &changed.name);
                (changed, object)
            };
            some.into_iter().map(show).collect()
        });
        for (changed, object) in shown {
            if let Some(said) = self.judge(changed, object) {
                self.out.push_back(said);
            }
        }
    }

    /// What a change is to the client.
    fn judge(&mut self, changed: Changed, object: Option<K>) -> Option<Watched<K>> {
        let Changed {
            revision,
            name,
            made,
            ..
        } = changed;
        let knew = match (self.filter.is_empty(), object.is_some()) {
            (true, _) => !made,
            (false, true) => !self.known.insert(name.clone()) && !made,
            (false, false) => self.known.remove(&name),
        };
        let kind = match (&object, knew) {
            (Some(_), true) => WatchedKind::Modified,
            (Some(_), false) => WatchedKind::Added,
            (None, true) => WatchedKind::Deleted,
            // It came and went in between, or never was of interest.
            (None, false) => return None,
        };
        Some(Watched {
            name: Some(name.to_string()),
            object,
            ..message(kind, revision)
        })
    }
}

fn message<K>(kind: WatchedKind, revision: u64) -> Watched<K> {
    Watched {
        kind,
        revision,
        name: None,
        object: None,
        problem: None,
    }
}

fn expired(after: u64) -> Refusal {
    Refusal::new(
        StatusCode::GONE,
        "revision_expired",
        "The revision is too old to go on from",
        format!("this node no longer knows all that has changed since revision {after}"),
        "list anew, and watch from the revision of that list",
    )
}
