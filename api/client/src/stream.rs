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
    last_id: Option<u64>,
    of: PhantomData<fn() -> T>,
}

impl<T: DeserializeOwned> Messages<T> {
    pub(crate) fn new(client: Client, answer: reqwest::Response) -> Self {
        Self {
            client,
            answer,
            pending: Vec::new(),
            last_id: None,
            of: PhantomData,
        }
    }

    /// The `id` of the last message that had one.
    pub(crate) fn last_id(&self) -> Option<u64> {
        self.last_id
    }

    /// The next message; `None` when the server has ended the stream.
    pub(crate) async fn next(&mut self) -> Result<Option<T>, Error> {
        loop {
            while let Some(message) = take_message(&mut self.pending) {
                self.last_id = message.id.or(self.last_id);
                if let Some(data) = message.data {
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

/// A message; one without data is a keep-alive.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    id: Option<u64>,
    data: Option<Vec<u8>>,
}

/// Takes one whole message off the front.
fn take_message(pending: &mut Vec<u8>) -> Option<Message> {
    let end = pending.windows(2).position(|two| two == b"\n\n")?;
    let lines: Vec<u8> = pending.drain(..end + 2).collect();
    let mut message = Message::default();
    for line in lines.split(|byte| *byte == b'\n') {
        if let Some(rest) = line.strip_prefix(b"data:") {
            let data = message.data.get_or_insert_default();
            data.extend_from_slice(rest.strip_prefix(b" ").unwrap_or(rest));
        } else if let Some(id) = line.strip_prefix(b"id:") {
            message.id = std::str::from_utf8(id)
                .ok()
                .and_then(|id| id.trim().parse().ok());
        }
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_cut_at_blank_lines_and_keep_alives_are_skipped() {
        let mut pending = b":\n\nid: 1\ndata: {\"a\":1}\n\ndata: {\"b\"".to_vec();
        let message = |id, data: &str| {
            let data = Some(data.as_bytes().to_vec());
            Some(Message { id, data })
        };
        assert_eq!(take_message(&mut pending), Some(Message::default()));
        assert_eq!(take_message(&mut pending), message(Some(1), "{\"a\":1}"));
        assert_eq!(take_message(&mut pending), None);
        pending.extend_from_slice(b":2}\n\n");
        assert_eq!(take_message(&mut pending), message(None, "{\"b\":2}"));
    }
}
