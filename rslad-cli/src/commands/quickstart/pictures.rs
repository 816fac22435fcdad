//! The quickstart's picture: the same images, attacked once for the natural and once for the RSLAD
//! student.

use crate::evaluation;
use crate::picture::{Answer, Column, Group, Picture};
use anyhow::{Context, Result};
use rslad_attacks::suite::Suite;
use rslad_attacks::{Linf, Place, Verdict, evaluate};
use rslad_data::{Dataset, in_order};
use rslad_models::{Classifier, Frozen};
use std::collections::HashMap;

/// How the answers of the two are headed.
const HEADINGS: [&str; 2] =
    ["natural student, attacked:", "RSLAD student, which never saw a label, attacked:"];
const IMAGES: usize = 8;
const SUITE: &str = "quick";
const BATCH: usize = 250;

/// The first test images that both students know when clean, under the suite's PGD; not chosen by hand.
pub(super) fn draw(models: [Frozen; 2], data: &Dataset, eps: Linf, seed: u64) -> Result<Vec<u8>> {
    let known = known_to_all(&models, data)?;
    if known.is_empty() {
        return Picture { groups: vec![], columns: vec![], amplify: 1 }.png(); // of students that learned nothing
    }
    let data = data.subset(&known)?;
    let column = |row: usize| -> Result<Column> {
        Ok(Column { x_nat: data.images_f32(&[row])?.get(0)?, label: class(&data, data.label(row)) })
    };
    let columns = (0..data.len()).map(column).collect::<Result<_>>()?;
    let group = |(f, heading): (&Frozen, &&str)| -> Result<Group> {
        Ok(Group { model: (*heading).into(), answers: answers(f, &data, eps, seed)? })
    };
    let groups = models.iter().zip(&HEADINGS).map(group).collect::<Result<_>>()?;
    let amplify = (1.0 / eps.get()).floor().max(1.0) as u32; // the whole radius in nearly full color
    Picture { groups, columns, amplify }.png()
}

fn class(data: &Dataset, label: u32) -> String {
    data.class_names()[label as usize].clone()
}

fn answers(f: &Frozen, data: &Dataset, eps: Linf, seed: u64) -> Result<Vec<Answer>> {
    let mut suite = Suite::load(SUITE)?;
    suite.columns.retain(|column| column.attack.name() == "pgd");
    let mut points = Points::default();
    let batches = in_order(data, BATCH)?.collect::<rslad_data::Result<Vec<_>>>()?;
    evaluate(f, batches.iter().map(evaluation::examples), &suite, eps, seed, &mut points)?;
    let answer = |(row, id): (usize, &u64)| -> Result<Answer> {
        let found = points.0.get(id).context("known images are attacked")?;
        let (predicted, x_adv) = (found.prediction, found.x_adv.clone().context("an attack finds points")?);
        let right = predicted == data.label(row);
        Ok(Answer { x_adv, class: class(data, predicted), right })
    };
    data.ids().iter().enumerate().map(answer).collect()
}

/// The rows of the first images that every model classifies correctly.
fn known_to_all(models: &[Frozen], data: &Dataset) -> Result<Vec<usize>> {
    let all: Vec<usize> = (0..data.len()).collect();
    let x = data.images_f32(&all)?;
    let answers: Vec<Vec<u32>> =
        models.iter().map(|f| Ok(f.logits(&x)?.argmax(1)?.to_vec1()?)).collect::<Result<_>>()?;
    let known = all.into_iter().filter(|&row| answers.iter().all(|a| a[row] == data.label(row)));
    Ok(known.take(IMAGES).collect())
}

/// Keeps what an attack found, by id.
#[derive(Default)]
struct Points(HashMap<u64, Verdict>);

impl rslad_attacks::Observer for Points {
    fn verdicts(&mut self, _: &Place<'_>, verdicts: &[Verdict]) {
        self.0.extend(verdicts.iter().map(|verdict| (verdict.id, verdict.clone())));
    }
}
