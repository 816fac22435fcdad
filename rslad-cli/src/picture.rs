//! The picture of an attack: a column of tiles for each image, a group of rows for each model, under
//! every attacked image what the model answers, right in green and wrong in red.

mod canvas;
pub(crate) mod sheet;

use anyhow::Result;
use candle_core::Tensor;
use canvas::{Canvas, INK, LETTER, PALE, RIGHT, WRONG};

/// What a picture shows.
pub(crate) struct Picture {
    /// One for each model.
    pub(crate) groups: Vec<Group>,
    /// One for each image.
    pub(crate) columns: Vec<Column>,
    /// The factor that makes the perturbations visible; it is written beside them.
    pub(crate) amplify: u32,
}

/// An image, `[C, H, W]` in `[0, 1]`, and its label.
pub(crate) struct Column {
    pub(crate) x_nat: Tensor,
    pub(crate) label: String,
}

/// A model and its answers.
pub(crate) struct Group {
    /// The heading.
    pub(crate) model: String,
    /// One for each column.
    pub(crate) answers: Vec<Answer>,
}

/// What a model made of one image.
pub(crate) struct Answer {
    /// The adversarial image made against it, `[C, H, W]` in `[0, 1]`.
    pub(crate) x_adv: Tensor,
    /// The class it names there.
    pub(crate) class: String,
    /// Whether that is the label.
    pub(crate) right: bool,
}

const MARGIN: u32 = 20;
const TILE: u32 = 84;
const STEP: u32 = TILE + 12; // from a tile to its right neighbor
const CAPTION: u32 = 26; // a line under a tile, with its distance
const HEADING: u32 = 44; // a group's, with the space above it
const SIDE: u32 = 10 * LETTER; // what the rows are called

impl Picture {
    /// The picture as a PNG.
    pub(crate) fn png(&self) -> Result<Vec<u8>> {
        let width = MARGIN + SIDE + self.columns.len() as u32 * STEP + MARGIN - (STEP - TILE);
        let group = HEADING + 2 * (TILE + 10) + CAPTION;
        let height = MARGIN + TILE + CAPTION + self.groups.len() as u32 * group + MARGIN / 2;
        let mut canvas = Canvas::new(width, height);

        let mut top = MARGIN;
        canvas.text(MARGIN, top + TILE / 2 - 8, "clean", INK);
        for (left, column) in self.lefts().zip(&self.columns) {
            canvas.image(left, top, TILE, &column.x_nat)?;
            canvas.text(left, top + TILE + 6, &column.label, INK);
        }
        top += TILE + CAPTION;
        for group in &self.groups {
            top = self.group(&mut canvas, top, group)?;
        }
        canvas.png()
    }

    fn lefts(&self) -> impl Iterator<Item = u32> {
        (0..self.columns.len() as u32).map(|column| MARGIN + SIDE + column * STEP)
    }

    /// Draws a group below `top`; returns where it ends.
    fn group(&self, canvas: &mut Canvas, top: u32, group: &Group) -> Result<u32> {
        let wrong = group.answers.iter().filter(|answer| !answer.right).count();
        let verdict = format!("wrong on {wrong} of {}", group.answers.len());
        canvas.rule(MARGIN, top + 6, PALE);
        let heading = top + 18;
        canvas.text(MARGIN, heading, &group.model, INK);
        let color = if 2 * wrong > group.answers.len() { WRONG } else { RIGHT };
        canvas.text(MARGIN + (group.model.len() as u32 + 2) * LETTER, heading, &verdict, color);

        let changes = top + HEADING;
        let attacked = changes + TILE + 10;
        canvas.text(MARGIN, changes + TILE / 2 - 16, "change", INK);
        canvas.text(MARGIN, changes + TILE / 2, &format!("x{}", self.amplify), INK);
        canvas.text(MARGIN, attacked + TILE / 2 - 8, "attacked", INK);
        for ((left, column), answer) in self.lefts().zip(&self.columns).zip(&group.answers) {
            let change = ((&answer.x_adv - &column.x_nat)? * f64::from(self.amplify))?;
            canvas.frame(left, changes, TILE, 1, PALE);
            canvas.change(left, changes, TILE, &change)?;
            let color = if answer.right { RIGHT } else { WRONG };
            canvas.frame(left, attacked, TILE, 3, color);
            canvas.image(left, attacked, TILE, &answer.x_adv)?;
            canvas.text(left, attacked + TILE + 8, &answer.class, color);
        }
        Ok(attacked + TILE + 10 + CAPTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;
    use image::RgbImage;

    fn decoded(picture: &Picture) -> RgbImage {
        image::load_from_memory(&picture.png().unwrap()).unwrap().to_rgb8()
    }

    fn picture(shape: (usize, usize, usize), level: f32, shift: f32, right: bool) -> Picture {
        let x_nat = Tensor::full(level, shape, &Device::Cpu).unwrap();
        let x_adv = Tensor::full(level + shift, shape, &Device::Cpu).unwrap();
        let answer = || Answer { x_adv: x_adv.clone(), class: "3".into(), right };
        let column = || Column { x_nat: x_nat.clone(), label: "2".into() };
        let group = |model: &str| Group { model: model.into(), answers: vec![answer(), answer()] };
        Picture { groups: vec![group("a"), group("b")], columns: vec![column(), column()], amplify: 4 }
    }

    /// The middles of the tiles of the first column: clean, change and attacked of the first group.
    fn middles(image: &RgbImage) -> [[u8; 3]; 3] {
        let x = MARGIN + SIDE + TILE / 2;
        let change = MARGIN + TILE + CAPTION + HEADING;
        [MARGIN, change, change + TILE + 10].map(|top| image.get_pixel(x, top + TILE / 2).0)
    }

    #[test]
    fn gray_images_are_shown_gray_and_their_change_in_two_colors() {
        let [clean, change, attacked] = middles(&decoded(&picture((1, 8, 8), 0.5, 0.125, false)));
        assert_eq!((clean, attacked), ([127; 3], [159; 3]));
        assert!(change[0] > change[2], "brighter is amber: {change:?}");
        let [_, change, _] = middles(&decoded(&picture((1, 8, 8), 0.5, -0.125, false)));
        assert!(change[2] > change[0], "darker is blue: {change:?}");
        let [_, change, _] = middles(&decoded(&picture((1, 8, 8), 0.5, 0.0, false)));
        assert_eq!(change, [255; 3], "no change is white");
    }

    #[test]
    fn color_images_keep_their_channels() {
        let mut picture = picture((3, 32, 32), 0.0, 0.0, true);
        let red = Tensor::new(&[1f32, 0.5, 0.0], &Device::Cpu).unwrap();
        let red = red.reshape((3, 1, 1)).unwrap().broadcast_as((3, 32, 32)).unwrap();
        picture.groups[0].answers[0].x_adv = red.contiguous().unwrap();
        let [clean, change, attacked] = middles(&decoded(&picture));
        assert_eq!((clean, attacked), ([0; 3], [255, 127, 0]));
        assert_eq!(change, [255, 255, 127], "gray is no change, in each channel");
    }

    #[test]
    fn eight_digits_fit_a_readme() {
        let mut wide = picture((1, 8, 8), 0.2, 0.1, true);
        for _ in 2..8 {
            let last = &wide.columns[0];
            wide.columns.push(Column { x_nat: last.x_nat.clone(), label: "ankle boot".into() });
        }
        let (width, height) = decoded(&wide).dimensions();
        assert!(width <= 900 && height <= 700, "{width}x{height}");
    }
}
