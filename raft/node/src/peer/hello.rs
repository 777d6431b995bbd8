//! The first frames of a connection.

use std::fmt;

use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_core::id::NodeId;

/// The version of the protocol between nodes. A node refuses another one by name.
/// 2: forwarded commands have policies, groups, weights and failback.
/// 3: an agent says how often its stream shall speak.
/// 4: forwarded commands say who asked for them.
/// 5: forwarded commands have backends; members tell each other of flows.
/// 6: forwarded commands have more kinds of health checks, and say what nodes see of backends.
/// 7: forwarded commands say whom backends see as the client.
/// 8: beats say who leads, and stand for heartbeats; VIPs have a time-out of affinity, and members tell each other of the
///    backends of clients; backends may be at loopback addresses.
pub(crate) const PROTOCOL: u8 = 8;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Heartbeats and votes: small, urgent.
    Pulse,
    /// Log entries.
    Log,
    /// Everything that may be large or slow: snapshots, forwarded proposals, reads.
    Bulk,
    /// The stream that an agent follows.
    Follow,
    /// One request to be admitted, without a certificate.
    Join,
    /// What one daemon tells another beside the log.
    Records,
}

impl Lane {
    const ALL: [Self; 6] = [
        Self::Pulse,
        Self::Log,
        Self::Bulk,
        Self::Follow,
        Self::Join,
        Self::Records,
    ];
}

impl Wire for Lane {
    fn encode(&self, out: &mut Writer) {
        (*self as u8).encode(out);
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let tag = u8::decode(input)?;
        Self::ALL
            .into_iter()
            .find(|lane| *lane as u8 == tag)
            .ok_or(DecodeError::Tag { of: "lane", tag })
    }
}

/// Who calls whom, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hello {
    pub(crate) protocol: u8,
    pub(crate) lane: Lane,
    /// `None` from somebody who is not a member yet.
    pub(crate) caller: Option<Caller>,
}

/// A member that calls another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Caller {
    pub(crate) cluster: [u8; 16],
    pub(crate) from: NodeId,
    pub(crate) to: NodeId,
}

impl Wire for Hello {
    fn encode(&self, out: &mut Writer) {
        self.protocol.encode(out);
        self.lane.encode(out);
        self.caller.is_some().encode(out);
        if let Some(caller) = &self.caller {
            caller.cluster.encode(out);
            caller.from.encode(out);
            caller.to.encode(out);
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let (protocol, lane) = (u8::decode(input)?, Lane::decode(input)?);
        let caller = if bool::decode(input)? {
            let cluster = <[u8; 16]>::decode(input)?;
            Some(Caller {
                cluster,
                from: NodeId::decode(input)?,
                to: NodeId::decode(input)?,
            })
        } else {
            None
        };
        Ok(Self {
            protocol,
            lane,
            caller,
        })
    }
}

/// The answer to a [`Hello`].
pub(crate) type Welcome = Result<(), Refused>;

/// Why a node does not talk to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The caller speaks another version of the protocol.
    Protocol { ours: u8 },
    /// The caller is of another cluster.
    OtherCluster,
    /// The caller dialled somebody else.
    NotMe { me: NodeId },
    /// The caller's certificate is not the one of the node it says it is.
    NotYou,
    /// The caller was removed from the cluster.
    Removed,
    /// The node is not able to do that.
    Unable(String),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol { ours } => write!(
                f,
                "it speaks protocol {ours}, this vipd {PROTOCOL}: upgrade the older"
            ),
            Self::OtherCluster => write!(f, "it belongs to another cluster"),
            Self::NotMe { me } => write!(f, "node {me} answers there: two nodes share an address"),
            Self::NotYou => write!(f, "it does not take our certificate for this node's"),
            Self::Removed => write!(f, "this node was removed from the cluster"),
            Self::Unable(why) => f.write_str(why),
        }
    }
}

impl Wire for Refused {
    fn encode(&self, out: &mut Writer) {
        match self {
            Self::Protocol { ours } => {
                0u8.encode(out);
                ours.encode(out);
            }
            Self::OtherCluster => 1u8.encode(out),
            Self::NotMe { me } => {
                2u8.encode(out);
                me.encode(out);
            }
            Self::NotYou => 3u8.encode(out),
            Self::Removed => 4u8.encode(out),
            Self::Unable(why) => {
                5u8.encode(out);
                why.encode(out);
            }
        }
    }
    fn decode(input: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match u8::decode(input)? {
            0 => Ok(Self::Protocol {
                ours: u8::decode(input)?,
            }),
            1 => Ok(Self::OtherCluster),
            2 => Ok(Self::NotMe {
                me: NodeId::decode(input)?,
            }),
            3 => Ok(Self::NotYou),
            4 => Ok(Self::Removed),
            5 => Ok(Self::Unable(String::decode(input)?)),
            tag => Err(DecodeError::Tag { of: "refusal", tag }),
        }
    }
}

/// A [`Welcome`] as bytes.
pub(crate) fn put_welcome(welcome: &Welcome) -> Vec<u8> {
    let mut out = Writer::new();
    welcome.is_ok().encode(&mut out);
    if let Err(refused) = welcome {
        refused.encode(&mut out);
    }
    out.finish()
}

/// A [`Welcome`] from bytes.
pub(crate) fn get_welcome(bytes: &[u8]) -> Result<Welcome, DecodeError> {
    let mut input = Reader::new(bytes);
    Ok(if bool::decode(&mut input)? {
        Ok(())
    } else {
        Err(Refused::decode(&mut input)?)
    })
}
