//! vipd's own byte encoding, for everything on disk and between peers.
//!
//! Integers are big-endian and fixed-width, sequences are a `u32` count and their items, enums a tag byte.
//! Not a library's derive: a dependency's update must never change what an old log means. Whoever changes a
//! layout raises [`LAYOUT`], which is the version byte of the outermost types ([`crate::command::Proposal`],
//! [`crate::state::State`]), and lists new fields after `since`: in older bytes they have their default.

use alloc::collections::{BTreeMap, BTreeSet, VecDeque};
use alloc::string::String;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::few::Few;

/// Bytes being written.
#[derive(Debug, Default)]
pub struct Writer {
    bytes: Vec<u8>,
    /// How many there would be, if only that is asked.
    measured: Option<usize>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends raw bytes, without a length.
    pub fn raw(&mut self, bytes: &[u8]) {
        match &mut self.measured {
            Some(measured) => *measured += bytes.len(),
            None => self.bytes.extend_from_slice(bytes),
        }
    }

    /// Appends the length of a sequence.
    ///
    /// # Panics
    /// If the sequence has more than `u32::MAX` items, which no bounded input of vipd reaches.
    pub fn count(&mut self, n: usize) {
        u32::try_from(n)
            .expect("a sequence of vipd stays far below 2^32 items")
            .encode(self);
    }

    /// The bytes written so far.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// The layout that is written: 2 has policies, groups, weights and failback; 3 has requests that wait, sharing and cooling; 4 has
/// backends; 5 has what nodes see of them, how packets travel to them, and which addresses were asked about on the link; 6 has
/// addresses that are set aside; 7 has those that came back to their VIPs, and since when VIPs lack what they need; 8 has whom
/// backends see as the client; 9 has for how long clients are kept with backends.
pub const LAYOUT: u8 = 9;
/// The oldest that is read. Layouts 1 to 6 were never released, and their entries meant other things: replicas that replay
/// different parts of such a log by the rules of today would differ.
const OLDEST: u8 = 7;

/// Bytes being read.
#[derive(Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    /// The layout they were written in.
    layout: u8,
}

impl<'a> Reader<'a> {
    /// Reads from `bytes`.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self {
            rest: bytes,
            layout: LAYOUT,
        }
    }

    /// The layout that the bytes were written in.
    #[must_use]
    pub fn layout(&self) -> u8 {
        self.layout
    }

    /// Reads the version byte of `of`, and what follows it in that layout.
    ///
    /// # Errors
    /// [`DecodeError::Layout`] for a layout that this vipd does not know; else what `read` finds.
    pub fn versioned<T>(
        &mut self,
        of: &'static str,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<T, DecodeError> {
        let layout = u8::decode(self)?;
        if !(OLDEST..=LAYOUT).contains(&layout) {
            return Err(DecodeError::Layout { of, layout });
        }
        let outer = core::mem::replace(&mut self.layout, layout);
        let value = read(self);
        self.layout = outer;
        value
    }

    /// Takes the next `n` bytes.
    ///
    /// # Errors
    /// [`DecodeError::Short`] if fewer are left.
    pub fn raw(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if n > self.rest.len() {
            return Err(DecodeError::Short {
                wanted: n,
                left: self.rest.len(),
            });
        }
        let (head, tail) = self.rest.split_at(n);
        self.rest = tail;
        Ok(head)
    }

    /// Reads a count and checks that so many items of at least one byte can follow, so that a corrupt length
    /// never asks for memory.
    ///
    /// # Errors
    /// [`DecodeError::Short`] if they cannot.
    pub fn count(&mut self) -> Result<usize, DecodeError> {
        let n = u32::decode(self)? as usize;
        if n > self.rest.len() {
            return Err(DecodeError::Short {
                wanted: n,
                left: self.rest.len(),
            });
        }
        Ok(n)
    }

    /// How many bytes are left.
    #[must_use]
    pub fn left(&self) -> usize {
        self.rest.len()
    }
}

/// Why bytes do not decode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// The bytes end too early.
    Short {
        /// Bytes or items asked for.
        wanted: usize,
        /// Bytes left.
        left: usize,
    },
    /// Bytes are left over.
    Trailing(usize),
    /// A tag that this version does not know.
    Tag {
        /// The type being read.
        of: &'static str,
        /// The tag found.
        tag: u8,
    },
    /// A value outside its type's bounds.
    Invalid(&'static str),
    /// A layout that this version does not know.
    Layout {
        /// The type being read.
        of: &'static str,
        /// The layout found.
        layout: u8,
    },
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short { wanted, left } => {
                write!(f, "ends early: {wanted} wanted, {left} bytes left")
            }
            Self::Trailing(n) => write!(f, "{n} bytes left over"),
            Self::Tag { of, tag } => {
                write!(f, "unknown tag {tag} of {of}: written by a newer vipd?")
            }
            Self::Invalid(what) => write!(f, "invalid {what}"),
            Self::Layout { of, layout } if *layout < OLDEST => write!(
                f,
                "{of} is of layout {layout}, of a vipd from before its first release, but this vipd reads {OLDEST} to \
                 {LAYOUT}: set the cluster up anew"
            ),
            Self::Layout { of, layout } => write!(
                f,
                "{of} is of layout {layout}, but this vipd reads {OLDEST} to {LAYOUT}: was it downgraded?"
            ),
        }
    }
}

impl core::error::Error for DecodeError {}

/// A type with a place in vipd's encoding.
pub trait Wire: Sized {
    /// Appends `self`.
    fn encode(&self, out: &mut Writer);

    /// Reads one value.
    ///
    /// # Errors
    /// See [`DecodeError`].
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError>;

    /// `self` as bytes.
    fn to_bytes(&self) -> Vec<u8> {
        let mut out = Writer::new();
        self.encode(&mut out);
        out.finish()
    }

    /// How many bytes that is.
    fn size(&self) -> usize {
        let mut out = Writer {
            bytes: Vec::new(),
            measured: Some(0),
        };
        self.encode(&mut out);
        out.measured.unwrap_or_default()
    }

    /// A value from exactly these bytes.
    ///
    /// # Errors
    /// See [`DecodeError`]; left-over bytes are an error too.
    fn from_bytes(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut input = Reader::new(bytes);
        let value = Self::decode(&mut input)?;
        match input.left() {
            0 => Ok(value),
            n => Err(DecodeError::Trailing(n)),
        }
    }
}

macro_rules! wire_int {
    ($($int:ty),*) => {$(
        impl Wire for $int {
            fn encode(&self, out: &mut Writer) {
                out.raw(&self.to_be_bytes());
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let bytes = input.raw(size_of::<$int>())?;
                Ok(Self::from_be_bytes(bytes.try_into().expect("raw returned exactly the size asked for")))
            }
        }
    )*};
}
wire_int!(u8, u16, u32, u64, u128, i32);

impl Wire for bool {
    fn encode(&self, out: &mut Writer) {
        u8::from(*self).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => Ok(false),
            1 => Ok(true),
            tag => Err(DecodeError::Tag { of: "bool", tag }),
        }
    }
}

impl<const N: usize> Wire for [u8; N] {
    fn encode(&self, out: &mut Writer) {
        out.raw(self);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(input
            .raw(N)?
            .try_into()
            .expect("raw returned exactly the size asked for"))
    }
}

impl Wire for String {
    fn encode(&self, out: &mut Writer) {
        out.count(self.len());
        out.raw(self.as_bytes());
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = input.count()?;
        let bytes = input.raw(n)?;
        Ok(Self::from(
            core::str::from_utf8(bytes).map_err(|_| DecodeError::Invalid("UTF-8"))?,
        ))
    }
}

impl<T: Wire> Wire for Arc<T> {
    fn encode(&self, out: &mut Writer) {
        T::encode(self, out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        T::decode(input).map(Self::new)
    }
}

impl<T: Wire> Wire for Option<T> {
    fn encode(&self, out: &mut Writer) {
        self.is_some().encode(out);
        if let Some(value) = self {
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(input)? {
            Some(T::decode(input)?)
        } else {
            None
        })
    }
}

impl<T: Wire, E: Wire> Wire for Result<T, E> {
    fn encode(&self, out: &mut Writer) {
        self.is_ok().encode(out);
        match self {
            Ok(value) => value.encode(out),
            Err(error) => error.encode(out),
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(if bool::decode(input)? {
            Ok(T::decode(input)?)
        } else {
            Err(E::decode(input)?)
        })
    }
}

macro_rules! wire_sequence {
    ($($seq:ident<$item:ident $(: $bound:path)?>),*) => {$(
        impl<$item: Wire $(+ $bound)?> Wire for $seq<$item> {
            fn encode(&self, out: &mut Writer) {
                out.count(self.len());
                for item in self {
                    item.encode(out);
                }
            }
            fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
                let n = input.count()?;
                (0..n).map(|_| $item::decode(input)).collect()
            }
        }
    )*};
}
wire_sequence!(Vec<T>, Few<T>, VecDeque<T>, BTreeSet<T: Ord>);

impl<K: Wire + Ord, V: Wire> Wire for BTreeMap<K, V> {
    fn encode(&self, out: &mut Writer) {
        out.count(self.len());
        for (key, value) in self {
            key.encode(out);
            value.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let n = input.count()?;
        (0..n)
            .map(|_| Ok((K::decode(input)?, V::decode(input)?)))
            .collect()
    }
}

impl<A: Wire, B: Wire> Wire for (A, B) {
    fn encode(&self, out: &mut Writer) {
        self.0.encode(out);
        self.1.encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok((A::decode(input)?, B::decode(input)?))
    }
}

impl Wire for IpAddr {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::V4(v4) => {
                4u8.encode(out);
                out.raw(&v4.octets());
            }
            Self::V6(v6) => {
                6u8.encode(out);
                out.raw(&v6.octets());
            }
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            4 => Ok(Self::V4(Ipv4Addr::from(<[u8; 4]>::decode(input)?))),
            6 => Ok(Self::V6(Ipv6Addr::from(<[u8; 16]>::decode(input)?))),
            tag => Err(DecodeError::Tag { of: "address", tag }),
        }
    }
}

impl Wire for SocketAddr {
    fn encode(&self, out: &mut Writer) {
        self.ip().encode(out);
        self.port().encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self::new(IpAddr::decode(input)?, u16::decode(input)?))
    }
}

/// Implements [`Wire`] for a struct: its fields in the order given. Those after `since` came with that layout.
macro_rules! wire_struct {
    ($type:ident { $($field:ident),* $(,)? } $( since $layout:literal { $($new:ident),* $(,)? } )*) => {
        impl $crate::codec::Wire for $type {
            fn encode(&self, out: &mut $crate::codec::Writer) {
                $( $crate::codec::Wire::encode(&self.$field, out); )*
                $( $( $crate::codec::Wire::encode(&self.$new, out); )* )*
            }
            fn decode(input: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                Ok(Self {
                    $( $field: $crate::codec::Wire::decode(input)?, )*
                    $( $( $new: $crate::codec::since($layout, input)?, )* )*
                })
            }
        }
    };
}

/// Implements [`Wire`] for an enum of unit and struct variants: a tag byte, then the fields.
macro_rules! wire_enum {
    ($type:ident { $( $tag:literal => $variant:ident $( { $($field:ident),* $(,)? } )? ),* $(,)? }) => {
        impl $crate::codec::Wire for $type {
            fn encode(&self, out: &mut $crate::codec::Writer) {
                match self {
                    $( Self::$variant $( { $($field),* } )? => {
                        $crate::codec::Wire::encode(&($tag as u8), out);
                        $( $( $crate::codec::Wire::encode($field, out); )* )?
                    } )*
                }
            }
            fn decode(input: &mut $crate::codec::Reader<'_>) -> Result<Self, $crate::codec::DecodeError> {
                match <u8 as $crate::codec::Wire>::decode(input)? {
                    $( $tag => Ok(Self::$variant $( { $( $field: $crate::codec::Wire::decode(input)? ),* } )? ), )*
                    tag => Err($crate::codec::DecodeError::Tag { of: stringify!($type), tag }),
                }
            }
        }
    };
}
pub(crate) use {wire_enum, wire_struct};

/// A field that came with `layout`: its default in older bytes.
pub(crate) fn since<T: Wire + Default>(
    layout: u8,
    input: &mut Reader<'_>,
) -> Result<T, DecodeError> {
    if input.layout() < layout {
        return Ok(T::default());
    }
    T::decode(input)
}

#[cfg(test)]
mod tests;
