//! What `apply`, `diff` and `validate` read: YAML (several documents), JSON or TOML.
//!
//! A document is one object, or a list as `-o yaml` and `-o json` print it:
//! ```yaml
//! kind: pool            # pool | policy | vip; may be left out under `vipctl pool apply` and the like
//! name: web
//! labels: {team: a}
//! spec: {blocks: [{cidr: 192.0.2.0/28}]}
//! ```
//! TOML has no documents; several objects go into `[[items]]`. The `spec` is passed on as it is, but for
//! blocks in their short form: the daemon judges it, so that an older vipctl can apply what a newer daemon understands.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use vipd_api_types::{Block, Labels};

use crate::failure::Failure;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// A pool of addresses.
    Pool,
    /// A policy.
    Policy,
    /// A VIP.
    Vip,
}

impl Kind {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Pool => "pool",
            Self::Policy => "policy",
            Self::Vip => "vip",
        }
    }
}

/// One object to apply.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Manifest {
    pub(crate) kind: Kind,
    pub(crate) name: String,
    pub(crate) labels: Labels,
    pub(crate) spec: Value,
    /// The line that names it, from 1.
    pub(crate) line: usize,
}

impl Manifest {
    /// As the API takes it.
    pub(crate) fn body(&self) -> Value {
        json!({ "name": self.name, "labels": self.labels, "spec": self.spec })
    }

    /// As people name it.
    pub(crate) fn title(&self) -> String {
        format!("{}/{}", self.kind.as_str(), self.name)
    }
}

/// A document as it stands in the file. What only the daemon knows is read over.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    kind: Option<Kind>,
    name: Option<String>,
    #[serde(default)]
    labels: Labels,
    spec: Option<Value>,
    items: Option<Vec<Document>>,
    #[serde(rename = "status")]
    _status: Option<IgnoredAny>,
    #[serde(rename = "generation")]
    _generation: Option<IgnoredAny>,
    #[serde(rename = "revision")]
    _revision: Option<IgnoredAny>,
}

/// Reads all objects of `text`; `extension` of the file name tells the format, else it is guessed.
/// `default` is the kind of those that do not say.
pub(crate) fn read(
    text: &str,
    extension: Option<&str>,
    default: Option<Kind>,
) -> Result<Vec<Manifest>, Failure> {
    let documents = match extension {
        Some("json") => json(text),
        Some("toml") => toml(text),
        Some("yaml" | "yml") => yaml(text),
        _ => yaml(text).or_else(|why| toml(text).map_err(|_| why)),
    }
    .map_err(|why| {
        Failure::new(
            why,
            "the file takes documents of kind, name, labels and spec",
        )
    })?;
    let mut manifests = Vec::new();
    for (number, document) in documents.into_iter().enumerate() {
        flatten(document, default, &mut manifests)
            .map_err(|failure| failure.at(&format!("document {}", number + 1)))?;
    }
    number_lines(text, &mut manifests);
    if manifests.is_empty() {
        return Err(Failure::new(
            "nothing in it",
            "give at least one document of kind, name and spec",
        ));
    }
    Ok(manifests)
}

/// Finds the line of each object: the next one that gives a name, and that name. Parsers do not tell where a value stood.
fn number_lines(text: &str, manifests: &mut [Manifest]) {
    let mut lines = text.lines().enumerate();
    let word = |c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c));
    for manifest in manifests {
        let mut ahead = lines.clone();
        let found = ahead.find(|(_, line)| {
            let mut words = line.split(word).filter(|word| !word.is_empty());
            words.any(|word| word == "name") && words.any(|word| word == manifest.name)
        });
        if let Some((at, _)) = found {
            manifest.line = at + 1;
            lines = ahead;
        }
    }
}

fn yaml(text: &str) -> Result<Vec<Document>, String> {
    let mut documents = Vec::new();
    for (number, document) in serde_yaml_ng::Deserializer::from_str(text).enumerate() {
        match Option::<Document>::deserialize(document) {
            Ok(document) => documents.extend(document),
            Err(cause) => return Err(format!("document {}: {cause}", number + 1)),
        }
    }
    Ok(documents)
}

fn json(text: &str) -> Result<Vec<Document>, String> {
    serde_json::Deserializer::from_str(text)
        .into_iter()
        .collect::<Result<_, _>>()
        .map_err(|cause| cause.to_string())
}

fn toml(text: &str) -> Result<Vec<Document>, String> {
    toml::from_str(text)
        .map(|document| vec![document])
        .map_err(|cause| cause.to_string())
}

fn flatten(
    document: Document,
    default: Option<Kind>,
    out: &mut Vec<Manifest>,
) -> Result<(), Failure> {
    if let Some(items) = document.items {
        return items
            .into_iter()
            .try_for_each(|item| flatten(item, document.kind.or(default), out));
    }
    let name = document
        .name
        .ok_or_else(|| Failure::new("it has no name", "add name: NAME"))?;
    let kind = match (document.kind, default) {
        (Some(kind), Some(only)) if kind != only => {
            return Err(Failure::new(
                format!("{name} is a {}, not a {}", kind.as_str(), only.as_str()),
                "apply files of several kinds with: vipctl apply -f FILE",
            ));
        }
        (Some(kind), _) | (None, Some(kind)) => kind,
        (None, None) => {
            return Err(Failure::new(
                format!("{name} has no kind"),
                "add kind: pool, kind: policy or kind: vip",
            ));
        }
    };
    let mut spec = document
        .spec
        .unwrap_or_else(|| Value::Object(Default::default()));
    if kind == Kind::Pool {
        long_blocks(&mut spec);
    }
    out.push(Manifest {
        kind,
        name,
        labels: document.labels,
        spec,
        line: 1,
    });
    Ok(())
}

/// Blocks as on the command line, `192.0.2.100-192.0.2.120`, become what the API takes.
fn long_blocks(spec: &mut Value) {
    let blocks = spec.get_mut("blocks").and_then(Value::as_array_mut);
    for block in blocks.into_iter().flatten() {
        if let Some(Ok(long)) = block
            .as_str()
            .map(|text| serde_json::to_value(Block::from_short(text)))
        {
            *block = long;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const YAML: &str = "kind: pool\nname: web\nspec: {blocks: [{cidr: 192.0.2.0/28}]}\n---\nkind: vip\nname: www\n---\n";
    const JSON: &str = r#"{"kind":"pool","name":"web","spec":{"blocks":[{"cidr":"192.0.2.0/28"}]}}
        {"kind":"vip","name":"www"}"#;
    const TOML: &str = "[[items]]\nkind = \"pool\"\nname = \"web\"\n[[items.spec.blocks]]\ncidr = \"192.0.2.0/28\"\n\
        [[items]]\nkind = \"vip\"\nname = \"www\"\n";

    fn said(manifests: &[Manifest]) -> Vec<(Kind, Value)> {
        let said = manifests.iter();
        said.map(|manifest| (manifest.kind, manifest.body()))
            .collect()
    }

    #[test]
    fn each_object_knows_its_line_in_every_format() {
        let lines = |text: &str, format| -> Vec<usize> {
            let read = read(text, Some(format), None).unwrap();
            read.iter().map(|manifest| manifest.line).collect()
        };
        assert_eq!(lines(YAML, "yaml"), [2, 6]);
        assert_eq!(lines(JSON, "json"), [1, 2]);
        assert_eq!(lines(TOML, "toml"), [3, 8]);
        // The same name twice, and a name that another one begins with.
        let twice =
            "kind: vip\nname: www-2\n---\nkind: pool\nname: www\n---\nkind: vip\nname: www\n";
        assert_eq!(lines(twice, "yaml"), [2, 5, 8]);
    }

    #[test]
    fn the_three_formats_say_the_same() {
        let yaml = read(YAML, Some("yaml"), None).unwrap();
        assert_eq!(yaml.len(), 2);
        assert_eq!(said(&yaml), said(&read(JSON, Some("json"), None).unwrap()));
        assert_eq!(said(&yaml), said(&read(TOML, Some("toml"), None).unwrap()));
    }

    #[test]
    fn without_a_file_name_the_format_is_guessed() {
        let yaml = read(YAML, None, None).unwrap();
        assert_eq!(said(&yaml), said(&read(TOML, None, None).unwrap()));
        let one = r#"{"kind":"vip","name":"www"}"#;
        assert_eq!(read(one, None, None).unwrap().len(), 1);
    }

    #[test]
    fn what_list_printed_can_be_applied() {
        let text = "revision: 9\nitems:\n- name: web\n  generation: 1\n  revision: 3\n  spec: {blocks: []}\n  \
            status: {families: {ipv6: {total: 18446744073709551616}}}\n";
        assert_eq!(read(text, None, Some(Kind::Pool)).unwrap()[0].name, "web");
    }

    #[test]
    fn a_bad_document_is_named_with_its_fault() {
        for (text, why) in [
            (
                "kind: pool\nname: a\n---\nkind: vip\nnmae: b\n",
                "document 2",
            ),
            ("kind: pod\nname: a\n", "pod"),
            ("name: a\n", "has no kind"),
            ("kind: vip\n", "no name"),
            ("", "nothing in it"),
        ] {
            let said = format!("{:?}", read(text, None, None).unwrap_err());
            assert!(said.contains(why), "{text}: {said}");
        }
        let said = format!(
            "{:?}",
            read("kind: vip\nname: a\n", None, Some(Kind::Pool)).unwrap_err()
        );
        assert!(said.contains("is a vip, not a pool"), "{said}");
    }

    #[test]
    fn blocks_may_be_written_as_on_the_command_line() {
        let text = "kind: pool\nname: a\nspec: {blocks: [192.0.2.100-192.0.2.120, 'fd00::/120', 192.0.2.9, {cidr: 10.0.0.0/28}]}\n";
        let long = "kind: pool\nname: a\nspec: {blocks: [{start: 192.0.2.100, stop: 192.0.2.120}, {cidr: 'fd00::/120'}, {start: 192.0.2.9}, {cidr: 10.0.0.0/28}]}\n";
        let of = |text| read(text, None, None).unwrap()[0].spec.clone();
        assert_eq!(of(text), of(long));
        let vip = "kind: vip\nname: a\nspec: {blocks: [x]}\n";
        assert_eq!(of(vip)["blocks"][0], "x", "only pools have blocks");
    }
}
