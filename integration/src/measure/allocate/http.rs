//! A client of HTTP/1.1 that keeps its connection: the same one for vipd and for etcd.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// No answer of either is longer.
const LONGEST: usize = 1 << 20;

/// Where a server listens.
#[derive(Clone, Debug)]
pub(super) enum Place {
    Unix(PathBuf),
    Tcp(SocketAddr),
}

/// A connection.
pub(super) struct Connection {
    /// Both directions of the one socket.
    reader: BufReader<Box<dyn Read + Send>>,
    writer: Box<dyn Write + Send>,
}

impl Connection {
    pub(super) fn open(place: &Place) -> Result<Self> {
        let failed = || format!("cannot connect to {place:?}");
        Ok(match place {
            Place::Unix(path) => {
                let stream = UnixStream::connect(path).with_context(failed)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                Self::over(stream.try_clone()?, stream)
            }
            Place::Tcp(address) => {
                let stream = TcpStream::connect(address).with_context(failed)?;
                stream.set_read_timeout(Some(PATIENCE))?;
                stream.set_nodelay(true)?;
                Self::over(stream.try_clone()?, stream)
            }
        })
    }

    fn over(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Self {
        Self {
            reader: BufReader::new(Box::new(reader)),
            writer: Box::new(writer),
        }
    }

    /// `POST path` with a JSON body; the status and the body of the answer.
    pub(super) fn post(&mut self, path: &str, body: &str) -> Result<(u16, Vec<u8>)> {
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
        );
        self.writer.write_all(request.as_bytes())?;
        let answer = self.answer();
        answer.with_context(|| format!("no answer to POST {path}"))
    }

    fn answer(&mut self) -> Result<(u16, Vec<u8>)> {
        let first = self.line()?;
        let status = first.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.with_context(|| format!("{first:?} is no status line"))?;
        let (mut length, mut chunked) = (0, false);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            match line.split_once(':') {
                _ if line.is_empty() => break,
                Some(("content-length", value)) => length = value.trim().parse()?,
                Some(("transfer-encoding", value)) => chunked = value.trim() == "chunked",
                Some(_) => {}
                None => bail!("{line:?} is no header"),
            }
        }
        let body = if chunked {
            self.chunks()?
        } else {
            self.take(length)?
        };
        Ok((status, body))
    }

    fn chunks(&mut self) -> Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16);
            let length = length.with_context(|| format!("{line:?} is no length of a chunk"))?;
            body.extend(self.take(length)?);
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn take(&mut self, length: usize) -> Result<Vec<u8>> {
        ensure!(length <= LONGEST, "an answer of {length} bytes");
        let mut bytes = vec![0; length];
        self.reader.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        ensure!(
            self.reader.read_line(&mut line)? > 0,
            "the connection was closed"
        );
        Ok(line.trim_end().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(answer: &'static str) -> Connection {
        Connection::over(answer.as_bytes(), Vec::new())
    }

    #[test]
    fn an_answer_ends_where_its_length_says_and_the_next_one_follows() {
        let one = "HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\n{}HTTP/1.1 409 No\r\nContent-Length: 0\r\n\r\n";
        let mut connection = reading(one);
        assert_eq!(connection.post("/", "").unwrap(), (201, b"{}".to_vec()));
        assert_eq!(connection.post("/", "").unwrap(), (409, vec![]));
        let closed = connection.post("/", "").unwrap_err();
        assert!(format!("{closed:#}").contains("closed"), "{closed:#}");
    }

    #[test]
    fn an_answer_in_chunks_is_put_together() {
        let text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n";
        assert_eq!(
            reading(text).post("/", "").unwrap(),
            (200, b"{\"a\":1}".to_vec())
        );
    }
}
