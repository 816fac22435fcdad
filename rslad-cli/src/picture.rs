//! The picture of an attack: clean image, perturbation and adversarial image for two models, with what
//! each model answers.

use anyhow::{Context, Result};
use candle_core::Tensor;
use font8x8::UnicodeFonts;
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;

/// What one model made of one image.
pub(crate) struct Answer {
    /// The adversarial image made against it, `[C, H, W]` in `[0, 1]`.
    pub(crate) x_adv: Tensor,
    /// The class it names there.
    pub(crate) class: String,
    /// Whether that is the label.
    pub(crate) right: bool,
}

/// One row of the picture.
pub(crate) struct Row {
    /// The clean image, `[C, H, W]` in `[0, 1]`.
    pub(crate) x_nat: Tensor,
    /// Its label.
    pub(crate) label: String,
    /// One answer a model, in the order of the models.
    pub(crate) answers: Vec<Answer>,
}

const TILE: u32 = 96; // a shown image
const GAP: u32 = 14;
const TEXT: u32 = 22; // a line of text
const INK: Rgb<u8> = Rgb([40, 44, 52]);
const PAPER: Rgb<u8> = Rgb([250, 250, 250]);
const RIGHT: Rgb<u8> = Rgb([20, 130, 60]);
const WRONG: Rgb<u8> = Rgb([200, 30, 40]);

/// Draws the rows under one heading a model; `amplify` is the factor on the perturbations, and is
/// written above them. Returns a PNG.
pub(crate) fn grid(models: &[&str], rows: &[Row], amplify: f32) -> Result<Vec<u8>> {
    let columns = 1 + 2 * models.len() as u32;
    let width = GAP + columns * (TILE + GAP);
    let head = GAP + 2 * TEXT;
    let height = head + rows.len() as u32 * (TILE + TEXT + GAP);
    let mut canvas = RgbImage::from_pixel(width, height, PAPER);
    let left = |column: u32| GAP + column * (TILE + GAP);

    text(&mut canvas, left(0), GAP + TEXT, "clean", INK);
    for (m, model) in models.iter().enumerate() {
        let column = 1 + 2 * m as u32;
        text(&mut canvas, left(column), GAP, &format!("against {model}"), INK);
        text(&mut canvas, left(column), GAP + TEXT, &format!("change x{amplify:.0}"), INK);
        text(&mut canvas, left(column + 1), GAP + TEXT, "attacked", INK);
    }
    for (r, row) in rows.iter().enumerate() {
        let top = head + r as u32 * (TILE + TEXT + GAP);
        tile(&mut canvas, left(0), top, &row.x_nat)?;
        text(&mut canvas, left(0), top + TILE + 6, &format!("is {}", row.label), INK);
        for (m, answer) in row.answers.iter().enumerate() {
            let column = 1 + 2 * m as u32;
            let change = (&answer.x_adv - &row.x_nat)?.affine(f64::from(amplify), 0.5)?; // gray is no change
            tile(&mut canvas, left(column), top, &change)?;
            tile(&mut canvas, left(column + 1), top, &answer.x_adv)?;
            let color = if answer.right { RIGHT } else { WRONG };
            text(&mut canvas, left(column + 1), top + TILE + 6, &format!("says {}", answer.class), color);
        }
    }
    let mut png = Cursor::new(Vec::new());
    canvas.write_to(&mut png, ImageFormat::Png).context("cannot encode the picture")?;
    Ok(png.into_inner())
}

/// An image `[C, H, W]`, gray or color, enlarged by the nearest pixel.
fn tile(canvas: &mut RgbImage, left: u32, top: u32, x: &Tensor) -> Result<()> {
    let (c, h, w) = x.dims3()?;
    let values: Vec<f32> = x.contiguous()?.flatten_all()?.to_vec1()?;
    for (dy, dx) in (0..TILE).flat_map(|dy| (0..TILE).map(move |dx| (dy, dx))) {
        let (y, x) = ((dy as usize * h) / TILE as usize, (dx as usize * w) / TILE as usize);
        let level =
            |channel: usize| (255.0 * values[(channel.min(c - 1) * h + y) * w + x]).clamp(0.0, 255.0) as u8;
        canvas.put_pixel(left + dx, top + dy, Rgb([level(0), level(1), level(2)]));
    }
    Ok(())
}

/// A line of text in letters of 8x16 pixels: each dot of the font is two high, which reads well.
fn text(canvas: &mut RgbImage, left: u32, top: u32, line: &str, color: Rgb<u8>) {
    for (i, letter) in line.chars().enumerate() {
        let Some(glyph) = font8x8::BASIC_FONTS.get(letter) else { continue };
        for (row, bits) in glyph.iter().enumerate() {
            for column in (0..8u32).filter(|column| bits >> column & 1 == 1) {
                for dy in 0..2 {
                    let (x, y) = (left + 8 * i as u32 + column, top + 2 * row as u32 + dy);
                    if x < canvas.width() && y < canvas.height() {
                        canvas.put_pixel(x, y, color);
                    }
                }
            }
        }
    }
}
