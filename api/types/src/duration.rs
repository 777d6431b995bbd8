//! Times as users write them: `500ms`, `10s`, `5m`, `1h`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

const UNITS: [(&str, u64); 4] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)];

/// The longest: a year.
const LONGEST: u64 = 366 * 24 * 3600 * 1000;

/// A length of time in milliseconds, at most a year.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Duration(pub u64);

impl Duration {
    /// Whether it is no time at all.
    #[must_use]
    pub fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

/// The largest unit that fits.
impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 == 0 {
            return f.write_str("0s");
        }
        let whole = |(_, unit): &&(&str, u64)| self.0.is_multiple_of(*unit);
        let (name, unit) = UNITS.iter().rfind(whole).unwrap_or(&UNITS[0]);
        write!(f, "{}{name}", self.0 / unit)
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is no time such as 500ms, 10s, 5m or 1h");
        let digits = text.find(|c: char| !c.is_ascii_digit());
        let (number, unit) = text.split_at(digits.ok_or_else(bad)?);
        let number: u64 = number.parse().map_err(|_| bad())?;
        let unit = UNITS.iter().find(|(name, _)| *name == unit);
        let (_, unit) = unit.ok_or_else(bad)?;
        let milliseconds = number.checked_mul(*unit).filter(|ms| *ms <= LONGEST);
        milliseconds
            .map(Self)
            .ok_or_else(|| format!("{text:?} is more than a year"))
    }
}

impl Serialize for Duration {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for Duration {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "A length of time: 500ms, 10s, 5m, 1h; at most a year.",
            ))
            .pattern(Some("^[0-9]+(ms|s|m|h)$"))
            .into()
    }
}

impl ToSchema for Duration {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_the_largest_unit_that_fits() {
        for (text, shown) in [
            ("0s", "0s"),
            ("10s", "10s"),
            ("1500ms", "1500ms"),
            ("90s", "90s"),
            ("120s", "2m"),
            ("60m", "1h"),
        ] {
            assert_eq!(
                text.parse::<Duration>().map(|time| time.to_string()),
                Ok(shown.into())
            );
        }
    }

    #[test]
    fn what_is_no_time_is_refused_with_what_would_be_one() {
        for bad in ["", "10", "s", "-1s", "1d", "1.5s", "10 s"] {
            let why = bad.parse::<Duration>().expect_err(bad);
            assert!(why.contains("500ms, 10s, 5m or 1h"), "{bad}: {why}");
        }
        assert!("9999999999999999h".parse::<Duration>().is_err());
    }
}
