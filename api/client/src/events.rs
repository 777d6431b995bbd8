//! Events, past and to come.

use reqwest::Method;
use serde::Deserialize;
use vipd_api_types::{Event, List, Problem};

use crate::stream::Messages;
use crate::{Client, Error};

impl Client {
    /// The events that the asked node remembers, oldest first.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn events(&self) -> Result<List<Event>, Error> {
        self.read(&["v1", "events"]).await
    }

    /// Events as they happen, after those that the asked node remembers with a `seq` above `after`.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn watch_events(&self, after: u64) -> Result<EventStream, Error> {
        let mut url = self.read_url(&["v1", "events"]);
        url.query_pairs_mut()
            .append_pair("watch", "1")
            .append_pair("after", &after.to_string());
        let answer = self.send(self.request(Method::GET, url)).await?;
        Ok(EventStream(Messages::new(self.clone(), answer)))
    }
}

/// A stream of events.
#[derive(Debug)]
pub struct EventStream(Messages<Told>);

/// A message of the stream.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Told {
    Event(Event),
    /// Why it ends.
    Problem(Problem),
}

impl EventStream {
    /// The next event; `None` when the server has ended the stream.
    ///
    /// # Errors
    /// See [`Error`]; with the reason `events_expired` some are forgotten.
    pub async fn next(&mut self) -> Result<Option<Event>, Error> {
        match self.0.next().await? {
            Some(Told::Event(event)) => Ok(Some(event)),
            Some(Told::Problem(problem)) => Err(Error::Refused(Box::new(problem))),
            None => Ok(None),
        }
    }
}
