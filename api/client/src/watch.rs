//! Watching objects of a kind.

use reqwest::Method;
use vipd_api_types::{Watched, WatchedKind};

use crate::stream::Messages;
use crate::{Client, Error, Object, Selection};

impl Client {
    /// What changes after `revision`, which is that of a list, or where an earlier watch can be gone on from ([`WatchStream::goes_on_from`]);
    /// from now on without one.
    ///
    /// # Errors
    /// See [`Error`]; with the reason `revision_expired` list anew.
    pub async fn watch<T: Object>(
        &self,
        which: &Selection,
        revision: Option<u64>,
    ) -> Result<WatchStream<T>, Error> {
        let mut url = self.read_url(&["v1", T::COLLECTION]);
        which.ask(&mut url);
        url.query_pairs_mut().append_pair("watch", "1");
        if let Some(revision) = revision {
            url.query_pairs_mut()
                .append_pair("revision", &revision.to_string());
        }
        let answer = self.send(self.request(Method::GET, url)).await?;
        Ok(WatchStream(Messages::new(self.clone(), answer)))
    }
}

/// A stream of changes.
#[derive(Debug)]
pub struct WatchStream<T>(Messages<Watched<T>>);

impl<T: Object> WatchStream<T> {
    /// Where another watch goes on without a loss: the revision of the last message that carried an `id`. One without it is not
    /// all that its entry did.
    #[must_use]
    pub fn goes_on_from(&self) -> Option<u64> {
        self.0.last_id()
    }

    /// The next change, or a bookmark; `None` when the server has ended the stream, which it does from time to time: watch
    /// on from [`WatchStream::goes_on_from`].
    ///
    /// # Errors
    /// See [`Error`]; [`Error::Refused`] when the server says that one has to list anew.
    pub async fn next(&mut self) -> Result<Option<Watched<T>>, Error> {
        match self.0.next().await? {
            Some(Watched {
                kind: WatchedKind::Error,
                problem: Some(problem),
                ..
            }) => Err(Error::Refused(Box::new(problem))),
            said => Ok(said),
        }
    }
}
