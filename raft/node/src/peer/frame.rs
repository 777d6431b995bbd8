//! Frames: a `u32` length and so many bytes.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use vipd_core::state::{MAX_STAGED, MOST};

/// The largest frame among members: the most entries of the largest size that are sent at once, and a snapshot of the
/// largest state that there can be.
pub(crate) const LARGE: usize = 256 * 1024 * 1024;
/// What is in a snapshot besides users' objects and a backup that is being brought in: nodes, tokens, events.
const REST: usize = 64 * 1024 * 1024;
const _: () = assert!(MOST as usize + MAX_STAGED + REST <= LARGE);
/// The largest frame from or to somebody who is not a member yet.
pub(crate) const SMALL: usize = 64 * 1024;

/// What of a large frame is written at a time.
const PIECE: usize = 64 * 1024;

/// Reads one frame of at most `max` bytes.
pub(crate) async fn read_frame(
    input: &mut (impl AsyncRead + Unpin),
    max: usize,
) -> io::Result<Vec<u8>> {
    let len = input.read_u32().await? as usize;
    if len > max {
        let text = format!("a frame of {len} bytes, more than {max}");
        return Err(io::Error::new(io::ErrorKind::InvalidData, text));
    }
    let mut bytes = vec![0; len];
    input.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// Writes one frame and flushes it.
pub(crate) async fn write_frame(
    output: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
) -> io::Result<()> {
    write_frame_telling(output, bytes, || {}).await
}

/// The same, and tells whenever the connection has taken another [`PIECE`] of a large frame: a peer that takes that is alive,
/// though it answers nothing before it has the whole.
pub(crate) async fn write_frame_telling(
    output: &mut (impl AsyncWrite + Unpin),
    bytes: &[u8],
    mut taken: impl FnMut(),
) -> io::Result<()> {
    let len =
        u32::try_from(bytes.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    // One write for small frames, so that they are one TLS record.
    if bytes.len() <= 16 * 1024 {
        let mut whole = Vec::with_capacity(4 + bytes.len());
        whole.extend_from_slice(&len.to_be_bytes());
        whole.extend_from_slice(bytes);
        output.write_all(&whole).await?;
    } else {
        output.write_all(&len.to_be_bytes()).await?;
        for piece in bytes.chunks(PIECE) {
            output.write_all(piece).await?;
            taken();
        }
    }
    output.flush().await
}
