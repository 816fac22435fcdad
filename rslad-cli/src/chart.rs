//! A curve in the terminal, in Braille dots: two columns and four rows of them in a character.

/// The bit of each dot in a Braille character, by column and row.
const DOTS: [[u32; 4]; 2] = [[0x01, 0x02, 0x04, 0x40], [0x08, 0x10, 0x20, 0x80]];
/// The Braille character without dots.
const BLANK: u32 = 0x2800;

/// The lines of a chart of `values`, `width` by `height` characters and their scale. Values that are not
/// finite leave a gap.
pub(crate) fn lines(values: &[f64], width: usize, height: usize) -> Vec<String> {
    let finite = || values.iter().copied().filter(|v| v.is_finite());
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    if low > high {
        return vec!["           (nothing to show yet)".into()];
    }
    let mut cells = vec![vec![BLANK; width]; height];
    let mut last: Option<(usize, usize)> = None; // the dot of the value before
    for (i, value) in values.iter().enumerate() {
        let x = if values.len() < 2 { 0 } else { i * (2 * width - 1) / (values.len() - 1) };
        let share = if high > low { (high - value) / (high - low) } else { 0.5 };
        let dot = value.is_finite().then(|| (x, (share * (4 * height - 1) as f64).round() as usize));
        if let Some(to) = dot {
            line(last.unwrap_or(to), to, |x, y| cells[y / 4][x / 2] |= DOTS[x % 2][y % 4]);
        }
        last = dot;
    }
    let scale = |row: usize| match row {
        0 => number(high),
        row if row + 1 == height => number(low),
        _ => String::new(),
    };
    let text = |row: &[u32]| row.iter().filter_map(|&cell| char::from_u32(cell)).collect::<String>();
    cells.iter().enumerate().map(|(row, cells)| format!("{:>9} │{}", scale(row), text(cells))).collect()
}

/// Calls `dot` for every dot of the line between two: one in each column, and the height between
/// neighbors filled.
fn line(from: (usize, usize), to: (usize, usize), mut dot: impl FnMut(usize, usize)) {
    let steps = from.0.abs_diff(to.0).max(from.1.abs_diff(to.1)).max(1);
    for step in 0..=steps {
        let at = |a: usize, b: usize| {
            (a as f64 + (b as f64 - a as f64) * step as f64 / steps as f64).round() as usize
        };
        dot(at(from.0, to.0), at(from.1, to.1));
    }
}

fn number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        a if (0.01..1_000.0).contains(&a) => format!("{value:.3}"),
        _ => format!("{value:.1e}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rising_line_goes_from_the_lower_left_to_the_upper_right() {
        let lines = lines(&[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0], 4, 2);
        assert_eq!(lines, ["    7.000 │⠀⠀⡠⠊", "        0 │⡠⠊⠀⠀"]);
    }

    #[test]
    fn flat_lone_and_missing_values_are_drawn_all_the_same() {
        assert_eq!(lines(&[], 4, 1), ["           (nothing to show yet)"]);
        assert_eq!(lines(&[f64::NAN], 4, 1), ["           (nothing to show yet)"]);
        let flat = lines(&[2.0; 5], 3, 1);
        assert!(flat[0].ends_with("⠤⠤⠤") || flat[0].ends_with("⠒⠒⠒"), "{flat:?}");
        let gap = lines(&[1.0, f64::NAN, 1.0], 5, 1);
        assert!(gap[0].chars().filter(|c| *c == '⠀').count() >= 3, "{gap:?}");
        for n in 1..40 {
            let values: Vec<f64> = (0..n).map(|i| (f64::from(i)).sin()).collect();
            assert_eq!(lines(&values, 7, 3).len(), 3);
        }
    }
}
