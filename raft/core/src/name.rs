//! Names and labels of objects.

use alloc::collections::BTreeMap;
use alloc::string::String;
use core::fmt;

use smol_str::SmolStr;

use crate::codec::{DecodeError, Reader, Wire, Writer};

/// The name of a pool, VIP or node: 1 to 63 of `a-z 0-9 - .`, beginning and ending with a letter or digit
/// (an RFC 1123 label, dots allowed, so that host names fit). Up to 23 bytes lie in place, so that a search by name
/// follows no pointer; longer ones are shared by their clones.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(SmolStr);

/// Why a text is no [`Name`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName(pub String);

impl fmt::Display for InvalidName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "name {:?} is not 1 to 63 of a-z, 0-9, '-', '.', beginning and ending with a letter or digit",
            self.0
        )
    }
}

impl core::error::Error for InvalidName {}

impl Name {
    /// The longest name.
    pub const MAX: usize = 63;

    /// Parses a name.
    ///
    /// # Errors
    /// [`InvalidName`] with the text.
    pub fn new(text: &str) -> Result<Self, InvalidName> {
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let bytes = text.as_bytes();
        let ok = bytes.len() <= Self::MAX
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes
                .iter()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-' || *b == b'.');
        if ok {
            Ok(Self(text.into()))
        } else {
            Err(InvalidName(text.into()))
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl core::str::FromStr for Name {
    type Err = InvalidName;
    fn from_str(text: &str) -> Result<Self, InvalidName> {
        Self::new(text)
    }
}

impl Wire for Name {
    fn encode(&self, out: &mut Writer) {
        out.count(self.0.len());
        out.raw(self.0.as_bytes());
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = input.count()?;
        let text = core::str::from_utf8(input.raw(n)?);
        let text = text.map_err(|_| DecodeError::Invalid("UTF-8"))?;
        Self::new(text).map_err(|_| DecodeError::Invalid("name"))
    }
}

/// Labels of an object: what selectors match.
pub type Labels = BTreeMap<String, String>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_dns_labels_with_dots() {
        for good in ["a", "n1", "web-1", "db.rack-2", "0"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a_b", "a b", ".a", "ä", long.as_str()] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
