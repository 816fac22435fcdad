//! What all figures are made with.

use super::style::{INK, TEXT};
use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// A canvas in pixels.
pub(crate) type Canvas<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// A figure.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// The name of its files.
    pub(crate) name: String,
    /// The section of the report that shows it.
    pub(crate) section: &'static str,
    pub(crate) title: String,
    pub(crate) caption: String,
    svg: String,
    /// A picture of pixels, which is not made from the SVG.
    pixels: Option<Vec<u8>>,
}

impl Figure {
    /// A figure that is drawn by `draw` on a canvas of this size.
    pub(crate) fn new(
        (name, section): (&str, &'static str),
        title: String,
        caption: String,
        size: (u32, u32),
        draw: impl FnOnce(&Canvas<'_>) -> Result<()>,
    ) -> Result<Self> {
        let mut svg = String::new();
        {
            let canvas = SVGBackend::with_string(&mut svg, size).into_drawing_area();
            draw(&canvas)?;
            canvas.present().map_err(drawing)?;
        }
        Ok(Self { name: name.into(), section, title, caption, svg: without_dots(&svg), pixels: None })
    }

    /// A figure of which both forms are there.
    pub(crate) fn of_pixels(
        (name, section): (&str, &'static str),
        title: String,
        caption: String,
        svg: String,
        png: Vec<u8>,
    ) -> Self {
        Self { name: name.into(), section, title, caption, svg, pixels: Some(png) }
    }

    /// As part of a page: in the page's own color and type.
    pub(crate) fn inline(&self) -> String {
        let from = self.svg.find("<svg").unwrap_or(0);
        let label = minijinja::HtmlEscape(&self.title).to_string();
        let open = format!("<svg role=\"img\" aria-label=\"{label}\"");
        self.svg[from..].replacen("<svg", &open, 1).replace(&hex(INK), "currentColor")
    }

    /// As a file: dark on white.
    pub(crate) fn file(&self) -> String {
        let white = "<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n";
        let text = self.svg.replace(&hex(INK), "#1B2430");
        match text.find("<svg").and_then(|at| Some(at + text[at..].find('>')? + 1)) {
            Some(end) => format!("{}\n{white}{}", &text[..end], &text[end..]),
            None => text,
        }
    }

    /// As a picture of pixels, where this build can make one.
    pub(crate) fn png(&self) -> Result<Option<Vec<u8>>> {
        match &self.pixels {
            Some(png) => Ok(Some(png.clone())),
            None => rendered(&self.file()),
        }
    }
}

/// Without lines of no length, which the plotting library makes of the last dash of a dashed line: they show
/// nothing, and renderers complain.
fn without_dots(svg: &str) -> String {
    let is_dot = |element: &str| {
        let rest = element.strip_prefix("<polyline").and_then(|rest| rest.split_once(" points=\""));
        let Some(points) = rest.and_then(|(_, rest)| rest.split('"').next()) else { return false };
        let mut points = points.split_whitespace();
        let first = points.next();
        points.all(|point| Some(point) == first)
    };
    svg.split_inclusive('\n').filter(|line| !is_dot(line)).collect()
}

#[cfg(feature = "png")]
fn rendered(svg: &str) -> Result<Option<Vec<u8>>> {
    use resvg::{tiny_skia, usvg};
    /// DejaVu Sans, cut down to the characters of figures.
    const FONT: &[u8] = include_bytes!("../../../assets/figures.ttf");
    const SCALE: f32 = 2.0;
    let mut options = usvg::Options { font_family: "DejaVu Sans".into(), ..usvg::Options::default() };
    options.fontdb_mut().load_font_data(FONT.to_vec());
    options.fontdb_mut().set_sans_serif_family("DejaVu Sans");
    let tree = usvg::Tree::from_str(svg, &options)?;
    let size = tree.size().to_int_size();
    let scaled = |side: u32| (side as f32 * SCALE) as u32;
    let mut pixels = tiny_skia::Pixmap::new(scaled(size.width()), scaled(size.height()))
        .ok_or_else(|| anyhow!("a figure has no size"))?;
    resvg::render(&tree, tiny_skia::Transform::from_scale(SCALE, SCALE), &mut pixels.as_mut());
    Ok(Some(pixels.encode_png()?))
}

#[cfg(not(feature = "png"))]
fn rendered(_: &str) -> Result<Option<Vec<u8>>> {
    Ok(None)
}

/// An error of the plotting library.
pub(crate) fn drawing(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("drawing: {error}")
}

/// A color as the plotting library writes it.
fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02X}{g:02X}{b:02X}")
}

/// Text around a point.
pub(crate) fn text(
    canvas: &Canvas<'_>,
    text: &str,
    at: (i32, i32),
    (h, v): (HPos, VPos),
    (size, color): (u32, RGBAColor),
) -> Result<()> {
    let style = TextStyle::from(("sans-serif", size).into_font()).color(&color).pos(Pos::new(h, v));
    canvas.draw(&Text::new(text.to_string(), at, style)).map_err(drawing)
}

/// How wide a text will be, roughly: no font is at hand while drawing.
pub(crate) fn width_of(text: &str, size: u32) -> i32 {
    (text.chars().count() as f64 * f64::from(size) * 0.48).ceil() as i32
}

/// An entry of a legend.
pub(crate) struct Entry {
    pub(crate) label: String,
    pub(crate) color: RGBColor,
    pub(crate) dashes: Option<(i32, i32)>,
}

const LEGEND_LINE: i32 = 24;
const LEGEND_MARK: i32 = 26;

/// Where the entries of a legend begin, in as many lines as it takes, and its height.
fn places(entries: &[Entry], width: i32) -> (Vec<(i32, i32)>, i32) {
    let (mut x, mut y) = (8, LEGEND_LINE / 2 + 2);
    let mut places = vec![];
    for entry in entries {
        let needed = LEGEND_MARK + 6 + width_of(&entry.label, TEXT) + 14;
        if x + needed > width && x > 8 {
            (x, y) = (8, y + LEGEND_LINE);
        }
        places.push((x, y));
        x += needed;
    }
    (places, y + LEGEND_LINE / 2 + 4)
}

/// How high a legend is.
pub(crate) fn legend_height(entries: &[Entry], width: u32) -> i32 {
    places(entries, width as i32).1
}

/// Draws a legend from the top left; returns its height.
pub(crate) fn legend(canvas: &Canvas<'_>, entries: &[Entry]) -> Result<i32> {
    let (places, height) = places(entries, canvas.dim_in_pixel().0 as i32);
    for (Entry { label, color, dashes }, (x, y)) in entries.iter().zip(places) {
        line(canvas, &[(x, y), (x + LEGEND_MARK, y)], *color, *dashes)?;
        text(canvas, label, (x + LEGEND_MARK + 6, y), (HPos::Left, VPos::Center), (TEXT, INK.mix(0.95)))?;
    }
    Ok(height)
}

/// A line in pixels.
fn line(
    canvas: &Canvas<'_>,
    points: &[(i32, i32)],
    color: RGBColor,
    dashes: Option<(i32, i32)>,
) -> Result<()> {
    let style = color.stroke_width(3);
    match dashes {
        None => canvas.draw(&PathElement::new(points.to_vec(), style)).map_err(drawing),
        Some((on, off)) => {
            let (mut x, y, end) = (points[0].0, points[0].1, points[1].0);
            while x < end {
                let dash = vec![(x, y), ((x + on).min(end), y)];
                canvas.draw(&PathElement::new(dash, style)).map_err(drawing)?;
                x += on + off;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_no_length_is_left_out() {
        let line = |points: &str| format!("<polyline fill=\"none\" points=\"{points} \"/>\n");
        let svg =
            |lines: &[&str]| format!("<svg>\n{}</svg>\n", lines.iter().map(|p| line(p)).collect::<String>());
        let drawn = svg(&["1,1 2,2", "1,2 1,2", "3,3", "1,2 1,2 1,3"]);
        assert_eq!(without_dots(&drawn), svg(&["1,1 2,2", "1,2 1,2 1,3"]));
        let dashed = ((4, 4), 9); // ends within a pixel of a dash's end
        let figure = Figure::new(("a", "b"), String::new(), String::new(), (40, 40), |canvas| {
            let ((on, off), end) = dashed;
            let points = (0..=end).map(|x| (x, 5));
            canvas.draw(&PathElement::new(vec![(end, 5), (end, 5)], BLACK)).map_err(drawing)?;
            points.step_by(on + off).try_for_each(|(x, y)| {
                canvas.draw(&PathElement::new(vec![(x, y), (x + on as i32, y)], BLACK)).map_err(drawing)
            })
        });
        assert_eq!(figure.unwrap().svg.matches("<polyline").count(), 2);
    }
}
