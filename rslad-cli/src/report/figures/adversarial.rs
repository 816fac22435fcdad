//! The same images attacked for each model, and what it answers.

use super::kit::{Figure, width_of};
use crate::picture::{Answer, Column, Group, Picture};
use crate::report::gather::Look;
use anyhow::{Context, Result};
use candle_core::{Device, Tensor};
use image::{ExtendedColorType, ImageEncoder, codecs::png::PngEncoder};
use minijinja::HtmlEscape;
use std::fmt::Write as _;

const CELL: usize = 54;
const GAP: usize = 6;
const LINE: usize = 20;

/// A figure for each look.
pub(super) fn grids(found: &crate::report::gather::Found) -> Result<Vec<Figure>> {
    found.looks.iter().enumerate().map(|(i, look)| grid(&format!("adversarial-{i}"), look)).collect()
}

fn grid(name: &str, look: &Look) -> Result<Figure> {
    let eps = crate::result_file::parse_radius(&look.file.eps)?.get();
    // The whole radius in nearly full color.
    let amplify = (1.0 / eps.max(1e-6)).floor().clamp(1.0, 255.0);
    let caption = format!(
        "The first {} images of {} that all models classify correctly, under {} within eps {}. Below each \
         attacked image the perturbation, amplified {amplify:.0} times around gray.",
        look.label.len(),
        look.file.data,
        look.file.attack,
        look.file.eps
    );
    let png = pixels(look, amplify as u32)?;
    let title = "Attacked images".to_string();
    Ok(Figure::of_pixels((name, "adversarial"), title, caption, svg(look, amplify)?, png))
}

fn class(look: &Look, label: u32) -> String {
    look.file.classes.get(label as usize).cloned().unwrap_or_else(|| label.to_string())
}

fn svg(look: &Look, amplify: f64) -> Result<String> {
    let [n, c, h, w] = look.shape;
    let size = c * h * w;
    let width = GAP + n * (CELL + GAP);
    let block = LINE + 2 * CELL + GAP / 2 + LINE + 10;
    let height = LINE + CELL + LINE + 12 + look.file.models.len() * block;
    let mut svg = format!(
        "<svg width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" xmlns=\"http://www.w3.org/2000/svg\">\n"
    );
    let x = |i: usize| GAP + i * (CELL + GAP);
    heading(&mut svg, "clean", LINE - 5);
    for i in 0..n {
        let pixels = &look.x_nat[i * size..(i + 1) * size];
        picture(&mut svg, (x(i), LINE), &encoded(pixels, [c, h, w])?);
        answer(&mut svg, x(i), LINE + CELL + LINE - 5, &class(look, look.label[i]), "#010203");
    }
    let mut top = LINE + CELL + LINE + 12;
    for model in &look.file.models {
        let (points, answers) = &look.attacked[model];
        heading(&mut svg, model, top + LINE - 5);
        for i in 0..n {
            let (nat, adv) = (&look.x_nat[i * size..(i + 1) * size], &points[i * size..(i + 1) * size]);
            let delta: Vec<f32> =
                nat.iter().zip(adv).map(|(a, b)| 0.5 + 0.5 * amplify as f32 * (b - a)).collect();
            picture(&mut svg, (x(i), top + LINE), &encoded(adv, [c, h, w])?);
            picture(&mut svg, (x(i), top + LINE + CELL + GAP / 2), &encoded(&delta, [c, h, w])?);
            let right = answers[i] == look.label[i];
            let said = format!("{} {}", if right { "✓" } else { "✗" }, class(look, answers[i]));
            let color = if right { "#15945A" } else { "#DC3C3C" };
            answer(&mut svg, x(i), top + LINE + 2 * CELL + GAP / 2 + LINE - 5, &said, color);
        }
        top += block;
    }
    Ok(svg + "</svg>\n")
}

fn heading(svg: &mut String, text: &str, y: usize) {
    let text = HtmlEscape(text);
    let _ = writeln!(
        svg,
        "<text x=\"{GAP}\" y=\"{y}\" font-family=\"sans-serif\" font-size=\"14\" font-weight=\"bold\" fill=\"#010203\">{text}</text>"
    );
}

fn picture(svg: &mut String, (x, y): (usize, usize), data: &str) {
    let _ = writeln!(
        svg,
        "<image x=\"{x}\" y=\"{y}\" width=\"{CELL}\" height=\"{CELL}\" style=\"image-rendering:pixelated\" href=\"data:image/png;base64,{data}\"/>"
    );
}

fn answer(svg: &mut String, x: usize, y: usize, text: &str, color: &str) {
    let size = if width_of(text, 15) > CELL as i32 { 10 } else { 12 };
    let short: String = text.chars().take(12).collect();
    let (x, short) = (x + CELL / 2, HtmlEscape(&short));
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" text-anchor=\"middle\" font-family=\"sans-serif\" font-size=\"{size}\" fill=\"{color}\">{short}</text>"
    );
}

/// An image as PNG in base 64.
fn encoded(pixels: &[f32], [c, h, w]: [usize; 3]) -> Result<String> {
    let byte = |v: f32| (255.0 * v.clamp(0.0, 1.0)).round() as u8;
    let interleaved: Vec<u8> = match c {
        1 => pixels.iter().map(|&v| byte(v)).collect(),
        _ => (0..h * w).flat_map(|at| (0..3).map(move |k| byte(pixels[k * h * w + at]))).collect(),
    };
    let kind = if c == 1 { ExtendedColorType::L8 } else { ExtendedColorType::Rgb8 };
    let mut png = vec![];
    PngEncoder::new(&mut png)
        .write_image(&interleaved, w as u32, h as u32, kind)
        .context("encoding a PNG")?;
    Ok(base64(&png))
}

/// RFC 4648, section 4.
fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().enumerate().fold(0u32, |word, (i, &b)| word | u32::from(b) << (16 - 8 * i));
        for i in 0..4 {
            let digit = DIGITS[(word >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= chunk.len() { digit as char } else { '=' });
        }
    }
    text
}

/// The same as one picture.
fn pixels(look: &Look, amplify: u32) -> Result<Vec<u8>> {
    let [n, c, h, w] = look.shape;
    let image = |values: &[f32], i: usize| -> Result<Tensor> {
        let size = c * h * w;
        Ok(Tensor::from_vec(values[i * size..(i + 1) * size].to_vec(), (c, h, w), &Device::Cpu)?)
    };
    let column = |i: usize| Ok(Column { x_nat: image(&look.x_nat, i)?, label: class(look, look.label[i]) });
    let columns = (0..n).map(column).collect::<Result<_>>()?;
    let group = |model: &String| -> Result<Group> {
        let (points, answers) = &look.attacked[model];
        let answer = |i: usize| -> Result<Answer> {
            let class = format!("says {}", class(look, answers[i]));
            Ok(Answer { x_adv: image(points, i)?, class, right: answers[i] == look.label[i] })
        };
        Ok(Group { model: model.clone(), answers: (0..n).map(answer).collect::<Result<_>>()? })
    };
    let groups = look.file.models.iter().map(group).collect::<Result<_>>()?;
    Picture { groups, columns, amplify }.png()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        let vectors = [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("foobar", "Zm9vYmFy"),
        ];
        for (plain, coded) in vectors {
            assert_eq!(base64(plain.as_bytes()), coded);
        }
    }
}
