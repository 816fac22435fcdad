//! Figures of some runs in turn, and their line in the table.

use std::fmt::Write;

/// What a process said of one cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    pub(crate) seconds: f64,
    /// Peak memory net of what the process held before it began.
    pub(crate) net_mib: f64,
    macs: f64,
}

impl Measured {
    /// Reads the JSON line of `rslad bench` or its peer.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let number = |key: &str| {
            let rest = &text[text.find(&format!("\"{key}\":"))? + key.len() + 3..];
            let end = rest.find([',', '}'])?;
            rest[..end].trim().parse::<f64>().ok()
        };
        Some(Self {
            seconds: number("median_s")?,
            net_mib: number("peak_mib")? - number("idle_mib")?,
            macs: number("macs_per_image").unwrap_or(0.0),
        })
    }
}

/// A cell, measured several times in turn.
pub(crate) struct Row {
    label: String,
    own: Vec<Measured>,
    others: Vec<Vec<Measured>>,
}

impl Row {
    pub(crate) fn new(label: String, others: usize) -> Self {
        Self { label, own: Vec::new(), others: vec![Vec::new(); others] }
    }

    pub(crate) fn add(&mut self, own: Measured, others: Vec<Measured>) {
        self.own.push(own);
        self.others.iter_mut().zip(others).for_each(|(all, one)| all.push(one));
    }

    /// Our median and memory, then for each other side its median, its memory, and the median and range
    /// of the ratios of pairs; at last the share of the roof.
    pub(crate) fn line(&self, seconds_per_mac: Option<f64>) -> String {
        let seconds = |all: &[Measured]| median(all.iter().map(|m| m.seconds));
        let memory = |all: &[Measured]| median(all.iter().map(|m| m.net_mib));
        let own = seconds(&self.own);
        let mut line = format!("{:28} {:9.2} ms {:6.0} MiB", self.label, 1e3 * own, memory(&self.own));
        for other in &self.others {
            let ratios = || self.own.iter().zip(other).map(|(own, other)| other.seconds / own.seconds);
            let (low, high) = ratios().fold((f64::INFINITY, 0.0_f64), |(l, h), r| (l.min(r), h.max(r)));
            let _ = write!(
                line,
                " | {:9.2} ms {:6.0} MiB  x {:.2} ({low:.2}-{high:.2})",
                1e3 * seconds(other),
                memory(other),
                median(ratios())
            );
        }
        if let Some(per_mac) = seconds_per_mac {
            let macs = self.own.first().map_or(0.0, |m| m.macs);
            let _ = write!(line, " | {:3.0} % of the roof", 100.0 * per_mac * macs / own);
        }
        line
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// All figures.
pub(crate) fn json(rows: &[Row]) -> String {
    let list = |all: &[Measured]| {
        let each = all.iter().map(|m| format!("{{\"seconds\": {}, \"net_mib\": {}}}", m.seconds, m.net_mib));
        format!("[{}]", each.collect::<Vec<_>>().join(", "))
    };
    let row = |row: &Row| {
        let others: Vec<String> = row.others.iter().map(|all| list(all)).collect();
        format!("  \"{}\": {{\"rslad\": {}, \"others\": [{}]}}", row.label, list(&row.own), others.join(", "))
    };
    format!("{{\n{}\n}}\n", rows.iter().map(row).collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"batch":32,"macs_per_image":500,"median_s":0.25,"idle_mib":5.5,"peak_mib":100.0}"#;

    #[test]
    fn a_line_of_figures_is_read() {
        let expected = Measured { seconds: 0.25, net_mib: 94.5, macs: 500.0 };
        assert_eq!(Measured::parse(LINE), Some(expected));
        assert_eq!(Measured::parse("{\"median_s\": 1}"), None);
    }

    #[test]
    fn a_row_gives_the_median_of_the_ratios_of_its_pairs() {
        let measured = |seconds| Measured { seconds, net_mib: 10.0, macs: 1e9 };
        let mut row = Row::new("net b1 forward".into(), 1);
        for (own, other) in [(1.0, 2.0), (2.0, 6.0), (1.0, 10.0)] {
            row.add(measured(own), vec![measured(other)]);
        }
        let line = row.line(Some(0.5e-9));
        assert!(line.contains("x 3.00 (2.00-10.00)"), "{line}");
        assert!(line.ends_with("50 % of the roof"), "{line}");
    }
}
