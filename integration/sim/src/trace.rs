//! What happened, for people (the last lines) and for comparing two runs (a hash of all of it).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Mutex;

use crate::lock;
use crate::runtime::true_now;

/// How many lines are kept.
const KEPT: usize = 400;

/// The trace of one run.
#[derive(Debug, Default)]
pub(crate) struct Trace(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    lines: VecDeque<String>,
    hash: u64,
    echo: bool,
}

impl Trace {
    /// Prints every line as it comes.
    pub(crate) fn echo(&self) {
        lock(&self.0).echo = true;
    }

    /// Adds a line.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        let now = true_now();
        let line = format!("{:>11.3} ms  {text}", now as f64 / 1e6);
        let mut inner = lock(&self.0);
        inner.mix(hash_bytes(line.as_bytes()));
        if inner.echo {
            println!("{line}");
        }
        if inner.lines.len() == KEPT {
            inner.lines.pop_front();
        }
        inner.lines.push_back(line);
    }

    /// Adds something that is too frequent for a line.
    pub(crate) fn mix(&self, value: u64) {
        lock(&self.0).mix(value);
    }

    /// The hash of everything so far.
    #[must_use]
    pub(crate) fn hash(&self) -> u64 {
        lock(&self.0).hash
    }

    /// The last `n` lines.
    #[must_use]
    pub(crate) fn tail(&self, n: usize) -> Vec<String> {
        let inner = lock(&self.0);
        let from = inner.lines.len().saturating_sub(n);
        inner.lines.iter().skip(from).cloned().collect()
    }
}

impl Inner {
    fn mix(&mut self, value: u64) {
        let mixed = (self.hash.rotate_left(5) ^ value).wrapping_mul(0x517C_C1B7_2722_0A95);
        self.hash = mixed;
    }
}

/// FNV-1a over eight bytes at a time: quick, the same everywhere, no defence against anybody.
#[must_use]
pub(crate) fn hash_bytes(bytes: &[u8]) -> u64 {
    let mut hash = 0xCBF2_9CE4_8422_2325 ^ bytes.len() as u64;
    for chunk in bytes.chunks(8) {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        hash = (hash ^ u64::from_le_bytes(word)).wrapping_mul(0x0000_0100_0000_01B3);
        hash ^= hash >> 29;
    }
    hash
}
