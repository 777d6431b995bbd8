//! Label selectors as Kubernetes writes them: `app=web,tier!=db,rack in (a,b),zone notin (x),spare,!old`.

use std::collections::BTreeSet;

use vipd_core::selector::{Operator, Requirement, Selector};

/// Reads a selector; an empty one selects everything.
pub(super) fn parse(text: &str) -> Result<Selector, String> {
    let mut selector = Selector::default();
    for part in parts(text)? {
        selector.match_expressions.push(requirement(part)?);
    }
    Ok(selector)
}

/// Cuts at the commas that are not between parentheses.
fn parts(text: &str) -> Result<Vec<&str>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let (mut parts, mut from, mut inside) = (Vec::new(), 0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'(' if !inside => inside = true,
            b')' if inside => inside = false,
            b'(' | b')' => return Err(format!("{text:?} has a parenthesis out of place")),
            b',' if !inside => {
                parts.push(text[from..at].trim());
                from = at + 1;
            }
            _ => {}
        }
    }
    if inside {
        return Err(format!("{text:?} lacks a closing parenthesis"));
    }
    parts.push(text[from..].trim());
    Ok(parts)
}

fn requirement(part: &str) -> Result<Requirement, String> {
    let one = |value: &str| BTreeSet::from([value.to_owned()]);
    let (key, operator) = if let Some((key, value)) = part.split_once("!=") {
        let values = one(word(value, part)?);
        (key, Operator::NotIn { values })
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        let values = one(word(value, part)?);
        (key, Operator::In { values })
    } else if let Some(set) = part.strip_suffix(')') {
        let (head, list) = set
            .split_once('(')
            .ok_or_else(|| format!("{part:?} lacks an opening parenthesis"))?;
        let values: Result<BTreeSet<String>, String> = list
            .split(',')
            .map(|value| Ok(word(value, part)?.to_owned()))
            .collect();
        let values = values?;
        match head.trim().rsplit_once(char::is_whitespace) {
            Some((key, "in")) => (key, Operator::In { values }),
            Some((key, "notin")) => (key, Operator::NotIn { values }),
            Some(_) | None => {
                return Err(format!(
                    "{part:?} is neither KEY in (...) nor KEY notin (...)"
                ));
            }
        }
    } else if let Some(key) = part.strip_prefix('!') {
        (key, Operator::DoesNotExist)
    } else {
        (part, Operator::Exists)
    };
    let key = word(key, part)?;
    if key.is_empty() {
        return Err(format!("{part:?} names no label"));
    }
    Ok(Requirement {
        key: key.to_owned(),
        operator,
    })
}

/// What has a meaning in selectors, so that no key and no value of one holds it.
pub(crate) const SIGNS: &str = "=!(),<>";

/// Whether a selector can name this key or value.
pub(crate) fn is_word(text: &str) -> bool {
    !text.contains(|c: char| c.is_whitespace() || SIGNS.contains(c))
}

/// A key or a value: what stands between the signs, which must not be more signs.
fn word<'a>(text: &'a str, part: &str) -> Result<&'a str, String> {
    let text = text.trim();
    match is_word(text) {
        true => Ok(text),
        false => Err(format!("{text:?} in {part:?} is neither a key nor a value")),
    }
}

#[cfg(test)]
mod tests {
    use vipd_core::name::Name;

    use super::*;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let find = |key: &str| labels.iter().find(|(k, _)| *k == key).map(|(_, v)| *v);
        parse(selector)
            .unwrap()
            .selects(&Name::new("www").unwrap(), find)
    }

    #[test]
    fn equality_and_sets_select_as_they_do_in_kubernetes() {
        let web: &[(&str, &str)] = &[("app", "web"), ("rack", "a")];
        for (selector, wanted) in [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            (" app = web , rack = a ", true),
            ("app!=web", false),
            ("tier!=db", true),
            ("app in (db,web)", true),
            ("app in (db)", false),
            ("rack notin (b, c)", true),
            ("tier notin (db)", true),
            ("app", true),
            ("tier", false),
            ("!tier", true),
            ("!app", false),
            ("app=", false),
            ("tier in (),!tier", false),
            ("vipd/name=www", true),
            ("vipd/name=db", false),
        ] {
            assert_eq!(selects(selector, web), wanted, "{selector:?}");
        }
    }

    #[test]
    fn what_is_no_selector_is_refused_and_quoted() {
        for bad in [
            ",",
            "a,",
            "=",
            "=x",
            "!",
            "a=b=c",
            "a in b",
            "a in (b",
            "a in b)",
            "a on (b)",
            "a b",
            "(a)",
            "a<3",
            "in (a)",
            "a in ((b))",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert!(parse("a on (b)").unwrap_err().contains("\"a on (b)\""));
    }
}
