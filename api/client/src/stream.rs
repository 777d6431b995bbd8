//! Server-sent events: an answer that goes on.

use std::marker::PhantomData;

use serde::de::DeserializeOwned;

use crate::{Client, Error};

/// JSON messages, as they come.
#[derive(Debug)]
pub(crate) struct Messages<T> {
    client: Client,
    answer: reqwest::Response,
    pending: Vec<u8>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Messages<T> {
    pub(crate) fn new(client: Client, answer: reqwest::Response) -> Self {
        Self {
            client,
            answer,
            pending: Vec::new(),
            of: PhantomData,
        }
    }

    /// The next message; `None` when the server has ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            while let Some(data) = take_message(&mut self.pending) {
                if let Some(data) = data {
                    return serde_json::from_slice(&data)
                        .map(Some)
                        .map_err(|cause| self.client.strange(&cause));
                }
            }
            match self
                .answer
                .chunk()
                .await
                .map_err(|failed| self.client.failed(&failed))?
            {
                Some(chunk) => self.pending.extend_from_slice(&chunk),
                None => return Ok(None),
            }
        }
    }
}

/// Takes one whole message off the front: its data, or `Some(None)` for one without (a keep-alive).
fn take_message(pending: &mut Vec<u8>) -> Option<Option<Vec<u8>>> {
    let end = pending.windows(2).position(|two| two == b"\n\n")?;
    let message: Vec<u8> = pending.drain(..end + 2).collect();
    let mut data = Vec::new();
    for line in message.split(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(b"data:") {
            data.extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
        }
    }
    Some((!data.is_empty()).then_some(data))
}

#[cfg(test)]
mod tests {
    use super::take_message;

    #[test]
    fn messages_are_cut_at_blank_lines_and_keep_alives_are_skipped() {
        let mut pending = b":\n\nid: 1\ndata: {\"a\":1}\n\ndata: {\"b\"".to_vec();
        assert_eq!(take_message(&mut pending), Some(None));
        assert_eq!(
            take_message(&mut pending),
            Some(Some(b"{\"a\":1}".to_vec()))
        );
        assert_eq!(take_message(&mut pending), None);
        pending.extend_from_slice(b":2}\n\n");
        assert_eq!(
            take_message(&mut pending),
            Some(Some(b"{\"b\":2}".to_vec()))
        );
    }
}
