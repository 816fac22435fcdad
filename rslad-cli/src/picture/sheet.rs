//! A contact sheet: a row of images for each class, so that a person sees whether labels and
//! orientation are right.

use super::canvas::{Canvas, INK, LETTER};
use anyhow::Result;
use rslad_data::Dataset;

const COLUMNS: usize = 10;
const NAME: u32 = 19 * LETTER; // the longest class name has 18 letters
const GAP: u32 = 4;

/// The first images of each class as a PNG.
pub(crate) fn sheet(data: &Dataset) -> Result<Vec<u8>> {
    let [_, height, width] = data.shape();
    let longest = height.max(width) as u32;
    let tile = longest * (64 / longest).max(1); // whole multiples: no pixel wider than another
    let rows = rows(data);
    let full = NAME + 2 * GAP + COLUMNS as u32 * (tile + GAP);
    let mut canvas = Canvas::new(full, GAP + rows.len() as u32 * (tile + GAP));
    for (row, (name, members)) in rows.iter().enumerate() {
        let top = GAP + row as u32 * (tile + GAP);
        canvas.text(GAP, top + tile.saturating_sub(16) / 2, name, INK);
        for (column, &member) in members.iter().enumerate() {
            let left = NAME + GAP + column as u32 * (tile + GAP);
            canvas.image(left, top, tile, &data.images_f32(&[member])?.get(0)?)?;
        }
    }
    canvas.png()
}

/// The classes that have images, with the rows of the first of them.
fn rows(data: &Dataset) -> Vec<(String, Vec<usize>)> {
    let mut of: Vec<Vec<usize>> = vec![vec![]; data.n_classes()];
    for (row, &label) in data.labels().iter().enumerate() {
        if let Some(members) = of.get_mut(label as usize).filter(|members| members.len() < COLUMNS) {
            members.push(row);
        }
    }
    let mut rows: Vec<(String, Vec<usize>)> = data.class_names().iter().cloned().zip(of).collect();
    rows.retain(|(_, members)| !members.is_empty());
    if rows.is_empty() {
        rows.push(("no label".into(), (0..data.len().min(COLUMNS)).collect()));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use rslad_data::{Split, open};

    #[test]
    fn a_sheet_has_a_row_for_each_class_and_shows_images_upright() {
        let data = open("digits", Split::Test).unwrap();
        let sheet = image::load_from_memory(&sheet(&data).unwrap()).unwrap().into_luma8();
        assert_eq!(sheet.dimensions(), (NAME + 8 + 10 * 68, 4 + 10 * 68));
        let first = rows(&data)[3].1[0]; // the first three, as it is stored
        let rslad_data::Image::Levels { values, full_scale } = data.image(first) else { panic!("bytes") };
        for (at, &value) in values.iter().enumerate() {
            let (x, y) = (NAME + 4 + 8 * (at as u32 % 8) + 4, 4 + 3 * 68 + 8 * (at as u32 / 8) + 4);
            let expected = (255.0 * f32::from(value) / f32::from(full_scale)) as u8;
            assert!(sheet.get_pixel(x, y).0[0].abs_diff(expected) <= 1, "pixel {at}");
        }
    }
}
