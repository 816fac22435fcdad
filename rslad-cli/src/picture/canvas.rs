//! Pixels: images enlarged by the nearest pixel, letters of a bitmap font, rules and frames.

use anyhow::{Context, Result};
use candle_core::Tensor;
use font8x8::UnicodeFonts;
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;

pub(super) const INK: Rgb<u8> = Rgb([40, 44, 52]);
pub(super) const PALE: Rgb<u8> = Rgb([208, 212, 218]);
pub(super) const RIGHT: Rgb<u8> = Rgb([20, 130, 60]);
pub(super) const WRONG: Rgb<u8> = Rgb([200, 30, 40]);
const PAPER: Rgb<u8> = Rgb([255, 255, 255]);
const AMBER: [f32; 3] = [0.9, 0.55, 0.1];
const BLUE: [f32; 3] = [0.2, 0.4, 0.75];

/// The width of a letter.
pub(super) const LETTER: u32 = 8;

/// What is drawn on.
pub(super) struct Canvas(RgbImage);

impl Canvas {
    pub(super) fn new(width: u32, height: u32) -> Self {
        Self(RgbImage::from_pixel(width, height, PAPER))
    }

    /// An image `[C, H, W]` in `[0, 1]`, gray or color.
    pub(super) fn image(&mut self, left: u32, top: u32, side: u32, x: &Tensor) -> Result<()> {
        self.tile(left, top, side, x, |v| if let [r, g, b] = *v { [r, g, b] } else { [v[0]; 3] })
    }

    /// A difference `[C, H, W]` of two images. Of gray images: white where nothing changed, amber where
    /// it became brighter, blue where darker. Of color images: gray where nothing changed.
    pub(super) fn change(&mut self, left: u32, top: u32, side: u32, dx: &Tensor) -> Result<()> {
        self.tile(left, top, side, dx, |v| match *v {
            [r, g, b] => [r, g, b].map(|v| 0.5 + v / 2.0),
            _ if v[0] > 0.0 => AMBER.map(|full| 1.0 - v[0] * (1.0 - full)),
            _ => BLUE.map(|full| 1.0 + v[0] * (1.0 - full)),
        })
    }

    /// The pixels of a tensor `[C, H, W]` as colors.
    fn tile(
        &mut self,
        left: u32,
        top: u32,
        side: u32,
        x: &Tensor,
        color: impl Fn(&[f32]) -> [f32; 3],
    ) -> Result<()> {
        let (c, h, w) = x.dims3()?;
        let pixels: Vec<f32> = x.permute((1, 2, 0))?.contiguous()?.flatten_all()?.to_vec1()?; // [H, W, C]
        for (dy, dx) in (0..side).flat_map(|dy| (0..side).map(move |dx| (dy, dx))) {
            let at = (dy as usize * h / side as usize) * w + dx as usize * w / side as usize;
            let levels = color(&pixels[c * at..c * (at + 1)]).map(|v| (255.0 * v).clamp(0.0, 255.0) as u8);
            self.dot(left + dx, top + dy, Rgb(levels));
        }
        Ok(())
    }

    /// A frame around a tile, as thick as `by`; the tile comes over it.
    pub(super) fn frame(&mut self, left: u32, top: u32, side: u32, by: u32, color: Rgb<u8>) {
        for (x, y) in (0..side + 2 * by).flat_map(|y| (0..side + 2 * by).map(move |x| (x, y))) {
            self.dot(left + x - by, top + y - by, color);
        }
    }

    /// A horizontal line from `left` to as far from the right edge.
    pub(super) fn rule(&mut self, left: u32, top: u32, color: Rgb<u8>) {
        for x in left..self.0.width().saturating_sub(left) {
            self.dot(x, top, color);
        }
    }

    /// A line of text, 16 pixels high: each dot of the font is two high, which reads well.
    pub(super) fn text(&mut self, left: u32, top: u32, line: &str, color: Rgb<u8>) {
        for (i, letter) in line.chars().enumerate() {
            let Some(glyph) = font8x8::BASIC_FONTS.get(letter) else { continue };
            for (row, bits) in glyph.iter().enumerate() {
                for column in (0..8u32).filter(|column| bits >> column & 1 == 1) {
                    let (x, y) = (left + LETTER * i as u32 + column, top + 2 * row as u32);
                    self.dot(x, y, color);
                    self.dot(x, y + 1, color);
                }
            }
        }
    }

    fn dot(&mut self, x: u32, y: u32, color: Rgb<u8>) {
        if let Some(pixel) = self.0.get_pixel_mut_checked(x, y) {
            *pixel = color;
        }
    }

    /// The canvas as a PNG.
    pub(super) fn png(&self) -> Result<Vec<u8>> {
        let mut png = Cursor::new(Vec::new());
        self.0.write_to(&mut png, ImageFormat::Png).context("cannot encode the picture")?;
        Ok(png.into_inner())
    }
}
