//! How much is done at a time, so that no client holds up the cluster: what does not fit is told to come again.
//!
//! Of each there are places, and one user (a token, or a user of the host) has half of them at most: the others find room
//! beside him.

use std::cell::OnceCell;
use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::http::StatusCode;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use vipd_core::asker::Who;

use crate::problem::Refusal;

/// Writes on their way through the log at a time; it takes some milliseconds to apply so many.
const WRITES: usize = 256;
/// Watches at a time.
const WATCHES: usize = 128;
/// Large answers that are being made or sent at a time: each may be of ten thousand objects, and lies in memory until its
/// reader has taken it.
const ANSWERS: usize = 16;
/// Of them, those being made. Each keeps one core busy.
const MAKING: usize = 2;
/// The longest that one waits for its turn.
const MADE_WITHIN: Duration = Duration::from_secs(3);

tokio::task_local! {
    /// The place of the write that this task carries to its end, from when it first waits for the cluster.
    static WRITING: OnceCell<Place>;
}

/// Carries a write to its end: only then the place that it takes is free again, whether or not its sender is still there.
pub(crate) async fn carried(write: impl Future<Output = Response>) -> Response {
    WRITING.scope(OnceCell::new(), write).await
}

/// What is free of it.
pub(crate) struct Room {
    writes: Places,
    watches: Places,
    answers: Places,
    making: Arc<Semaphore>,
}

impl Default for Room {
    fn default() -> Self {
        Self {
            writes: Places::new("writes on their way", WRITES),
            watches: Places::new("watches open", WATCHES),
            answers: Places::new("large answers being made or read", ANSWERS),
            making: Arc::new(Semaphore::new(MAKING)),
        }
    }
}

impl Room {
    /// Room to wait for the cluster. A write (see [`carried`]) has one place, from when it first waits until its end; its body
    /// has been read by then, so a slow sender takes none. A read takes none either: it is over when its reader hangs up.
    pub(crate) fn wait(&self, who: &Who) -> Result<(), Refusal> {
        let needed = WRITING.try_with(|place| place.get().is_none());
        if needed == Ok(true) {
            let place = self.writes.take(&who.to_string()).map_err(full)?;
            // It was empty a moment ago, in this same task.
            WRITING.with(|of| drop(of.set(place)));
        }
        Ok(())
    }

    /// Room for one watch, for as long as it lasts.
    pub(crate) fn watch(&self, who: &Who) -> Result<Place, Refusal> {
        self.watches.take(&who.to_string()).map_err(full)
    }

    /// Room for one large answer, until it is sent: see [`Place::held`].
    pub(crate) fn answer(&self, who: &Who) -> Result<Place, Refusal> {
        self.answers.take(&who.to_string()).map_err(full)
    }

    /// A turn for work on a copy of the state, after a while.
    pub(crate) async fn make(&self) -> Result<OwnedSemaphorePermit, Refusal> {
        let turn = tokio::time::timeout(MADE_WITHIN, self.making.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok);
        turn.ok_or_else(|| {
            let seconds = MADE_WITHIN.as_secs();
            full(format!(
                "{MAKING} large answers at a time are made, and it was not this one's turn within {seconds} s"
            ))
        })
    }
}

/// Places of one kind.
#[derive(Clone)]
pub(crate) struct Places {
    what: &'static str,
    most: usize,
    taken: Arc<Mutex<Taken>>,
}

#[derive(Default)]
struct Taken {
    all: usize,
    /// By the name of who has them.
    by: HashMap<String, usize>,
}

impl Places {
    pub(crate) fn new(what: &'static str, most: usize) -> Self {
        Self {
            what,
            most,
            taken: Arc::default(),
        }
    }

    /// A place for whoever is called that.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn take(&self, who: &str) -> Result<Place, String> {
        let Self { what, most, .. } = self;
        let mut taken = self.lock();
        if taken.all >= *most {
            return Err(format!("there are {most} {what} already"));
        }
        let (has, share) = (taken.by.get(who).copied().unwrap_or(0), most / 2);
        if has >= share {
            return Err(format!("{who} has {share} {what} already"));
        }
        taken.all += 1;
        taken.by.insert(who.to_owned(), has + 1);
        Ok(Place {
            places: self.clone(),
            who: who.to_owned(),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place that is taken; it is free again when this is dropped.
pub(crate) struct Place {
    places: Places,
    who: String,
}

impl Place {
    /// An answer that has the place until it is sent, or its reader is gone.
    pub(crate) fn held(self, answer: Response) -> Response {
        answer.map(|body| Body::new(Held { body, _place: self }))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= 1;
        if let Some(has) = taken.by.get_mut(&self.who) {
            *has -= 1;
            if *has == 0 {
                taken.by.remove(&self.who);
            }
        }
    }
}

/// See [`Place::held`].
struct Held {
    body: Body,
    _place: Place,
}

impl HttpBody for Held {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
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
        let places = Places::new("writes on their way", 256);
        let fill =
            |who: &str| -> Vec<Place> { std::iter::from_fn(|| places.take(who).ok()).collect() };
        let first = fill("uid/1");
        assert_eq!(first.len(), 128);
        let refused = places.take("uid/1").err().unwrap();
        assert_eq!(refused, "uid/1 has 128 writes on their way already");
        let second = fill("uid/2");
        assert_eq!(second.len(), 128);
        let refused = places.take("uid/3").err().unwrap();
        assert_eq!(refused, "there are 256 writes on their way already");
        drop((first, second));
        assert!(places.lock().by.is_empty());
        assert_eq!(fill("uid/3").len(), 128);
    }

    #[test]
    fn an_answer_has_its_place_until_it_is_gone() {
        let places = Places::new("answers", 2);
        let answer = places
            .take("a")
            .unwrap()
            .held(Response::new(Body::from("x")));
        assert_eq!(
            answer.body().size_hint().exact(),
            Some(1),
            "its length is still said"
        );
        assert!(places.take("a").is_err());
        drop(answer);
        assert!(places.take("a").is_ok());
    }
}
