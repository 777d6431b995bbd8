//! Small texts that several nouns share.

use jiff::{SpanRound, Timestamp, Unit};
use serde::Serialize;
use vipd_api_types::{Change, ChangeKind, Condition, DryRun};

use crate::cli::Format;
use crate::failure::Failure;
use crate::output;

/// How long ago an RFC 3339 instant was, in one unit: `42s`, `3h`.
pub(crate) fn age(since: Option<&str>) -> String {
    let Some(since) = since.and_then(|text| text.parse::<Timestamp>().ok()) else {
        return "-".to_owned();
    };
    let seconds = Timestamp::now().duration_since(since).as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// An RFC 3339 instant as local time of day with milliseconds.
pub(crate) fn clock(at: &str) -> String {
    match at.parse::<Timestamp>() {
        // The cluster's very first entries are older than its first clock reading.
        Ok(at) if at == Timestamp::UNIX_EPOCH => format!("{:<23}", "-"),
        Ok(at) => at
            .to_zoned(jiff::tz::TimeZone::system())
            .strftime("%Y-%m-%d %H:%M:%S%.3f")
            .to_string(),
        Err(_) => at.to_owned(),
    }
}

/// How long until an RFC 3339 instant, for people.
pub(crate) fn until(expires: Option<&str>) -> String {
    let Some(expires) = expires else {
        return "never".to_owned();
    };
    let Ok(at) = expires.parse::<Timestamp>() else {
        return expires.to_owned();
    };
    let left = at - Timestamp::now();
    if left.is_negative() {
        return "expired".to_owned();
    }
    match left.round(SpanRound::new().smallest(Unit::Minute).largest(Unit::Hour)) {
        Ok(left) => format!("in {left:#}"),
        Err(_) => expires.to_owned(),
    }
}

/// Conditions that speak against the object, joined.
pub(crate) fn complaints(conditions: &[Condition]) -> Vec<&str> {
    conditions
        .iter()
        .filter(|condition| !condition.status)
        .map(|condition| condition.message.as_str())
        .collect()
}

/// The text, and what speaks against the object below it, whole: in a table it may have been cut off.
pub(crate) fn with_complaints(mut text: String, conditions: &[Condition]) -> String {
    for complaint in complaints(conditions) {
        text.push_str("\n! ");
        text.push_str(complaint);
    }
    text
}

/// Shows what a write would do.
pub(crate) fn dry_run<T: Serialize>(
    tried: &DryRun<T>,
    object: &str,
    format: Format,
) -> Result<(), Failure> {
    output::show(tried, format, || {
        let mut text = match &tried.object {
            Some(_) => format!("{object} would be set (dry run, nothing was changed)"),
            None => format!("{object} would be gone (dry run, nothing was changed)"),
        };
        for change in &tried.changes {
            text.push_str("\n  ");
            text.push_str(&change_line(change));
        }
        text
    })
}

/// What became of one address.
pub(crate) fn changed_line(change: &Change) -> String {
    let line = change_line(change);
    line.replacen("would be given", "given", 1)
        .replacen("would be taken", "taken", 1)
        .replacen("would move", "moves", 1)
}

/// What would become of one address.
pub(crate) fn change_line(change: &Change) -> String {
    let Change { vip, address, .. } = change;
    let node = |name: &Option<String>| name.clone().unwrap_or_else(|| "nobody".to_owned());
    match change.kind {
        ChangeKind::Allocated => format!(
            "{address} would be given to vip/{vip}, held by {}",
            node(&change.to)
        ),
        ChangeKind::Released => format!("{address} would be taken from vip/{vip}"),
        ChangeKind::Moved => {
            format!(
                "{address} of vip/{vip} would move from {} to {}",
                node(&change.from),
                node(&change.to)
            )
        }
    }
}
