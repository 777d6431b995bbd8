//! News of flows, and of clients that are kept, as bytes between nodes. Only what means the same on all of them: interfaces, the numbers of services and
//! backends, and what was counted are each node's own. Flags are not told: flows that have one are no news to others.

use std::time::Duration;

use bytes::Bytes;
use vipd_core::codec::{DecodeError, Reader, Wire, Writer};
use vipd_datapath::{
    AddressKey, Flow, FlowKey, FlowNews, FlowRecord, Frontend, Kept, Progress, Protocol,
};

/// The layout of what follows it. A node that reads another says so and takes nothing.
const LAYOUT: u8 = 2;
/// Bytes of the longest item, and of what stands before the first.
const ITEM: usize = 1 + KEY + 16 + 16 + 2 + 2;
const KEY: usize = 16 + 16 + 2 + 2 + 1;
const HEAD: usize = 1 + 4;
/// The most items told at once.
pub(super) const AT_ONCE: usize = (vipd_raft::RECORDS_MAX - HEAD) / ITEM;

/// At most [`AT_ONCE`] of them.
pub(super) fn encode(news: &[FlowNews]) -> Bytes {
    let mut out = Writer::new();
    LAYOUT.encode(&mut out);
    out.count(news.len());
    for item in news {
        match item {
            FlowNews::Made(FlowRecord { key, flow }) => {
                0u8.encode(&mut out);
                put_key(key, &mut out);
                flow.source.octets.encode(&mut out);
                flow.destination.octets.encode(&mut out);
                flow.source_port.encode(&mut out);
                flow.destination_port.encode(&mut out);
            }
            FlowNews::Gone(key) => {
                1u8.encode(&mut out);
                put_key(key, &mut out);
            }
            FlowNews::Kept(kept) => {
                2u8.encode(&mut out);
                put_kept(kept, &mut out);
            }
        }
    }
    out.finish().into()
}

/// What [`encode`] wrote.
pub(super) fn decode(bytes: &[u8]) -> Result<Vec<FlowNews>, DecodeError> {
    let mut input = Reader::new(bytes);
    let layout = u8::decode(&mut input)?;
    if layout != LAYOUT {
        return Err(DecodeError::Tag {
            of: "layout of flows",
            tag: layout,
        });
    }
    let count = input.count()?;
    let news = (0..count).map(|_| item(&mut input)).collect();
    match input.left() {
        0 => news,
        left => news.and(Err(DecodeError::Trailing(left))),
    }
}

fn item(input: &mut Reader<'_>) -> Result<FlowNews, DecodeError> {
    match u8::decode(input)? {
        0 => {
            let key = get_key(input)?;
            let flow = Flow {
                source: get_address(input)?,
                destination: get_address(input)?,
                source_port: Wire::decode(input)?,
                destination_port: Wire::decode(input)?,
                ifindex: 0,
                flags: 0,
                progress: Progress::default(),
                backend: 0,
                service: 0,
                seen: 0,
                packets: 0,
                bytes: 0,
            };
            Ok(FlowNews::Made(FlowRecord { key, flow }))
        }
        1 => Ok(FlowNews::Gone(get_key(input)?)),
        2 => Ok(FlowNews::Kept(get_kept(input)?)),
        tag => Err(DecodeError::Tag {
            of: "news of a flow",
            tag,
        }),
    }
}

fn put_key(key: &FlowKey, out: &mut Writer) {
    key.source.octets.encode(out);
    key.destination.octets.encode(out);
    key.source_port.encode(out);
    key.destination_port.encode(out);
    key.protocol.encode(out);
}

fn get_key(input: &mut Reader<'_>) -> Result<FlowKey, DecodeError> {
    Ok(FlowKey {
        source: get_address(input)?,
        destination: get_address(input)?,
        source_port: Wire::decode(input)?,
        destination_port: Wire::decode(input)?,
        protocol: u8::decode(input)?,
        reserved: [0; 3],
    })
}

fn put_kept(kept: &Kept, out: &mut Writer) {
    let Kept {
        client,
        frontend,
        backend: (backend, port),
        age,
    } = kept;
    AddressKey::from(*client).octets.encode(out);
    AddressKey::from(frontend.address).octets.encode(out);
    frontend.port.encode(out);
    frontend.protocol.number().encode(out);
    AddressKey::from(*backend).octets.encode(out);
    port.encode(out);
    u64::try_from(age.as_millis())
        .unwrap_or(u64::MAX)
        .encode(out);
}

fn get_kept(input: &mut Reader<'_>) -> Result<Kept, DecodeError> {
    let client = get_address(input)?.into();
    let address = get_address(input)?.into();
    let port = Wire::decode(input)?;
    let number = u8::decode(input)?;
    let protocol = Protocol::of(number).ok_or(DecodeError::Tag {
        of: "protocol of a service",
        tag: number,
    })?;
    Ok(Kept {
        client,
        frontend: Frontend {
            address,
            port,
            protocol,
        },
        backend: (get_address(input)?.into(), Wire::decode(input)?),
        age: Duration::from_millis(Wire::decode(input)?),
    })
}

fn get_address(input: &mut Reader<'_>) -> Result<AddressKey, DecodeError> {
    Ok(AddressKey {
        octets: Wire::decode(input)?,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::node::records) fn record(client: u8, vip: u8) -> FlowRecord {
        let address = |last| AddressKey::v4([10, 0, 0, last]);
        FlowRecord {
            key: FlowKey {
                source: address(client),
                destination: address(vip),
                source_port: [200, client],
                destination_port: [0, 80],
                protocol: 6,
                reserved: [0; 3],
            },
            flow: Flow {
                source: address(vip),
                destination: address(30),
                source_port: [200, client],
                destination_port: [31, 144],
                ifindex: 0,
                flags: 0,
                progress: Progress::default(),
                backend: 0,
                service: 0,
                seen: 0,
                packets: 0,
                bytes: 0,
            },
        }
    }

    pub(in crate::node::records) fn kept(client: u8, vip: u8) -> Kept {
        let address = |last| std::net::IpAddr::from([10, 0, 0, last]);
        Kept {
            client: address(client),
            frontend: Frontend {
                address: address(vip),
                port: 80,
                protocol: Protocol::Udp,
            },
            backend: (address(30), 8080),
            age: Duration::from_millis(1_234),
        }
    }

    fn some() -> Vec<FlowNews> {
        vec![
            FlowNews::Kept(kept(4, 101)),
            FlowNews::Made(record(1, 100)),
            FlowNews::Gone(record(2, 100).key),
            FlowNews::Made(record(3, 101)),
        ]
    }

    #[test]
    fn news_are_read_as_they_were_told_but_for_what_is_a_nodes_own() {
        assert_eq!(decode(&encode(&some())).unwrap(), some());
        let mut own = record(1, 100);
        (own.flow.ifindex, own.flow.backend, own.flow.seen) = (7, 8, 9);
        let told = decode(&encode(&[FlowNews::Made(own)])).unwrap();
        assert_eq!(told, [FlowNews::Made(record(1, 100))]);
    }

    #[test]
    fn as_many_as_are_told_at_once_fit_into_a_telling() {
        let most = vec![FlowNews::Made(record(1, 100)); AT_ONCE];
        let bytes = encode(&most).len();
        assert!(bytes <= vipd_raft::RECORDS_MAX, "{bytes}");
        assert!(bytes + 2 * ITEM > vipd_raft::RECORDS_MAX, "{bytes}");
    }

    #[test]
    fn every_truncation_another_layout_and_left_over_bytes_are_errors() {
        let bytes = encode(&some());
        for length in 0..bytes.len() {
            assert!(decode(&bytes[..length]).is_err(), "{length}");
        }
        let mut more = bytes.to_vec();
        more.push(0);
        assert!(decode(&more).is_err());
        let mut other = bytes.to_vec();
        other[0] = LAYOUT + 1;
        assert!(decode(&other).is_err());
    }
}
