//! Names and labels of objects.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::sync::Arc;
use core::cmp::Ordering;
use core::fmt;
use core::hash::{Hash, Hasher};

use crate::codec::{DecodeError, Reader, Wire, Writer};

/// The name of a pool, VIP or node: 1 to 63 of `a-z 0-9 - .`, beginning and ending with a letter or digit
/// (an RFC 1123 label, dots allowed, so that host names fit). Up to 22 bytes lie in place, so that a search by name
/// follows no pointer; longer ones are shared by their clones.
#[derive(Clone)]
pub struct Name(Text);

/// The longest text that lies in place, so that a name has 24 bytes.
const IN_PLACE: usize = 22;

#[derive(Clone)]
enum Text {
    /// Filled up with zeros, which no name contains.
    Short {
        len: u8,
        bytes: [u8; IN_PLACE],
    },
    Long(Arc<str>),
}

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
        if !ok {
            return Err(InvalidName(text.into()));
        }
        let mut short = [0; IN_PLACE];
        Ok(Self(match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Text::Short {
                    len: bytes.len() as u8,
                    bytes: short,
                }
            }
            None => Text::Long(text.into()),
        }))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(self.bytes()).expect("a name is ASCII")
    }

    fn bytes(&self) -> &[u8] {
        match &self.0 {
            Text::Short { len, bytes } => &bytes[..usize::from(*len)],
            Text::Long(text) => text.as_bytes(),
        }
    }
}

/// The order of their texts.
impl Ord for Name {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        match (&self.0, &other.0) {
            (Text::Short { bytes: a, .. }, Text::Short { bytes: b, .. }) => {
                // As three integers, of which the last overlaps: a search spends its time here, and calls nothing.
                let at = |of: &[u8; IN_PLACE], from: usize| {
                    u64::from_be_bytes(core::array::from_fn(|i| of[from + i]))
                };
                let cmp = |from| at(a, from).cmp(&at(b, from));
                cmp(0).then_with(|| cmp(8)).then_with(|| cmp(IN_PLACE - 8))
            }
            (Text::Short { .. } | Text::Long(_), _) => self.bytes().cmp(other.bytes()),
        }
    }
}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Name {}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.bytes().hash(state);
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Name").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
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
        let bytes = self.bytes();
        out.count(bytes.len());
        out.raw(bytes);
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
    use alloc::format;
    use alloc::vec::Vec;

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

    #[test]
    fn names_are_ordered_like_their_texts_however_they_lie() {
        let lengths = [1, 2, IN_PLACE - 1, IN_PLACE, IN_PLACE + 1, Name::MAX];
        let mut texts = Vec::new();
        for length in lengths {
            for (first, last) in [('a', 'a'), ('a', 'z'), ('0', '9'), ('z', 'a')] {
                let text = format!("{first}{}{last}", "b".repeat(length.saturating_sub(2)));
                texts.extend([text, format!("{first}.{last}"), format!("{first}-{last}")]);
            }
        }
        for a in &texts {
            let name = Name::new(a).unwrap();
            assert_eq!(name.as_str(), a);
            assert_eq!(Name::from_bytes(&name.to_bytes()), Ok(name.clone()));
            for b in &texts {
                let other = Name::new(b).unwrap();
                assert_eq!(name.cmp(&other), a.cmp(b), "{a} {b}");
                assert_eq!(name == other, a == b, "{a} {b}");
            }
        }
        assert_eq!(size_of::<Name>(), 24);
    }
}
