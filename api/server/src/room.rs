//! How much is done at a time, so that no client holds up the cluster: what does not fit is told to come again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::StatusCode;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vipd_core::asker::Who;

use crate::problem::Refusal;

/// Writes on their way through the log at a time; it takes some milliseconds to apply so many.
const WRITES: usize = 256;
/// Of them, those of one user: a token, or a user of the host. The others find room beside him.
const WRITES_OF_ONE: usize = 128;
/// Lists being made at a time. Each may be of a hundred thousand objects, and keeps one core busy.
const LISTS: usize = 2;
/// The longest that a list waits for its turn.
const LIST_WITHIN: Duration = Duration::from_secs(3);
/// Watches at a time.
const WATCHES: usize = 128;

/// What is free of it.
pub(crate) struct Room {
    writes: Arc<Semaphore>,
    /// How many of them each user has on the way, by his name.
    users: Arc<Mutex<HashMap<String, usize>>>,
    lists: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        let of = |n| Arc::new(Semaphore::new(n));
        Self {
            writes: of(WRITES),
            users: Arc::default(),
            lists: of(LISTS),
            watches: of(WATCHES),
        }
    }
}

impl Room {
    /// Room for one write, whose body has been read: a slow sender takes none.
    pub(crate) fn write(&self, who: &Who) -> Result<Writing, Refusal> {
        let permit = self.writes.clone().try_acquire_owned();
        let permit =
            permit.map_err(|_| full(format!("{WRITES} writes are on their way already")))?;
        let who = who.to_string();
        let mut users = lock(&self.users);
        let has = users.entry(who.clone()).or_default();
        if *has >= WRITES_OF_ONE {
            return Err(full(format!(
                "{who} has {WRITES_OF_ONE} writes on their way already"
            )));
        }
        *has += 1;
        Ok(Writing {
            _permit: permit,
            who,
            users: self.users.clone(),
        })
    }

    /// Room for one list, after a while.
    pub(crate) async fn list(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = tokio::time::timeout(LIST_WITHIN, self.lists.clone().acquire_owned()).await;
        let permit = permit.ok().and_then(Result::ok);
        permit.ok_or_else(|| {
            let seconds = LIST_WITHIN.as_secs();
            full(format!(
                "{LISTS} lists at a time are made, and it was not this one's turn within {seconds} s"
            ))
        })
    }

    /// Room for one watch, for as long as it lasts.
    pub(crate) fn watch(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let permit = self.watches.clone().try_acquire_owned();
        permit.map_err(|_| full(format!("{WATCHES} watches are open already")))
    }
}

/// A write on its way; its room is free again when this is dropped.
pub(crate) struct Writing {
    _permit: OwnedSemaphorePermit,
    who: String,
    users: Arc<Mutex<HashMap<String, usize>>>,
}

impl Drop for Writing {
    fn drop(&mut self) {
        let mut users = lock(&self.users);
        if let Some(has) = users.get_mut(&self.who) {
            *has -= 1;
            if *has == 0 {
                users.remove(&self.who);
            }
        }
    }
}

fn lock(users: &Mutex<HashMap<String, usize>>) -> MutexGuard<'_, HashMap<String, usize>> {
    users.lock().unwrap_or_else(PoisonError::into_inner)
}

fn full(why: String) -> Refusal {
    Refusal::new(
        StatusCode::TOO_MANY_REQUESTS,
        "too_many_requests",
        "The node has enough to do",
        why,
        "ask again after the seconds that Retry-After says, or ask another node",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_leaves_room_for_the_others_and_all_of_it_comes_back() {
        let room = Room::default();
        let user = |uid| Who::Local { uid };
        let fill =
            |uid| -> Vec<Writing> { std::iter::from_fn(|| room.write(&user(uid)).ok()).collect() };
        let first = fill(1);
        assert_eq!(first.len(), WRITES_OF_ONE);
        let refused = room.write(&user(1)).err().unwrap().0;
        assert!(
            refused.detail.starts_with("uid/1 has 128"),
            "{}",
            refused.detail
        );
        let second = fill(2);
        assert_eq!(second.len(), WRITES - WRITES_OF_ONE);
        let refused = room.write(&user(3)).err().unwrap().0;
        assert_eq!(refused.status, 429);
        assert!(
            refused.detail.starts_with("256 writes"),
            "{}",
            refused.detail
        );
        drop((first, second));
        assert!(lock(&room.users).is_empty());
        assert_eq!(fill(3).len(), WRITES_OF_ONE);
    }
}
