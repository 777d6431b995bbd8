use super::*;
use alloc::vec;

#[test]
fn a_corrupt_length_is_an_error_and_never_an_allocation() {
    let mut bytes = u32::MAX.to_bytes();
    bytes.extend_from_slice(&[0; 8]);
    assert!(matches!(
        Vec::<u64>::from_bytes(&bytes),
        Err(DecodeError::Short { .. })
    ));
    assert!(matches!(
        String::from_bytes(&bytes),
        Err(DecodeError::Short { .. })
    ));
}

#[test]
fn every_truncation_of_a_value_is_an_error() {
    let value: BTreeMap<String, Vec<IpAddr>> = [(
        String::from("a"),
        vec![IpAddr::from([10, 0, 0, 1]), IpAddr::V6(Ipv6Addr::LOCALHOST)],
    )]
    .into();
    let bytes = value.to_bytes();
    assert_eq!(value.size(), bytes.len());
    assert_eq!(BTreeMap::from_bytes(&bytes), Ok(value));
    for n in 0..bytes.len() {
        assert!(
            BTreeMap::<String, Vec<IpAddr>>::from_bytes(&bytes[..n]).is_err(),
            "cut at {n}"
        );
    }
}

#[test]
fn left_over_bytes_are_an_error() {
    assert_eq!(u8::from_bytes(&[1, 2]), Err(DecodeError::Trailing(1)));
}
