//! Colors, type and line styles: a method looks the same in every figure, and none is told by color
//! alone.

use plotters::style::RGBColor;

/// Text and axes; becomes `currentColor` inline.
pub(crate) const INK: RGBColor = RGBColor(1, 2, 3);
/// The fill of matrices and of what is not a method.
pub(crate) const BLUE: RGBColor = RGBColor(59, 130, 246);
/// What went wrong.
pub(crate) const RED: RGBColor = RGBColor(220, 60, 60);

/// The size of a chart in pixels. Small, so that its text stays readable on a phone.
pub(crate) const WIDTH: u32 = 480;
/// The height of a chart under its legend.
pub(crate) const PLOT: u32 = 298;
/// The size of text as the plotting library counts it, which is 1.24 times that of SVG.
pub(crate) const TEXT: u32 = 17;

/// The color of a method, readable on white and on near-black.
pub(crate) fn color(method: &str) -> RGBColor {
    let known = [
        ("natural", RGBColor(124, 133, 145)),
        ("sat", RGBColor(217, 119, 6)),
        ("trades", RGBColor(13, 148, 136)),
        ("mart", RGBColor(161, 98, 7)),
        ("ard", RGBColor(147, 92, 246)),
        ("iad", RGBColor(219, 39, 119)),
        ("rslad", BLUE),
    ];
    let found = known.iter().find(|(name, _)| method.starts_with(name));
    found.map_or(RGBColor(101, 163, 13), |(_, color)| *color)
}

/// Whether lines of a method are dashed: the rivals that know labels, so that RSLAD stands out in gray.
pub(crate) fn dashes(method: &str) -> Option<(i32, i32)> {
    match method {
        name if name.starts_with("rslad") => None,
        name if name.starts_with("natural") => Some((2, 4)),
        name if name.starts_with("sat") => Some((10, 4)),
        name if name.starts_with("trades") => Some((6, 3)),
        _ => Some((4, 3)),
    }
}

/// How lines look that stand for variants of one method, which the method's color would not tell apart.
pub(crate) fn of_variant(index: usize) -> (RGBColor, Option<(i32, i32)>) {
    const COLORS: [RGBColor; 7] = [
        BLUE,
        RGBColor(217, 119, 6),
        RGBColor(13, 148, 136),
        RGBColor(219, 39, 119),
        RGBColor(147, 92, 246),
        RGBColor(101, 163, 13),
        RGBColor(124, 133, 145),
    ];
    const DASHES: [Option<(i32, i32)>; 4] = [None, Some((10, 4)), Some((2, 4)), Some((6, 3))];
    let (color, round) = (index % COLORS.len(), index / COLORS.len());
    (COLORS[color], DASHES[(color + round) % DASHES.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lines_of_a_chart_differ() {
        let looks: Vec<_> = (0..28).map(of_variant).collect();
        for (i, look) in looks.iter().enumerate() {
            assert!(!looks[..i].contains(look), "{i} looks like one before it");
        }
    }
}
