//! Encoded pictures, as the hub's files and folders hold them: PNG and WebP, told apart by their bytes.
//!
//! A decoded picture is rows of pixels of one or three values; ours are planes, row by row each.

use image::codecs::{png::PngDecoder, webp::WebPDecoder};
use image::{ColorType, DynamicImage, ImageDecoder, ImageError, ImageFormat};
use std::io::Cursor;

/// The largest side of a picture: what is larger is no training image.
const MAX_SIDE: u32 = 1024;

/// A decoded picture.
pub(crate) struct Picture {
    /// `[C, H, W]`, of one channel for gray and three for color.
    pub(crate) shape: [usize; 3],
    /// In row-major order.
    pub(crate) values: Vec<u8>,
}

/// Decodes a picture, of these sides (height, width) if they are known: they are looked at before
/// anything of that size is allocated.
///
/// # Errors
/// When it is none, damaged, of other sides, of more than 8 bits, or transparent: says what.
pub(crate) fn decode(bytes: &[u8], sides: Option<(u32, u32)>) -> Result<Picture, String> {
    let bytes = Cursor::new(bytes);
    match image::guess_format(bytes.get_ref()) {
        Ok(ImageFormat::Png) => PngDecoder::new(bytes).map_err(damaged).and_then(|d| planes(d, sides)),
        Ok(ImageFormat::WebP) => WebPDecoder::new(bytes).map_err(damaged).and_then(|d| planes(d, sides)),
        _ => Err("a picture that is neither PNG nor WebP".to_owned()),
    }
}

fn planes(decoder: impl ImageDecoder, sides: Option<(u32, u32)>) -> Result<Picture, String> {
    let (width, height) = decoder.dimensions();
    match sides {
        Some((h, w)) if (h, w) != (height, width) => {
            return Err(format!("a picture of {width}x{height} pixels, expected {w}x{h}"));
        }
        _ if width.max(height) > MAX_SIDE => {
            return Err(format!(
                "a picture of {width}x{height} pixels, expected sides of at most {MAX_SIDE}"
            ));
        }
        _ => {}
    }
    let color = decoder.color_type();
    let picture = DynamicImage::from_decoder(decoder).map_err(damaged)?;
    let (channels, pixels) = match color {
        ColorType::L8 => (1, picture.into_luma8().into_raw()),
        ColorType::Rgb8 => (3, picture.into_rgb8().into_raw()),
        ColorType::La8 | ColorType::Rgba8 if picture.to_rgba8().pixels().any(|p| p.0[3] != 255) => {
            return Err("a picture with transparent pixels, expected none".to_owned());
        }
        ColorType::La8 => (1, picture.into_luma8().into_raw()),
        ColorType::Rgba8 => (3, picture.into_rgb8().into_raw()),
        other => return Err(format!("a picture of {other:?} pixels, expected 8 bits a channel")),
    };
    let plane = height as usize * width as usize;
    let mut values = vec![0; channels * plane];
    for (at, pixel) in pixels.chunks_exact(channels).enumerate() {
        for (channel, value) in pixel.iter().enumerate() {
            values[channel * plane + at] = *value;
        }
    }
    Ok(Picture { shape: [channels, height as usize, width as usize], values })
}

fn damaged(error: ImageError) -> String {
    format!("a damaged picture ({error})")
}
