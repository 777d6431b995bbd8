//! Lists of some objects, and in parts.

use reqwest::{Method, Url};
use vipd_api_types::Page;

use crate::{Client, Error, Object};

/// How often a list is begun that others keep changing faster than it is read.
const LIST_TRIES: u32 = 5;

/// Which objects of a kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selection {
    /// By labels, as Kubernetes writes it: `app=web,tier!=db,rack in (a,b),!old`.
    pub labels: Option<String>,
    /// By fields: `spec.pool=web,status.holder!=n1`.
    pub fields: Option<String>,
}

impl Selection {
    /// Adds itself to a query.
    pub(crate) fn ask(&self, url: &mut Url) {
        for (parameter, value) in [
            ("labelSelector", &self.labels),
            ("fieldSelector", &self.fields),
        ] {
            if let Some(value) = value {
                url.query_pairs_mut().append_pair(parameter, value);
            }
        }
    }
}

impl Client {
    /// Those objects of a kind that are selected, all of them. When what was read so far is too old to go on with, it is begun
    /// anew, a few times.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn select<T: Object>(&self, which: &Selection) -> Result<Page<T>, Error> {
        let mut again = 1..LIST_TRIES;
        loop {
            match self.whole(which).await {
                Err(expired)
                    if expired.reason() == Some("continue_expired") && again.next().is_some() => {}
                read => return read,
            }
        }
    }

    /// All parts, one after the other.
    async fn whole<T: Object>(&self, which: &Selection) -> Result<Page<T>, Error> {
        let mut all: Page<T> = self.part(which, None, None).await?;
        while let Some(next) = all.next.take() {
            let part: Page<T> = self.part(which, None, Some(&next)).await?;
            all.items.extend(part.items);
            all.next = part.next;
        }
        Ok(all)
    }

    /// At most `limit` of them: the first ones, or those after the page that said `next`.
    ///
    /// # Errors
    /// See [`Error`]; with the reason `continue_expired` the list has to be begun anew.
    pub async fn page<T: Object>(
        &self,
        which: &Selection,
        limit: usize,
        next: Option<&str>,
    ) -> Result<Page<T>, Error> {
        self.part(which, Some(limit), next).await
    }

    async fn part<T: Object>(
        &self,
        which: &Selection,
        limit: Option<usize>,
        next: Option<&str>,
    ) -> Result<Page<T>, Error> {
        let mut url = self.read_url(&["v1", T::COLLECTION]);
        which.ask(&mut url);
        if let Some(limit) = limit {
            url.query_pairs_mut()
                .append_pair("limit", &limit.to_string());
        }
        if let Some(next) = next {
            url.query_pairs_mut().append_pair("continue", next);
        }
        self.json(self.request(Method::GET, url)).await
    }
}
