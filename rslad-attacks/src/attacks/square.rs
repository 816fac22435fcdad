//! Square: a random search that asks for logits only. The last attack of AutoAttack.

use super::{AttackEntry, configured};
use crate::aim::best_other;
use crate::attack::Access;
use crate::error::Result;
use crate::walk::{Answer, Ask, Draw, Leave, Next, Site, Tape, Walk, WalkAttack};
use rslad_models::randomness::Purpose;
use serde::{Deserialize, Serialize};
use std::num::NonZeroUsize;

/// Squares of one color at random places, kept where they lower the margin.
///
/// An example ends its search when its margin is not positive. The best point of every example comes back.
///
/// # Source
/// Andriushchenko et al. 2020, "Square attack: a query-efficient black-box adversarial attack via random
/// search", algorithm 2, as the released code of AutoAttack (fra31/auto-attack a392200) runs it. There all
/// images of a batch share the place and color of a square, so that the result depends on the batch; here
/// every example has its own.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Square {
    /// How many squares are tried. The start is a query more, as in the released code.
    pub queries: NonZeroUsize,
    /// How many starts, while an example stands.
    pub restarts: NonZeroUsize,
    /// The share of the image that the first squares cover.
    pub p_init: f64,
    /// When the squares become smaller.
    pub schedule: Schedule,
}

/// When the squares become smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Schedule {
    /// After fixed numbers of queries, whatever the budget: AutoAttack.
    Fixed,
    /// After shares of the budget, the fixed numbers being meant for 10,000 queries: the paper.
    Rescaled,
}

pub(super) const ENTRY: AttackEntry = AttackEntry {
    name: "square",
    about: "random search with squares of one color; asks for logits only",
    usual: "queries = 5000\nrestarts = 1\np_init = 0.8\nschedule = \"fixed\"",
    build: configured::<Square>,
};

pub(crate) const PURPOSE: Purpose = Purpose::named("attack/square");

/// After so many queries of 10,000 the area of the squares is halved.
const HALVINGS: [usize; 9] = [10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000];

/// Where an example is.
#[derive(Clone, Debug)]
pub(crate) struct Here {
    restart: usize,
    /// Squares that were tried since this restart's start, which comes before them.
    tried: usize,
    started: bool,
    /// The point that is asked about.
    x: Vec<f32>,
    x_best: Vec<f32>,
    /// Of the best point, in two halves since its bits matter.
    margin: [f32; 2],
}

impl Square {
    /// The side of a square before which so many were tried.
    pub(crate) fn side(&self, tried: usize, [_, h, w]: [usize; 3]) -> usize {
        let at = match self.schedule {
            Schedule::Fixed => tried,
            Schedule::Rescaled => (tried as f64 / self.queries.get() as f64 * 10_000.0) as usize,
        };
        let halved = HALVINGS.iter().filter(|&&after| at > after).count() as i32;
        let area = self.p_init * 0.5f64.powi(halved) * (h * w) as f64;
        (area.sqrt().round_ties_even() as usize).max(1).min(h).min(w)
    }

    /// Vertical stripes of random color.
    fn begin_restart(&self, site: &Site, here: &mut Here) -> Result<()> {
        let [c, h, w] = site.shape;
        let colors = site.uniform(PURPOSE, Draw { restart: here.restart as u64, step: 0 }, c * w)?;
        let eps = site.eps.get() as f32;
        let stripe = |i: usize| colors[i / (h * w) * w + i % w].signum() * eps;
        here.x = site.x_nat.iter().enumerate().map(|(i, x)| site.clip(i, x + stripe(i))).collect();
        here.x_best.copy_from_slice(&here.x);
        here.tried = 0;
        here.started = false;
        Ok(())
    }

    /// The best point with another square on it.
    fn propose(&self, site: &Site, here: &mut Here) -> Result<()> {
        let [c, h, w] = site.shape;
        let side = self.side(here.tried, site.shape);
        let draw = Draw { restart: here.restart as u64, step: here.tried as u64 + 1 };
        let drawn = site.uniform(PURPOSE, draw, 2 + c)?;
        // Quirk: the last place is never drawn, so the last row and column are covered less often.
        let place = |u: f32, length: usize| ((0.5 + 0.5 * u) * (length - side) as f32) as usize;
        let (top, left) = (place(drawn[0], h), place(drawn[1], w));
        here.x.copy_from_slice(&here.x_best);
        for (channel, color) in drawn[2..].iter().enumerate() {
            let delta = color.signum() * (2.0 * site.eps.get()) as f32;
            for row in top..top + side {
                let first = (channel * h + row) * w + left;
                for i in first..first + side {
                    here.x[i] = site.clip(i, here.x[i] + delta);
                }
            }
        }
        Ok(())
    }
}

/// A number as the sum of two.
fn halves(value: f64) -> [f32; 2] {
    let high = value as f32;
    [high, (value - f64::from(high)) as f32]
}

fn whole([high, low]: [f32; 2]) -> f64 {
    f64::from(high) + f64::from(low)
}

/// The search of one example.
#[derive(Clone, Debug)]
pub(crate) struct Squares {
    pub(crate) square: Square,
    leave: Leave,
}

impl Walk for Squares {
    type Here = Here;
    const LOCAL: bool = true;

    fn start(&self, site: &Site) -> Result<Here> {
        let (x, x_best) = (site.x_nat.clone(), site.x_nat.clone());
        let mut here = Here { restart: 0, tried: 0, started: false, x, x_best, margin: [0.0; 2] };
        self.square.begin_restart(site, &mut here)?;
        Ok(here)
    }

    fn ask<'a>(&self, _: &'a Site, here: &'a Here) -> Ask<'a> {
        Ask::Logits(&here.x)
    }

    fn hear(&self, site: &Site, here: &mut Here, answer: Answer) -> Result<Next> {
        let (z, y) = (&answer.logits, site.y as usize);
        let margin = z[y] - z[best_other(z, y)];
        if !here.started {
            here.started = true;
            here.margin = halves(margin);
        } else {
            here.tried += 1;
            if margin < whole(here.margin) || margin <= 0.0 {
                here.margin = halves(margin);
                here.x_best.copy_from_slice(&here.x);
            }
        }
        let stands = whole(here.margin) > 0.0; // false of NaN
        if here.tried < self.square.queries.get() {
            match (stands, self.leave) {
                (true, _) => self.square.propose(site, here)?,
                (false, Leave::AtEnd) => here.x.copy_from_slice(&here.x_best), // it stays where it fell
                (false, Leave::AtOnce) => return Ok(Next::Done(std::mem::take(&mut here.x_best))),
            }
            return Ok(Next::Ask);
        }
        if stands && here.restart + 1 < self.square.restarts.get() {
            here.restart += 1;
            self.square.begin_restart(site, here)?;
            return Ok(Next::Ask);
        }
        Ok(Next::Done(std::mem::take(&mut here.x_best)))
    }

    fn tape(&self, here: &mut Here, tape: &mut Tape) {
        tape.count("restart", &mut here.restart);
        tape.count("tried", &mut here.tried);
        tape.flag("started", &mut here.started);
        tape.floats("x", &mut here.x);
        tape.floats("x_best", &mut here.x_best);
        tape.floats("margin", &mut here.margin);
    }
}

impl WalkAttack for Square {
    type Walk = Squares;
    const NAME: &'static str = ENTRY.name;
    const ACCESS: Access = Access::Logits;

    fn walk(&self, leave: Leave) -> Squares {
        Squares { square: self.clone(), leave }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sides_follow_the_released_schedule() {
        let square: Square = toml::from_str(ENTRY.usual).unwrap();
        let firsts = [0, 11, 51, 201, 501, 1001, 2001, 4001];
        let sides = |square: &Square| firsts.map(|tried| square.side(tried, [3, 32, 32]));
        assert_eq!(sides(&square), [29, 20, 14, 10, 7, 5, 4, 3]);
        assert_eq!([10, 50, 200, 500].map(|tried| square.side(tried, [3, 32, 32])), [29, 20, 14, 10]);
        let half = Square { schedule: Schedule::Rescaled, ..square.clone() };
        assert_eq!([0, 5, 6, 26, 101].map(|tried| half.side(tried, [3, 32, 32])), [29, 29, 20, 14, 10]);
        assert_eq!(square.side(0, [1, 4, 1]), 1); // no wider than the image
    }
}
