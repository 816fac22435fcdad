//! Words to the person: results to standard output, all else to standard error.
//!
//! `println!` panics where nobody reads any more, as in `rslad list archs | head -1`; these do not.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;

/// A line of a result. A closed pipe is an error, which ends the command without a word.
pub(crate) fn result(text: impl Display) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{text}")
}

/// A line about the work. That nobody reads it is no reason to stop.
pub(crate) fn note(text: impl Display) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Whether standard error takes colors: a terminal does, unless `NO_COLOR` is set to something.
pub(crate) fn colors() -> bool {
    io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// A time to be read: `850 us`, `12.3 ms`, `4.56 s`.
pub(crate) fn time(time: Duration) -> String {
    match time.as_secs_f64() {
        s if s < 1e-3 => format!("{:.0} us", 1e6 * s),
        s if s < 1.0 => format!("{:.1} ms", 1e3 * s),
        s => format!("{s:.2} s"),
    }
}

/// A whole number with its thousands apart: `11,173,962`.
pub(crate) fn count(n: u64) -> String {
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

/// A number to three digits with its unit of thousands: `557 M`.
pub(crate) fn short(n: u64) -> String {
    let units = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    let (unit, name) = units.into_iter().find(|(unit, _)| n as f64 >= *unit).unwrap_or((1.0, ""));
    let value = n as f64 / unit;
    let decimals = if unit == 1.0 || value >= 99.95 { 0 } else { 1 };
    format!("{value:.decimals$}{name}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_to_be_read() {
        assert_eq!(
            [850, 12_300, 4_560_000].map(|us| time(Duration::from_micros(us))),
            ["850 us", "12.3 ms", "4.56 s"]
        );
        assert_eq!([0, 999, 1_000, 11_173_962].map(count), ["0", "999", "1,000", "11,173,962"]);
        let shown = ["0", "999", "1.0 k", "12.3 k", "557 M", "1.8 T"];
        assert_eq!([0, 999, 1_000, 12_345, 556_651_520, 1_800_000_000_000].map(short), shown);
    }
}
