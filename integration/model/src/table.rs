//! What was found, as tables: for the terminal and for the README, in the same form.

use std::fmt::Write as _;

use crate::explore::Found;
use crate::mutant::Mutant;

/// The scenes, with the protocol as it is.
#[must_use]
pub fn scenes(rows: &[(&'static str, &'static str, u8, Found)]) -> String {
    let mut text = String::from(
        "| scene | what happens | faults at once | states | longest run | time |\n|---|---|---|---|---|---|\n",
    );
    for (name, about, budget, found) in rows {
        let _infallible = writeln!(
            text,
            "| {name} | {about} | {budget} | {} | {} steps | {} |{}",
            grouped(found.states),
            found.depth,
            seconds(found),
            match &found.broken {
                Some((property, _)) => format!(" **broken: {property}**"),
                None if !found.taken_over => " **nothing was taken over**".to_owned(),
                None => String::new(),
            }
        );
    }
    text
}

/// The mutants, and what caught them.
#[must_use]
pub fn mutants(rows: &[(Mutant, Found)]) -> String {
    let mut text = String::from(
        "| mutant | what is left out | scene | caught by | steps | states | time |\n|---|---|---|---|---|---|---|\n",
    );
    for (mutant, found) in rows {
        let (caught, steps) = match &found.broken {
            Some((property, steps)) => (*property, steps.len().to_string()),
            None => ("**not caught**", "-".to_owned()),
        };
        let _infallible = writeln!(
            text,
            "| {} | {} | {} | {caught} | {steps} | {} | {} |",
            mutant.name(),
            mutant.what(),
            mutant.scene(),
            grouped(found.states),
            seconds(found),
        );
    }
    text
}

fn seconds(found: &Found) -> String {
    format!("{:.1} s", found.took.as_secs_f32())
}

/// With a comma at each thousand.
fn grouped(n: usize) -> String {
    let digits = n.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn thousands_are_set_apart() {
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1000), "1,000");
        assert_eq!(grouped(1_234_567), "1,234,567");
    }
}
