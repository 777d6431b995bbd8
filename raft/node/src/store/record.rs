//! One log entry as a value on disk: `[version u8][crc32c u32][term u64][index u64][payload]`, the crc over
//! everything after it.

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};

use crate::raft_wire::{get_payload, put_payload};
use crate::types::{Entry, log_id, term_of};

const VERSION: u8 = 1;

/// The largest command, so that its entry stays below the 256 KiB up to which sled keeps a value in its main
/// file; a larger one would need an fsync of its own.
pub(crate) const MAX_COMMAND: usize = 250 * 1024;

/// `entry` as bytes.
#[must_use]
pub fn encode(entry: &Entry) -> Vec<u8> {
    let mut body = Writer::new();
    term_of(&entry.log_id).encode(&mut body);
    entry.log_id.index.encode(&mut body);
    put_payload(&entry.payload, &mut body);
    let body = body.finish();
    let mut value = Vec::with_capacity(5 + body.len());
    value.push(VERSION);
    value.extend_from_slice(&crc32c::crc32c(&body).to_be_bytes());
    value.extend_from_slice(&body);
    value
}

/// The entry in `value`.
///
/// # Errors
/// What is wrong with it, in words.
pub fn decode(value: &[u8]) -> Result<Entry, String> {
    let mut input = Reader::new(value);
    let text = |error: DecodeError| error.to_string();
    match u8::decode(&mut input).map_err(text)? {
        VERSION => {}
        other => {
            return Err(format!(
                "version {other}, but this vipd knows {VERSION}: was it downgraded?"
            ));
        }
    }
    let crc = u32::decode(&mut input).map_err(text)?;
    let body = input.raw(input.left()).map_err(text)?;
    let found = crc32c::crc32c(body);
    if found != crc {
        return Err(format!("checksum {found:08x}, but {crc:08x} was written"));
    }
    let mut body = Reader::new(body);
    let id = log_id(
        u64::decode(&mut body).map_err(text)?,
        u64::decode(&mut body).map_err(text)?,
    );
    let payload = get_payload(&mut body).map_err(text)?;
    match body.left() {
        0 => Ok(Entry {
            log_id: id,
            payload,
        }),
        n => Err(text(DecodeError::Trailing(n))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;

    #[test]
    fn every_flipped_bit_of_a_record_is_noticed() {
        let entry = Entry {
            log_id: log_id(7, 42),
            payload: EntryPayload::Blank,
        };
        let value = encode(&entry);
        assert_eq!(decode(&value).unwrap().log_id, entry.log_id);
        for bit in 0..value.len() * 8 {
            let mut bad = value.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err(), "bit {bit}");
        }
        for n in 0..value.len() {
            assert!(decode(&value[..n]).is_err(), "cut at {n}");
        }
    }
}
