//! What another vipd wrote, in a layout that this one does not read, is refused in plain words.

use super::*;
use crate::codec::{DecodeError, LAYOUT, Reader};
use crate::command::Proposal;
use crate::id::NodeId;
use crate::service::{Affinity, ClientAddress, Mode};

fn refusal(layout: u8) -> String {
    let mut bytes = State::default().to_bytes();
    bytes[0] = layout;
    State::from_bytes(&bytes).unwrap_err().to_string()
}

#[test]
fn what_a_later_vipd_wrote_is_refused_in_plain_words() {
    let later = LAYOUT + 1;
    assert_eq!(
        refusal(later),
        format!(
            "snapshot is of layout {later}, but this vipd reads 7 to {LAYOUT}: was it downgraded?"
        )
    );
}

#[test]
fn what_a_vipd_from_before_the_first_release_wrote_is_refused_with_what_to_do() {
    assert!(
        refusal(1).contains("set the cluster up anew"),
        "{}",
        refusal(1)
    );
    assert!(refusal(0).contains("layout 0"), "{}", refusal(0));
}

#[test]
fn a_reader_goes_on_behind_a_versioned_value() {
    let command = Command::NodeRetire {
        node: NodeId(1),
        epoch: crate::id::Epoch(2),
    };
    let mut bytes = Proposal {
        at: Millis(1),
        command,
        by: None,
    }
    .to_bytes();
    bytes.push(7);
    let mut input = Reader::new(&bytes);
    Proposal::decode(&mut input).unwrap();
    assert_eq!(input.layout(), LAYOUT);
    assert_eq!(u8::decode(&mut input), Ok::<_, DecodeError>(7));
}

/// What two layouts have added stands last, a byte each where it is nothing else than before.
#[test]
fn vips_of_layouts_7_and_8_are_read_and_have_what_came_later_as_if_nobody_had_asked_for_it() {
    let spec = VipSpec {
        mode: Mode::Nat,
        affinity: Affinity::Client,
        ..VipSpec::default()
    };
    assert_eq!(spec.client, ClientAddress::Vip);
    let bytes = spec.to_bytes();
    for (layout, later) in [(LAYOUT, 0), (8, 1), (7, 2)] {
        let mut old = vec![layout];
        old.extend(&bytes[..bytes.len() - later]);
        let mut input = Reader::new(&old);
        let read = input.versioned("a VIP", |input| {
            Ok((VipSpec::decode(input)?, input.layout()))
        });
        assert_eq!(read, Ok((spec.clone(), layout)));
        assert_eq!(u8::decode(&mut input).ok(), None, "all of it was read");
    }
}
