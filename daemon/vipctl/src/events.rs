//! `vipctl events`.

use clap::Args;
use jiff::Timestamp;
use vipd_api_types::{Duration, Event};

use crate::cli::{Format, Global};
use crate::failure::Failure;
use crate::{connect, output, render};

/// Which events.
#[derive(Debug, Args)]
pub(crate) struct EventsArgs {
    /// Only those of this object, for example vip/www or node/n1, or cluster
    #[arg(value_name = "KIND/NAME", value_parser = object)]
    object: Option<String>,
    /// Only the last so many
    #[arg(short = 'n', long, value_name = "N", conflicts_with = "watch")]
    last: Option<usize>,
    /// Only those of the last so long (30s, 10m, 1h), by the clock of this host
    #[arg(long, value_name = "TIME")]
    since: Option<Duration>,
    /// Go on with events as they happen, until interrupted
    #[arg(short, long)]
    watch: bool,
    /// Show who asked for what made each happen; with WHO (token/ci, uid/1000) only what he asked for
    #[arg(long, value_name = "WHO", num_args = 0..=1)]
    who: Option<Option<String>>,
}

impl EventsArgs {
    fn wants(&self, event: &Event, now: Timestamp) -> bool {
        let by = match &self.who {
            Some(Some(who)) => event.who.as_ref() == Some(who),
            Some(None) | None => true,
        };
        let of = self.object.as_ref().is_none_or(|of| *of == event.object);
        let lately = self.since.is_none_or(|since| {
            let at = event.at.parse::<Timestamp>();
            let age = at.map(|at| now.duration_since(at).as_millis());
            age.is_ok_and(|age| age <= i128::from(since.0))
        });
        by && of && lately
    }

    fn line(&self, event: &Event) -> String {
        let mut line = format!(
            "{}  {:<6}  {:<16}  ",
            render::clock(&event.at),
            event.revision,
            event.object,
        );
        if self.who.is_some() {
            let who = match (&event.who, &event.via) {
                (Some(who), Some(via)) => format!("{who} at {via}"),
                (Some(who), None) => who.clone(),
                (None, _) => "-".to_owned(),
            };
            line.push_str(&format!("{who:<18}  "));
        }
        line + &event.message
    }
}

/// An object as events name it.
fn object(text: &str) -> Result<String, String> {
    match text.split_once('/') {
        Some((kind, name)) if !kind.is_empty() && !name.is_empty() => Ok(text.to_owned()),
        None if text == "cluster" => Ok(text.to_owned()),
        Some(_) | None => Err("write KIND/NAME, for example vip/www, or cluster".to_owned()),
    }
}

pub(crate) async fn run(args: &EventsArgs, global: &Global) -> Result<(), Failure> {
    let client = connect::client(global)?;
    if !args.watch {
        let mut events = client.events().await?;
        let now = Timestamp::now();
        events.items.retain(|event| args.wants(event, now));
        if let Some(last) = args.last {
            let older = events.items.len().saturating_sub(last);
            events.items.drain(..older);
        }
        return output::show(&events, global.output, || {
            let lines = events.items.iter().map(|event| args.line(event));
            lines.collect::<Vec<_>>().join("\n")
        });
    }
    let mut stream = client.watch_events(0).await?;
    while let Some(event) = stream.next().await? {
        if !args.wants(&event, Timestamp::now()) {
            continue;
        }
        match global.output {
            // One document a line, so that a pipe can be read as it fills.
            Format::Json => match serde_json::to_string(&event) {
                Ok(text) => output::line(&text)?,
                Err(cause) => return Err(Failure::new(cause.to_string(), "report this as a bug")),
            },
            Format::Table | Format::Wide | Format::Yaml => {
                output::show(&event, global.output, || args.line(&event))?
            }
        }
    }
    Err(Failure::new(
        format!("{} has ended the stream of events", client.server()),
        "the daemon is restarting: ask again",
    ))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: EventsArgs,
    }

    #[test]
    fn events_are_told_apart_by_object_and_by_age() {
        let event: Event = serde_json::from_str(
            r#"{"seq": 1, "revision": 1, "at": "2026-11-23T08:00:00Z", "kind": "object", "object": "vip/www", "message": "set"}"#,
        )
        .unwrap();
        let now: Timestamp = "2026-11-23T08:10:00Z".parse().unwrap();
        for (words, wanted) in [
            ("events", true),
            ("events vip/www", true),
            ("events vip/ww", false),
            ("events --since 10m", true),
            ("events --since 9m", false),
            ("events vip/www --since 1h", true),
        ] {
            let line = Line::try_parse_from(words.split(' ')).ok().unwrap();
            assert_eq!(line.args.wants(&event, now), wanted, "{words}");
        }
        assert!(Line::try_parse_from(["events", "www"]).is_err());
    }
}
