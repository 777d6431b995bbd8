//! Policies: which VIPs may be announced from which nodes, on which interfaces.

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use regex::{Regex, RegexBuilder};

use crate::codec::{DecodeError, Reader, Wire, Writer, wire_struct};
use crate::id::Revision;
use crate::name::{Labels, Name};
use crate::node::Node;
use crate::selector::Selector;
use crate::time::Millis;
use crate::vip::Vip;

/// A regular expression over names of interfaces, not anchored: `^eth` for those that begin so.
#[derive(Clone)]
pub struct Pattern(Regex);

/// Why a text is no [`Pattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    text: String,
    why: String,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { text, why } = self;
        write!(
            f,
            "interface pattern {text:?} is no regular expression: {why}"
        )
    }
}

impl core::error::Error for InvalidPattern {}

impl Pattern {
    /// The longest pattern, in bytes.
    pub const MAX: usize = 256;
    /// Bounds what a pattern costs in memory once compiled, in bytes, when it is asked for.
    const COMPILED: usize = 1 << 16;
    /// The same when it is read back. Another version of the compiler may need more for it, and must not refuse a log or a
    /// snapshot for that; a pattern that was let in comes nowhere near.
    const READ_BACK: usize = 64 * Self::COMPILED;

    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] with the text and the reason.
    pub fn new(text: &str) -> Result<Self, InvalidPattern> {
        Self::within(text, Self::COMPILED)
    }

    fn within(text: &str, compiled: usize) -> Result<Self, InvalidPattern> {
        let invalid = |why: String| InvalidPattern {
            text: text.into(),
            why,
        };
        if text.len() > Self::MAX {
            let n = text.len();
            return Err(invalid(alloc::format!(
                "{n} bytes, more than {}",
                Self::MAX
            )));
        }
        RegexBuilder::new(text)
            .size_limit(compiled)
            .build()
            .map(Self)
            .map_err(|error| {
                let text = alloc::format!("{error}");
                let last = text.lines().last().unwrap_or_default();
                invalid(last.trim_start_matches("error: ").into())
            })
    }

    /// Whether an interface of this name is meant.
    #[must_use]
    pub fn matches(&self, interface: &str) -> bool {
        self.0.is_match(interface)
    }

    /// The pattern as it was written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Pattern {}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pattern({:?})", self.as_str())
    }
}

impl Wire for Pattern {
    fn encode(&self, out: &mut Writer) {
        String::from(self.as_str()).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::within(&String::decode(input)?, Self::READ_BACK)
            .map_err(|_| DecodeError::Invalid("interface pattern"))
    }
}

/// What the operator asks of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicySpec {
    /// The VIPs it is about; all when empty.
    pub vips: Selector,
    /// The nodes that may hold them; all when empty.
    pub nodes: Selector,
    /// The interfaces they may be announced on; all when there is none.
    pub interfaces: Vec<Pattern>,
}

wire_struct!(PolicySpec {
    vips,
    nodes,
    interfaces
});

/// A policy as the cluster holds it.
///
/// A VIP that no policy selects may be held by any node, on any interface: without policies nothing is
/// restricted. A VIP that one or more select may be held where at least one of them allows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Its name.
    pub name: Name,
    /// Its labels.
    pub labels: Labels,
    /// What was asked.
    pub spec: PolicySpec,
    /// When it was made.
    pub created: Millis,
    /// How many times its spec changed, from 1.
    pub generation: u64,
    /// The entry that last changed it.
    pub revision: Revision,
}

wire_struct!(Policy {
    name,
    labels,
    spec,
    created,
    generation,
    revision
});

impl Policy {
    /// Whether it is about this VIP.
    #[must_use]
    pub fn selects(&self, vip: &Vip) -> bool {
        vip.spec.selected(&self.spec.vips, &vip.name, &vip.labels)
    }

    /// Whether it lets the VIPs that it selects be announced on this interface of this node.
    #[must_use]
    pub fn allows(&self, node: &Node, interface: &str) -> bool {
        self.spec.nodes.selects(&node.name, |key| node.label(key))
            && (self.spec.interfaces.is_empty()
                || self
                    .spec
                    .interfaces
                    .iter()
                    .any(|pattern| pattern.matches(interface)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_that_is_no_regular_expression_is_refused_with_the_reason() {
        let error = Pattern::new("eth(").unwrap_err();
        assert_eq!(
            alloc::format!("{error}"),
            "interface pattern \"eth(\" is no regular expression: unclosed group"
        );
        let long = "a".repeat(Pattern::MAX + 1);
        assert!(Pattern::new(&long).is_err());
        assert!(
            Pattern::new("(a{1000}){1000}").is_err(),
            "would cost too much memory"
        );
    }

    #[test]
    fn a_pattern_that_another_compiler_let_in_is_read_back() {
        let text = String::from("(a{300}){10}");
        assert!(Pattern::new(&text).is_err(), "too much to be asked for now");
        let read = Pattern::from_bytes(&text.to_bytes()).unwrap();
        assert_eq!(read.as_str(), text);
    }

    #[test]
    fn a_pattern_matches_anywhere_unless_it_is_anchored() {
        assert!(Pattern::new("th0").unwrap().matches("eth0"));
        assert!(!Pattern::new("^th0").unwrap().matches("eth0"));
        assert!(Pattern::new(r"^eth\d+$").unwrap().matches("eth12"));
    }
}
