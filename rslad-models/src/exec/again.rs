//! Forwards of images that differ from earlier ones in few pixels.
//!
//! A black-box search asks about one image thousands of times, each time with another small square on it. In
//! the first steps of a network a square reaches little beyond itself. So of each image the values of these
//! steps are kept as they are without the square, and what the square reaches is computed in a buffer that
//! all images use in turn, and that stays in the processor's cache: what it needs around the square is copied
//! there. The steps after them run as they always do. A question may also be a change of the last one, with
//! its square; then that one is computed again, and kept. Every pixel is the same sum in the same order
//! wherever it lies, so the logits are those of a whole forward, to the bit.

mod rect;

use super::engine::Threads;
use super::plan::{Hold, Plan};
use super::program::{Kind, Program};
use super::runner::Runner;
use super::weights::Numbers;
use crate::classifier::Memory;
use crate::kernels::conv::{Turn, direct, winograd};
use crate::kernels::depthwise::depthwise;
use crate::kernels::pointwise::{Affine, affine};
use crate::kernels::{Add, Epilogue, Layout, Rectify};
use rect::Rect;
use std::collections::{HashMap, HashSet};
use std::mem::take;
use std::ops::Range;

/// Most bytes that are remembered; where it would be more, nothing is.
const MOST_BYTES: usize = 1 << 30;
/// A step is worth taking again in part where a square of this side reaches at most so many percent of its
/// pixels.
const TYPICAL: (usize, usize) = (3, 60);
/// The side of Winograd's tiles.
const TILE: usize = 4;

/// What runs a network, on images of a shape `[C, H, W]`.
#[derive(Clone, Copy)]
pub(super) struct Way<'a> {
    pub(super) runner: Runner<'a>,
    pub(super) generation: u64,
    pub(super) shape: [usize; 3],
}

impl Way<'_> {
    /// Floats of an image.
    fn image(&self) -> usize {
        self.shape.iter().product()
    }
}

/// What is remembered, for one set of weights and one shape of images.
pub(super) struct Recall {
    of: (u64, [usize; 3]),
    /// How many steps are taken again in part.
    steps: usize,
    groups: Vec<Group>,
    /// Seats of a group.
    size: usize,
}

/// Some images, whose values lie one after the other.
struct Group {
    /// Which image sits where.
    seats: Vec<Option<u64>>,
    /// As of the last question, and as of the one that it was a change of: `[seat][C, H, W]`.
    now: Vec<f32>,
    before: Vec<f32>,
    /// What the steps make of `before`, `[seat]` of each value; empty of what is taken whole.
    values: Vec<Vec<f32>>,
    bench: Workbench,
}

/// Where one image at a time is worked on.
struct Workbench {
    /// Each value where it is touched, and what was copied around that.
    values: Vec<Vec<f32>>,
    /// Where a value is another than that of the image that this one is a change of.
    touched: Vec<Rect>,
}

/// A row of a question: which image of the batch, on which seat, and whether it just sat down.
#[derive(Clone, Copy)]
struct Row {
    row: usize,
    seat: usize,
    new: bool,
}

impl Recall {
    /// What `memory` holds, or room for it; none where it does not pay or would be too much.
    pub(super) fn of<'m>(
        memory: &'m mut Memory,
        way: &Way<'_>,
        ids: &[u64],
        size: usize,
    ) -> Option<&'m mut Self> {
        if ids.iter().collect::<HashSet<_>>().len() < ids.len() {
            return None; // twice the same name says nothing
        }
        let of = (way.generation, way.shape);
        let held = memory.0.as_mut().and_then(|held| held.downcast_mut::<Self>());
        if held.is_none_or(|held| held.of != of) {
            let steps = worth(way.runner.program, way.runner.plan);
            memory.0 = Some(Box::new(Self { of, steps, groups: Vec::new(), size }));
        }
        let recall: &mut Self = memory.0.as_mut()?.downcast_mut()?;
        let seats = recall.groups.len() * recall.size;
        if 2 * ids.len() <= seats {
            (recall.groups, recall.size) = (Vec::new(), size); // half of the seats are empty: sit together again
        }
        let bytes = ids.len().max(seats) * size_of::<f32>() * recall.floats(way);
        (recall.steps > 0 && bytes <= MOST_BYTES).then_some(recall)
    }

    /// Floats that an image and its values take, the image as it is and as it was.
    fn floats(&self, way: &Way<'_>) -> usize {
        let kept = kept(way.runner.program, self.steps);
        let values = way.runner.plan.layouts.iter().zip(kept).filter(|(_, kept)| *kept);
        2 * way.image() + values.map(|(layout, _)| layout.image()).sum::<usize>()
    }

    /// The logits of the images, `[n, K]`.
    pub(super) fn logits(
        &mut self,
        way: &Way<'_>,
        threads: &Threads,
        ids: &[u64],
        pixels: &[f32],
    ) -> Vec<f32> {
        let classes = way.runner.program.values.last().map_or(0, |logits| logits.channels);
        let rows = self.seat(way, ids);
        let mut work: Vec<_> =
            self.groups.iter_mut().zip(rows).map(|(group, rows)| (group, rows, Vec::new())).collect();
        let steps = self.steps;
        threads.each(&mut work, |_, (group, rows, logits)| *logits = group.logits(way, steps, rows, pixels));
        let mut all = vec![0.0; ids.len() * classes];
        for (_, rows, logits) in work {
            for (row, logits) in rows.iter().zip(logits.chunks_exact(classes)) {
                all[row.row * classes..][..classes].copy_from_slice(logits);
            }
        }
        all
    }

    /// Gives every image a seat; those that are not asked about leave theirs.
    fn seat(&mut self, way: &Way<'_>, ids: &[u64]) -> Vec<Vec<Row>> {
        let mut waiting: HashMap<u64, usize> = ids.iter().enumerate().map(|(row, id)| (*id, row)).collect();
        let mut rows: Vec<Vec<Row>> = Vec::new();
        for group in &mut self.groups {
            let mut staying = Vec::new();
            for (seat, sitting) in group.seats.iter_mut().enumerate() {
                match sitting.and_then(|id| waiting.remove(&id)) {
                    Some(row) => staying.push(Row { row, seat, new: false }),
                    None => *sitting = None,
                }
            }
            rows.push(staying);
        }
        let mut waiting: Vec<(usize, u64)> = waiting.into_iter().map(|(id, row)| (row, id)).collect();
        waiting.sort_unstable();
        let mut waiting = waiting.into_iter().peekable();
        for g in 0.. {
            if waiting.peek().is_none() {
                break;
            }
            if g == self.groups.len() {
                self.groups.push(Group::new(way, self.steps, self.size));
                rows.push(Vec::new());
            }
            let free = self.groups[g].seats.iter_mut().enumerate().filter(|(_, seat)| seat.is_none());
            for ((seat, sitting), (row, id)) in free.zip(waiting.by_ref()) {
                *sitting = Some(id);
                rows[g].push(Row { row, seat, new: true });
            }
        }
        rows
    }
}

/// Where the rows of a rectangle lie in an image.
fn lines(rect: &Rect, layout: &Layout) -> impl Iterator<Item = Range<usize>> {
    let (first, length) = (layout.at(0, rect.columns.start as isize), rect.columns.len() * layout.stride());
    let row = layout.row();
    rect.rows.clone().map(move |y| first + y * row..first + y * row + length)
}

/// The part of one seat.
fn of_seat(seat: usize, size: usize) -> Range<usize> {
    seat * size..(seat + 1) * size
}

impl Group {
    fn new(way: &Way<'_>, steps: usize, seats: usize) -> Self {
        let layouts = &way.runner.plan.layouts;
        let kept = kept(way.runner.program, steps);
        let values = |images: usize| -> Vec<Vec<f32>> {
            let size = |(layout, kept): (&Layout, &bool)| if *kept { images * layout.image() } else { 0 };
            layouts.iter().zip(&kept).map(|of| vec![0.0; size(of)]).collect()
        };
        let images = vec![0.0; seats * way.image()];
        Self {
            seats: vec![None; seats],
            before: images.clone(),
            now: images,
            values: values(seats),
            bench: Workbench { values: values(1), touched: vec![Rect::default(); layouts.len()] },
        }
    }

    /// The logits of some rows of a question whose images are `pixels`.
    fn logits(&mut self, way: &Way<'_>, steps: usize, rows: &[Row], pixels: &[f32]) -> Vec<f32> {
        let Runner { program, plan, .. } = way.runner;
        let mut logits = vec![0.0; rows.len() * program.values.last().map_or(0, |logits| logits.channels)];
        if rows.is_empty() {
            return logits;
        }
        let mut buffers = plan.buffers(Hold::Passing, rows.len());
        let mut passing = buffers.whole(plan, rows.len());
        for (i, row) in rows.iter().enumerate() {
            self.turn_to(way, steps, *row, &pixels[of_seat(row.row, way.image())]);
            for v in (0..self.values.len()).filter(|v| read_later(program, steps, *v)) {
                let layout = &plan.layouts[v];
                let to = &mut passing.slots[plan.slot(Hold::Passing, v)][of_seat(i, layout.image())];
                to.copy_from_slice(&self.values[v][of_seat(row.seat, layout.image())]);
                copy(&self.bench.values[v], to, &self.bench.touched[v], layout);
            }
        }
        way.runner.forward(steps..program.steps.len(), &mut passing, |_| ());
        way.runner.logits(&passing, &mut logits);
        plan.give_back([buffers]);
        logits
    }

    /// Takes the steps of an image as far as it is a change of one whose values are known.
    fn turn_to(&mut self, way: &Way<'_>, steps: usize, Row { seat, new, .. }: Row, image: &[f32]) {
        let own = of_seat(seat, way.image());
        let rect = if new {
            self.now[own.clone()].copy_from_slice(image);
            self.keep(way, steps, seat, None); // from here on it is a change of itself
            Rect::default()
        } else {
            let [now, before] = [&self.now, &self.before].map(|images| &images[own.clone()]);
            let differences = |a, b| Rect::of_differences(a, b, way.shape);
            let [from_now, from_before] = [now, before].map(|from| differences(image, from));
            if from_now.area() < from_before.area() {
                let last = differences(now, before);
                self.keep(way, steps, seat, Some(last));
                from_now
            } else {
                from_before
            }
        };
        self.now[own].copy_from_slice(image);
        self.steps(way, steps, seat, Some(rect));
    }

    /// Makes the last question of a seat the one that the next is a change of; `rect` is where the two differ: none
    /// where the one before is of no use.
    fn keep(&mut self, way: &Way<'_>, steps: usize, seat: usize, rect: Option<Rect>) {
        self.steps(way, steps, seat, rect);
        let own = of_seat(seat, way.image());
        self.before[own.clone()].copy_from_slice(&self.now[own]);
        for (v, layout) in way.runner.plan.layouts.iter().enumerate() {
            if let Some(value) = self.values[v].get_mut(of_seat(seat, layout.image())) {
                copy(&self.bench.values[v], value, &self.bench.touched[v], layout);
            }
        }
    }

    /// Takes the steps of the present image of a seat, which differs from the one before in `rect`; all of them in whole
    /// where there is none.
    fn steps(&mut self, way: &Way<'_>, steps: usize, seat: usize, rect: Option<Rect>) {
        let Runner { program, plan, .. } = way.runner;
        let whole = |v: usize| Rect::of(&plan.layouts[v]);
        let touched = &mut self.bench.touched;
        touched.fill(Rect::default());
        touched[0] = rect.clone().unwrap_or_else(|| whole(0));
        for (i, step) in program.steps[..steps].iter().enumerate() {
            touched[step.target] = match rect {
                None => whole(step.target),
                Some(_) => carried(program, plan, i, touched),
            };
        }
        if rect.is_some() {
            self.surround(way, steps, seat);
        }
        let image = &self.now[of_seat(seat, way.image())];
        import(image, &self.bench.touched[0], &plan.layouts[0], &mut self.bench.values[0]);
        for (i, step) in program.steps[..steps].iter().enumerate() {
            if !self.bench.touched[step.target].is_empty() {
                self.step(way, i);
            }
        }
    }

    /// Copies to the bench, of each value of the image before, what the steps will read: what is touched is written
    /// over.
    fn surround(&mut self, way: &Way<'_>, steps: usize, seat: usize) {
        let Runner { program, plan, .. } = way.runner;
        let Workbench { values, touched } = &mut self.bench;
        let mut needed = vec![Rect::default(); values.len()];
        for (i, step) in program.steps[..steps].iter().enumerate() {
            let rect = &touched[step.target];
            if !rect.is_empty() {
                needed[step.source] = needed[step.source].with(&read(program, plan, i, rect));
                step.add.into_iter().for_each(|v| needed[v] = needed[v].with(rect));
            }
        }
        for (v, rect) in needed.iter().enumerate().filter(|(_, rect)| !rect.is_empty()) {
            let layout = &plan.layouts[v];
            copy(&self.values[v][of_seat(seat, layout.image())], &mut values[v], rect, layout);
        }
    }

    /// Takes a step again where it is touched.
    fn step(&mut self, way: &Way<'_>, i: usize) {
        let Runner { isa, program, plan, weights, .. } = way.runner;
        let (step, sweeps) = (&program.steps[i], &plan.sweeps[i]);
        let layout = &plan.layouts[step.target];
        let mut target = take(&mut self.bench.values[step.target]);
        let Workbench { values, touched } = &self.bench;
        let rect = &touched[step.target];
        let source = &values[step.source];
        let rectify = if program.values[step.target].rectified { Rectify::Forward } else { Rectify::No };
        let add = step.add.map_or(Add::Nothing, |v| Add::Tensor(&values[v]));
        let end = |bias| Epilogue { bias, add, rectify };
        match (step.kind, &weights.steps[i], &sweeps.forward) {
            (Kind::Conv(_), Numbers::Conv { forward, bias, .. }, _) if let Some(tiles) = &sweeps.tiles[0] => {
                let runs = rect.tiles(TILE).runs(layout.width.div_ceil(TILE));
                let tiles = tiles.only(runs);
                let weights = (forward, Turn::None);
                winograd(isa, &tiles, weights, 1, source, &mut target, &end(bias.as_deref()));
            }
            (Kind::Conv(_), Numbers::Conv { forward, bias, .. }, Some(sweep)) => {
                let sweep = sweep.only(rect.rows.clone(), rect.columns.clone());
                direct(isa, &sweep, forward, 1, source, &mut target, &end(bias.as_deref()));
            }
            (Kind::Depthwise(_), Numbers::Depthwise { forward, bias, .. }, Some(sweep)) => {
                let sweep = sweep.only(rect.rows.clone(), rect.columns.clone());
                depthwise(isa, &sweep, forward, 1, source, &mut target, &end(bias.as_deref()));
            }
            (Kind::Affine(_, curve), Numbers::Affine { scale, shift }, _) => {
                let only = layout.only(rect.rows.clone(), rect.columns.clone());
                affine(isa, [&only; 2], 1, source, Affine { scale, shift, curve }, &mut target, &end(None));
            }
            (kind, ..) => unreachable!("{kind:?} is not taken again in part"),
        }
        self.bench.values[step.target] = target;
    }
}

/// Copies the pixels of a rectangle of an image to the same place of another.
fn copy(from: &[f32], to: &mut [f32], rect: &Rect, layout: &Layout) {
    lines(rect, layout).for_each(|line| to[line.clone()].copy_from_slice(&from[line]));
}

/// Writes some pixels of an image where the first step reads them.
fn import(image: &[f32], rect: &Rect, layout: &Layout, value: &mut [f32]) {
    for (c, plane) in image.chunks_exact(layout.pixels()).enumerate() {
        for (y, line) in rect.rows.clone().zip(lines(rect, layout)) {
            let pixels = &plane[y * layout.width..][rect.columns.clone()];
            value[line].iter_mut().skip(c).step_by(layout.stride()).zip(pixels).for_each(|(to, x)| *to = *x);
        }
    }
}

/// Which values the first `steps` steps read or write.
fn kept(program: &Program, steps: usize) -> Vec<bool> {
    let written = |v| v == 0 || program.steps[..steps].iter().any(|step| step.target == v);
    (0..program.values.len()).map(written).collect()
}

/// Whether a value of the first `steps` steps is read by others, or is the logits.
fn read_later(program: &Program, steps: usize, value: usize) -> bool {
    let (rest, last) = (&program.steps[steps..], program.values.len() - 1);
    kept(program, steps)[value]
        && (value == last || rest.iter().any(|step| step.source == value || step.add == Some(value)))
}

/// How many steps are worth taking again in part.
fn worth(program: &Program, plan: &Plan) -> usize {
    let (side, percent) = TYPICAL;
    let mut touched = vec![Rect::default(); program.values.len()];
    touched[0] = Rect::middle(&plan.layouts[0], side);
    for (i, step) in program.steps.iter().enumerate() {
        let rect = carried(program, plan, i, &touched);
        let whole = matches!(step.kind, Kind::Mean | Kind::Norm(_));
        if whole || 100 * rect.area() > percent * plan.layouts[step.target].pixels() {
            return i;
        }
        touched[step.target] = rect;
    }
    program.steps.len()
}

/// Where a step's target depends on what was touched.
fn carried(program: &Program, plan: &Plan, i: usize, touched: &[Rect]) -> Rect {
    let step = &program.steps[i];
    let layout = &plan.layouts[step.target];
    let reached = match step.kind {
        Kind::Conv(conv) | Kind::Depthwise(conv) => touched[step.source].through(&conv.window, layout),
        Kind::Affine(..) | Kind::Norm(_) | Kind::Mean => touched[step.source].clone(),
    };
    let reached = step.add.map_or(reached.clone(), |v| reached.with(&touched[v]));
    if plan.sweeps[i].tiles[0].is_some() { reached.tiled(TILE, layout) } else { reached }
}

/// What a step reads of its source to make `rect` of its target, inside the plane.
fn read(program: &Program, plan: &Plan, i: usize, rect: &Rect) -> Rect {
    let step = &program.steps[i];
    let plane = &plan.layouts[step.source];
    match step.kind {
        Kind::Conv(conv) | Kind::Depthwise(conv) if plan.sweeps[i].tiles[0].is_some() => {
            let tiles = Rect {
                rows: rect.rows.start..rect.rows.end.next_multiple_of(TILE),
                columns: rect.columns.start..rect.columns.end.next_multiple_of(TILE),
            };
            tiles.read_through(&conv.window, plane)
        }
        Kind::Conv(conv) | Kind::Depthwise(conv) => rect.read_through(&conv.window, plane),
        Kind::Affine(..) | Kind::Norm(_) | Kind::Mean => rect.clone(),
    }
}
