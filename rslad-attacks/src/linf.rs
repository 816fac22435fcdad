//! Radii and step sizes, written the way papers write them.
//!
//! The most frequent mistake with budgets is the unit: 8 for 8/255, 0.031 for 8/255, a step and a
//! radius swapped. So a radius is a type that refuses what cannot be meant, and files and command
//! lines say "8/255".

use crate::error::{Error, Result};
use serde::de::{self, Deserialize, Deserializer, Visitor};
use serde::{Serialize, Serializer};
use std::fmt;
use std::str::FromStr;

/// The radius of an L-infinity ball.
///
/// # Units
/// Pixel intensity, with images in [0, 1]: written "8/255" or as a decimal in (0, 1]. Zero has no written
/// form; [`Linf::ZERO`] is for tests and sweeps.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct Linf(f64);

impl Linf {
    /// No perturbation at all.
    pub const ZERO: Self = Self(0.0);

    /// The radius `eps`.
    ///
    /// # Errors
    /// When `eps` is outside [0, 1] or NaN.
    pub fn new(eps: f64) -> Result<Self> {
        match (0.0..=1.0).contains(&eps) {
            true => Ok(Self(eps.abs())), // abs: -0.0 is in the range
            false => Err(out_of_range("radius", &eps.to_string())),
        }
    }

    /// The radius as a number.
    pub fn get(self) -> f64 {
        self.0
    }
}

impl FromStr for Linf {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse_intensity("radius", text).map(Self)
    }
}

impl fmt::Display for Linf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt_intensity(self.0, f)
    }
}

/// The size of an ascent's step: an intensity such as "2/255" or "0.007", or a share of the radius such
/// as "eps/4" or "eps".
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepSize(Rule);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Rule {
    Absolute(f64),
    EpsOver(f64),
}

impl StepSize {
    /// The step for this radius, in pixel intensity.
    pub fn resolve(self, eps: Linf) -> f64 {
        match self.0 {
            Rule::Absolute(step_size) => step_size,
            Rule::EpsOver(divisor) => eps.get() / divisor,
        }
    }
}

impl FromStr for StepSize {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let Some(rest) = text.trim().strip_prefix("eps") else {
            return parse_intensity("step size", text).map(|v| Self(Rule::Absolute(v)));
        };
        let divisor = match rest.trim_start().strip_prefix('/') {
            Some(divisor) => divisor.trim().parse().ok(),
            None if rest.is_empty() => Some(1.0),
            None => None,
        };
        match divisor {
            Some(d) if d >= f64::MIN_POSITIVE && d.is_finite() => Ok(Self(Rule::EpsOver(d))),
            _ => Err(Error::Value {
                what: "step size",
                value: format!("`{text}`"),
                expected: "the radius or a share of it, such as \"eps\" or \"eps/4\"".to_owned(),
            }),
        }
    }
}

impl fmt::Display for StepSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Rule::Absolute(step_size) => fmt_intensity(step_size, f),
            Rule::EpsOver(1.0) => f.write_str("eps"),
            Rule::EpsOver(divisor) => write!(f, "eps/{divisor}"),
        }
    }
}

/// "k/255", "a/b" or a decimal, in (0, 1].
fn parse_intensity(what: &'static str, text: &str) -> Result<f64> {
    let number = |s: &str| s.trim().parse::<f64>().ok().filter(|v| v.is_finite());
    let value = match text.split_once('/') {
        Some((above, below)) => number(above).zip(number(below)).map(|(a, b)| a / b),
        None => number(text),
    };
    match value {
        Some(v) if v > 0.0 && v <= 1.0 => Ok(v),
        _ => Err(out_of_range(what, text)),
    }
}

fn out_of_range(what: &'static str, text: &str) -> Error {
    let fix = match text.trim().parse::<f64>() {
        Ok(v) if v > 1.0 && v < 255.0 => format!("{v}/255"),
        _ => "8/255".to_owned(),
    };
    let expected = format!("a fraction or a decimal in (0, 1], the images being in [0, 1]; write \"{fix}\"");
    Error::Value { what, value: format!("`{text}`"), expected }
}

fn fmt_intensity(value: f64, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let k = (value * 255.0).round();
    match k / 255.0 == value && value > 0.0 && value < 1.0 {
        true => write!(f, "{k}/255"),
        false => write!(f, "{value}"),
    }
}

/// Reads a string or a bare number through `FromStr`, so that a file and a command line agree.
struct Written<T>(std::marker::PhantomData<T>);

impl<T: FromStr<Err = Error>> Visitor<'_> for Written<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string such as \"8/255\" or a decimal in (0, 1]")
    }

    fn visit_str<E: de::Error>(self, text: &str) -> std::result::Result<T, E> {
        text.parse().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> std::result::Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> std::result::Result<T, E> {
        self.visit_str(&value.to_string())
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> std::result::Result<T, E> {
        self.visit_str(&value.to_string())
    }
}

impl<'de> Deserialize<'de> for Linf {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

impl<'de> Deserialize<'de> for StepSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(Written(std::marker::PhantomData))
    }
}

impl Serialize for Linf {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Serialize for StepSize {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn radii_are_read_as_papers_write_them() {
        for (text, value) in
            [("8/255", 8.0 / 255.0), (" 8 / 255 ", 8.0 / 255.0), ("0.031", 0.031), ("1", 1.0)]
        {
            assert_eq!(text.parse::<Linf>().unwrap().get(), value, "{text}");
        }
    }

    #[test]
    fn a_radius_without_its_unit_is_refused_with_the_fix() {
        let message = "8".parse::<Linf>().unwrap_err().to_string();
        assert!(message.contains("radius is `8`") && message.ends_with("write \"8/255\""), "{message}");
        for text in ["", "0", "-1/255", "8/0", "0/0", "nan", "inf", "8/255/2", "1.5", "eps/4", "x"] {
            assert!(text.parse::<Linf>().is_err(), "{text}");
        }
        assert!(Linf::new(f64::NAN).is_err() && Linf::new(-1e-9).is_err() && Linf::new(0.0).is_ok());
    }

    #[test]
    fn radii_are_shown_as_papers_write_them() {
        let shown = |v: f64| Linf::new(v).unwrap().to_string();
        assert_eq!(
            [8.0 / 255.0, 0.031, 1.0, 0.0].map(shown),
            ["8/255", "0.031", "1", "0"].map(str::to_owned)
        );
    }

    #[test]
    fn step_sizes_are_intensities_or_shares_of_the_radius() {
        let eps = Linf::new(0.1).unwrap();
        for (text, value) in [("2/255", 2.0 / 255.0), ("0.003", 0.003), ("eps", 0.1), ("eps/4", 0.1 / 4.0)] {
            let step: StepSize = text.parse().unwrap();
            assert_eq!(step.resolve(eps), value, "{text}");
            assert_eq!(step.to_string(), text);
        }
        for text in ["2", "eps/0", "eps/-1", "eps/x", "eps4", "epsilon", "eps/inf"] {
            assert!(text.parse::<StepSize>().is_err(), "{text}");
        }
    }

    #[test]
    fn files_hold_strings_or_decimals() {
        #[derive(serde::Deserialize)]
        struct File {
            eps: Linf,
        }
        let read = |text: &str| toml::from_str::<File>(text).map(|f| f.eps.get()).map_err(|e| e.to_string());
        assert_eq!(read("eps = '8/255'"), Ok(8.0 / 255.0));
        assert_eq!(read("eps = 0.25"), Ok(0.25));
        assert!(read("eps = 8").unwrap_err().contains("write \"8/255\""));
        assert!(read("eps = true").unwrap_err().contains("a string such as \"8/255\""));
    }

    proptest! {
        #[test]
        fn a_shown_radius_reads_back_to_the_bit(v in f64::MIN_POSITIVE..=1.0, k in 1u32..=255) {
            for eps in [v, f64::from(k) / 255.0] {
                let eps = Linf::new(eps).unwrap();
                prop_assert_eq!(eps.to_string().parse::<Linf>().unwrap(), eps);
            }
        }
    }
}
