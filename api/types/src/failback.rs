//! Whether a VIP returns to its home, as users write it: `never`, `always`, `after:10s`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::Duration;

/// Whether a VIP that had to leave its home (where it was placed, moved or rebalanced to) returns there by itself.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Failback {
    /// It stays where it failed over to.
    #[default]
    Never,
    /// As soon as its home can hold it again and had a second to be supported by a majority.
    Always,
    /// Once its home could hold it for so many milliseconds without a break; more than 0.
    After {
        /// How many.
        milliseconds: u64,
    },
}

impl fmt::Display for Failback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::Always => f.write_str("always"),
            Self::After { milliseconds } => write!(f, "after:{}", Duration(*milliseconds)),
        }
    }
}

impl FromStr for Failback {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || {
            format!(
                "failback {text:?} is none of never, always, after:TIME, with a time such as 500ms, 10s, 5m or 1h"
            )
        };
        let time = match text {
            "never" => return Ok(Self::Never),
            "always" => return Ok(Self::Always),
            other => other.strip_prefix("after:").ok_or_else(bad)?,
        };
        match time.parse() {
            Ok(Duration(0)) => Ok(Self::Always),
            Ok(Duration(milliseconds)) => Ok(Self::After { milliseconds }),
            Err(why) => Err(format!("failback {text:?}: {why}")),
        }
    }
}

impl Serialize for Failback {
    fn serialize<S: Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Failback {
    fn deserialize<D: Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        let text = String::deserialize(input)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl PartialSchema for Failback {
    fn schema() -> RefOr<Schema> {
        ObjectBuilder::new()
            .schema_type(Type::String)
            .description(Some(
                "Whether a VIP that had to leave its home returns there by itself: never, always, or after a time \
                 for which its home must have been able to hold it without a break (after:500ms, after:10s, after:5m, \
                 after:1h).",
            ))
            .pattern(Some("^(never|always|after:[0-9]+(ms|s|m|h))$"))
            .into()
    }
}

impl ToSchema for Failback {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_back_in_the_largest_unit_that_fits() {
        for (text, shown) in [
            ("never", "never"),
            ("always", "always"),
            ("after:0s", "always"),
            ("after:10s", "after:10s"),
            ("after:1500ms", "after:1500ms"),
            ("after:90s", "after:90s"),
            ("after:120s", "after:2m"),
            ("after:60m", "after:1h"),
        ] {
            assert_eq!(
                text.parse::<Failback>().map(|f| f.to_string()),
                Ok(shown.into())
            );
        }
    }

    #[test]
    fn what_is_no_failback_is_refused_with_what_would_be_one() {
        for bad in [
            "",
            "after",
            "after:",
            "after:10",
            "after:s",
            "after:-1s",
            "after:1d",
            "10s",
        ] {
            let why = bad.parse::<Failback>().expect_err(bad);
            assert!(why.contains("500ms, 10s, 5m or 1h"), "{bad}: {why}");
        }
        assert!("after:9999999999999999h".parse::<Failback>().is_err());
    }
}
