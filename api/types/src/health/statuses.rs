//! Statuses of HTTP as users write them: `204`, `200-299,304`.

use std::fmt;
use std::str::FromStr;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

/// Ranges of statuses, each from its first to its last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statuses(pub Vec<(u16, u16)>);

impl fmt::Display for Statuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, (first, last)) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            match first == last {
                true => write!(f, "{first}")?,
                false => write!(f, "{first}-{last}")?,
            }
        }
        Ok(())
    }
}

impl FromStr for Statuses {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} are no statuses such as 204 or 200-299,304");
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| bad());
        let range = |text: &str| match text.split_once('-') {
            Some((first, last)) => Ok((number(first)?, number(last)?)),
            None => number(text).map(|only| (only, only)),
        };
        text.split(',')
            .map(range)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl Serialize for Statuses {
    /// A single one as the number that it is.
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [(first, last)] if first == last => out.serialize_u16(*first),
            _ => out.collect_str(self),
        }
    }
}

struct NumberOrText;

impl Visitor<'_> for NumberOrText {
    type Value = Statuses;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statuses such as 204 or \"200-299,304\"")
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Statuses, E> {
        let only =
            u16::try_from(number).map_err(|_| E::custom(format!("{number} is no status")))?;
        Ok(Statuses(vec![(only, only)]))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Statuses, E> {
        match u64::try_from(number) {
            Ok(number) => self.visit_u64(number),
            Err(_) => Err(E::custom(format!("{number} is no status"))),
        }
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Statuses, E> {
        text.parse().map_err(E::custom)
    }
}

impl<'de> Deserialize<'de> for Statuses {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        input.deserialize_any(NumberOrText)
    }
}

impl PartialSchema for Statuses {
    fn schema() -> RefOr<Schema> {
        let number = ObjectBuilder::new()
            .schema_type(Type::Integer)
            .minimum(Some(100))
            .maximum(Some(599));
        let text = ObjectBuilder::new().schema_type(Type::String).pattern(Some(
            "^[1-5][0-9]{2}(-[1-5][0-9]{2})?(,[1-5][0-9]{2}(-[1-5][0-9]{2})?){0,15}$",
        ));
        OneOfBuilder::new()
            .item(number)
            .item(text)
            .description(Some("Statuses of HTTP: 204, or 200-299,304."))
            .into()
    }
}

impl ToSchema for Statuses {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_and_a_text_are_read_and_written_back_as_they_were() {
        for json in ["204", "\"200-299\"", "\"200,301-302,404\""] {
            let read: Statuses = serde_json::from_str(json).expect(json);
            assert_eq!(serde_json::to_string(&read).expect("JSON"), json);
        }
        let read: Statuses = serde_json::from_str("\"204\"").expect("a text of one");
        assert_eq!(read, Statuses(vec![(204, 204)]));
    }

    #[test]
    fn what_are_no_statuses_is_refused_with_what_are() {
        for json in [
            "\"\"", "\"ok\"", "\"200-\"", "\"200,\"", "70000", "-1", "true",
        ] {
            let told = serde_json::from_str::<Statuses>(json).expect_err(json);
            assert!(told.to_string().contains("status"), "{json}: {told}");
        }
    }
}
