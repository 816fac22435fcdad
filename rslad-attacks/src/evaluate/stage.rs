//! One attack on all examples that stand: lanes that are refilled, judged by fresh forwards.

use super::{Ledger, Observer, Protocol, Source};
use crate::attack::{Attack, Finished, Judged, Search, Stage, judge};
use crate::ball::Order;
use crate::error::{Error, Result};
use crate::suite::Column;
use candle_core::{Device, Tensor};
use rslad_models::Classifier;
use std::collections::{HashMap, VecDeque};

/// Which attack of an evaluation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The column's name.
    pub column: &'a str,
    /// The attack's name in the column.
    pub attack: &'a str,
    /// Its place among the column's attacks, from 0.
    pub number: usize,
    /// How many those are.
    pub of: usize,
}

impl Place<'_> {
    /// Whether no attack of the column comes after it.
    pub fn is_last(&self) -> bool {
        self.number + 1 == self.of
    }
}

/// What an attack did to an example.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// The example.
    pub id: u64,
    /// Whether the label held.
    pub robust: bool,
    /// The class at the point found.
    pub prediction: u32,
    /// Whether all logits at the point found are finite. Where they are not the label did not hold.
    pub finite: bool,
    /// How far the point is from the image.
    pub linf: f32,
    /// Whether the label still does not hold when the point is rounded to 8 bits; false where it held.
    pub survives_8_bit: bool,
    /// The point, `[C, H, W]`: what a single attack found, and the image where an ensemble has left it
    /// standing. A ledger may not keep it.
    pub x_adv: Option<Tensor>,
}

/// A single attack as an ensemble of one.
pub(super) fn alone(column: &Column) -> Vec<(&str, &dyn Attack)> {
    vec![(column.attack.name(), column.attack.as_ref())]
}

pub(super) fn of_ensemble(stages: &[Stage]) -> Vec<(&str, &dyn Attack)> {
    stages.iter().map(|stage| (stage.name.as_str(), stage.attack.as_ref())).collect()
}

/// An attack on examples of a source.
pub(super) struct Run<'a> {
    pub(super) protocol: &'a Protocol<'a>,
    pub(super) f: &'a dyn Classifier,
    pub(super) source: &'a dyn Source,
    pub(super) ids: &'a [u64],
    pub(super) place: Place<'a>,
    pub(super) attack: &'a dyn Attack,
}

impl Run<'_> {
    /// The verdicts on these rows, by id.
    pub(super) fn go(
        &self,
        rows: &[usize],
        ledger: &mut dyn Ledger,
        observer: &mut dyn Observer,
    ) -> Result<HashMap<u64, Verdict>> {
        let (mut verdicts, mut queue) = (HashMap::new(), VecDeque::new());
        for &row in rows {
            match ledger.find(&self.place, self.ids[row]) {
                Some(verdict) => {
                    verdicts.insert(verdict.id, verdict);
                }
                None => queue.push_back(row),
            }
        }
        observer.stage(&self.place, rows.len(), verdicts.len());
        if !verdicts.is_empty() {
            let known: Vec<Verdict> = verdicts.values().cloned().collect();
            observer.verdicts(&self.place, &known);
        }
        let row_of: HashMap<u64, usize> = queue.iter().map(|&row| (self.ids[row], row)).collect();
        let mut search: Option<Box<dyn Search + '_>> = None;
        while !queue.is_empty() || search.as_ref().is_some_and(|search| search.lanes() > 0) {
            let search = self.refill(&mut search, &mut queue)?;
            let lanes = search.lanes();
            let finished = search.advance(self.f)?;
            observer.advanced(&self.place, lanes);
            if finished.is_empty() {
                continue;
            }
            let decided = self.judge(&row_of, &finished)?;
            ledger.add(&self.place, &decided)?;
            observer.verdicts(&self.place, &decided);
            let light = decided.into_iter().map(|v| (v.id, Verdict { x_adv: None, ..v }));
            verdicts.extend(light); // the points are the ledger's and the observer's
        }
        match verdicts.len() == rows.len() {
            true => Ok(verdicts),
            false => Err(Error::Search(format!(
                "the search of {} ended with {} points, expected one for each of {} examples",
                self.place.attack,
                verdicts.len(),
                rows.len()
            ))),
        }
    }

    /// Fills free lanes from the queue.
    fn refill<'s, 'a>(
        &'a self,
        search: &'s mut Option<Box<dyn Search + 'a>>,
        queue: &mut VecDeque<usize>,
    ) -> Result<&'s mut Box<dyn Search + 'a>> {
        let open = search.as_ref().map_or(0, |search| search.lanes());
        let free = self.protocol.lanes.max(1).saturating_sub(open).min(queue.len());
        if free > 0 {
            let rows: Vec<usize> = queue.drain(..free).collect();
            let problem = self.protocol.problem(self.f, self.source, &rows)?;
            match search {
                Some(search) => search.admit(&problem)?,
                None => *search = Some(self.attack.begin(&problem)?),
            }
        }
        search.as_mut().ok_or_else(|| Error::Search("there is nothing to search".to_owned()))
    }

    fn judge(&self, row_of: &HashMap<u64, usize>, finished: &[Finished]) -> Result<Vec<Verdict>> {
        let row = |done: &Finished| {
            let stray = || Error::Search(format!("example {} came back unasked", done.id));
            row_of.get(&done.id).copied().ok_or_else(stray)
        };
        let rows: Vec<usize> = finished.iter().map(row).collect::<Result<_>>()?;
        let problem = self.protocol.problem(self.f, self.source, &rows)?;
        let points: Vec<&Tensor> = finished.iter().map(|done| &done.x_adv).collect();
        let ball = problem.ball();
        let mut x_adv = ball.project(&Tensor::stack(&points, 0)?.detach(), Order::ProjectClamp)?;
        let Judged { correct, predictions, finite, .. } = judge(self.f, &x_adv, problem.y())?;
        if self.place.of > 1 {
            // What an ensemble leaves standing comes back as it was.
            let stands: Vec<u8> = correct.iter().map(|&stands| stands.into()).collect();
            let stands = Tensor::from_vec(stands, (rows.len(), 1, 1, 1), x_adv.device())?;
            x_adv = stands.broadcast_as(x_adv.shape())?.where_cond(ball.x_nat(), &x_adv)?;
        }
        let survives = self.after_rounding(&x_adv, problem.y(), &correct)?;
        let linf = ball.linf(&x_adv)?;
        let x_adv = x_adv.to_device(&Device::Cpu)?; // for whoever keeps it
        let verdict = |i: usize| {
            Ok(Verdict {
                id: finished[i].id,
                robust: correct[i],
                prediction: predictions[i],
                finite: finite[i],
                linf: linf[i],
                survives_8_bit: survives[i],
                x_adv: Some(x_adv.get(i)?),
            })
        };
        (0..rows.len()).map(verdict).collect()
    }

    /// Which of the fallen points are still misclassified as 8-bit images.
    fn after_rounding(&self, x_adv: &Tensor, y: &Tensor, correct: &[bool]) -> Result<Vec<bool>> {
        let fallen: Vec<u32> = (0..correct.len() as u32).filter(|&row| !correct[row as usize]).collect();
        let mut survives = vec![false; correct.len()];
        if fallen.is_empty() {
            return Ok(survives);
        }
        let (x, y) = (crate::rows::take(x_adv, &fallen)?, crate::rows::take(y, &fallen)?);
        let Judged { correct, .. } = judge(self.f, &in_8_bits(&x)?, &y)?;
        for (row, correct) in fallen.into_iter().zip(correct) {
            survives[row as usize] = !correct;
        }
        Ok(survives)
    }
}

/// The nearest images of 256 levels, to the bit as they are loaded.
fn in_8_bits(x: &Tensor) -> Result<Tensor> {
    let white = Tensor::new(255.0_f32, x.device())?; // dividing by a number would multiply by its inverse
    Ok((x * 255.0)?.round()?.broadcast_div(&white)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounded_pixels_are_those_of_a_loaded_image() {
        let levels: Vec<f32> = (0..=255u8).map(|level| f32::from(level) / 255.0).collect();
        let near: Vec<f32> = levels.iter().map(|level| level + 1e-3).collect();
        let rounded = in_8_bits(&Tensor::new(near, &Device::Cpu).unwrap()).unwrap();
        assert_eq!(rounded.to_vec1::<f32>().unwrap(), levels);
    }
}
