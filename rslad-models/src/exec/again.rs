//! Forwards of images that differ from earlier ones in few pixels.
//!
//! A black-box search asks about one image thousands of times, each time with another small square on it. In
//! the first steps of a network a square reaches little beyond itself. So the values of these steps are kept,
//! of each image, and computed again only where the square reaches; what they were there is put aside, in
//! case the next question is a change of the image without this square. The steps after them run as they
//! always do. Every pixel is the same sum in the same order wherever it lies, so the logits are those of a whole
//! forward, to the bit.

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
    /// As of the last question; empty of what the steps write that are taken whole.
    values: Vec<Vec<f32>>,
    undo: Vec<Undo>, // of each seat
}

/// Where the last question was another than the one before it, and what the values were there.
#[derive(Clone, Default)]
struct Undo {
    touched: Vec<Rect>, // of each value
    values: Vec<f32>,   // of one value after the other, row by row
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

    /// Floats that an image and its values take, as they are and as they were.
    fn floats(&self, way: &Way<'_>) -> usize {
        let kept = kept(way.runner.program, self.steps);
        let values = way.runner.plan.layouts.iter().zip(kept).filter(|(_, kept)| *kept);
        2 * (way.image() + values.map(|(layout, _)| layout.image()).sum::<usize>())
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

impl Undo {
    fn clear(&mut self) {
        self.touched.fill(Rect::default());
        self.values.clear();
    }

    /// Puts aside what is about to be written.
    fn save(&mut self, value: &[f32], rect: &Rect, layout: &Layout) {
        lines(rect, layout).for_each(|line| self.values.extend_from_slice(&value[line]));
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
        let value =
            |(layout, kept): (&Layout, bool)| vec![0.0; if kept { seats * layout.image() } else { 0 }];
        let images = vec![0.0; seats * way.image()];
        let undo = Undo { touched: vec![Rect::default(); layouts.len()], values: Vec::new() };
        Self {
            seats: vec![None; seats],
            before: images.clone(),
            now: images,
            values: layouts.iter().zip(kept).map(value).collect(),
            undo: vec![undo; seats],
        }
    }

    /// The logits of some rows of a question whose images are `pixels`.
    fn logits(&mut self, way: &Way<'_>, steps: usize, rows: &[Row], pixels: &[f32]) -> Vec<f32> {
        if rows.is_empty() {
            return Vec::new();
        }
        for row in rows {
            self.turn_to(way, steps, *row, &pixels[of_seat(row.row, way.image())]);
        }
        for i in 0..steps {
            self.step(way, i, rows);
        }
        for row in rows.iter().filter(|row| row.new) {
            self.undo[row.seat].clear(); // there is nothing to go back to
        }
        self.finish(way, steps, rows)
    }

    /// Makes the values those of the image that this one is a change of, and the images' own those of this one.
    fn turn_to(&mut self, way: &Way<'_>, steps: usize, Row { seat, new, .. }: Row, image: &[f32]) {
        let layouts = &way.runner.plan.layouts;
        let own = of_seat(seat, way.image());
        let (now, before) = (&mut self.now[own.clone()], &mut self.before[own]);
        let undo = &mut self.undo[seat];
        let rect = if new {
            before.copy_from_slice(image);
            Rect::of(&layouts[0])
        } else {
            let [from_now, from_before] =
                [&*now, &*before].map(|from| Rect::of_differences(image, from, way.shape));
            if from_now.area() < from_before.area() {
                before.copy_from_slice(now);
                from_now
            } else {
                let mut saved = undo.values.as_slice();
                let steps = &way.runner.program.steps[..steps];
                for v in std::iter::once(0).chain(steps.iter().map(|step| step.target)) {
                    let value = &mut self.values[v][of_seat(seat, layouts[v].image())];
                    for line in lines(&undo.touched[v], &layouts[v]) {
                        let (first, rest) = saved.split_at(line.len());
                        value[line].copy_from_slice(first);
                        saved = rest;
                    }
                }
                from_before
            }
        };
        now.copy_from_slice(image);
        undo.clear();
        let value = &mut self.values[0][of_seat(seat, layouts[0].image())];
        if !new {
            undo.save(value, &rect, &layouts[0]);
        }
        import(image, &rect, &layouts[0], value);
        undo.touched[0] = rect;
    }

    /// Takes a step again where it is reached.
    fn step(&mut self, way: &Way<'_>, i: usize, rows: &[Row]) {
        let Runner { isa, program, plan, weights, .. } = way.runner;
        let (step, sweeps) = (&program.steps[i], &plan.sweeps[i]);
        let layout = &plan.layouts[step.target];
        let mut target = take(&mut self.values[step.target]);
        for row in rows {
            let undo = &mut self.undo[row.seat];
            let rect = if row.new { Rect::of(layout) } else { carried(program, plan, i, &undo.touched) };
            if !row.new {
                undo.save(&target[of_seat(row.seat, layout.image())], &rect, layout);
            }
            undo.touched[step.target] = rect;
        }
        let values = &self.values;
        let source = &values[step.source];
        let rectify = if program.values[step.target].rectified { Rectify::Forward } else { Rectify::No };
        let add = step.add.map_or(Add::Nothing, |v| Add::Tensor(&values[v]));
        let end = |bias| Epilogue { bias, add, rectify };
        let rects = rows.iter().map(|row| (row.seat, &self.undo[row.seat].touched[step.target]));
        let runs = rects.clone().flat_map(|(seat, rect)| rect.runs(layout.width).map(move |run| (seat, run)));
        match (step.kind, &weights.steps[i], &sweeps.forward) {
            (Kind::Conv(_), Numbers::Conv { forward, bias, .. }, _) if let Some(tiles) = &sweeps.tiles[0] => {
                let tiled = |(seat, rect): (usize, &Rect)| {
                    rect.tiles(TILE).runs(layout.width.div_ceil(TILE)).map(move |run| (seat, run))
                };
                let weights = (forward, Turn::None);
                let tiles = tiles.only(rects.flat_map(tiled));
                winograd(isa, &tiles, weights, 1, source, &mut target, &end(bias.as_deref()));
            }
            (Kind::Conv(_), Numbers::Conv { forward, bias, .. }, Some(sweep)) => {
                let sweep = sweep.only(self.seats.len(), runs);
                direct(isa, &sweep, forward, 1, source, &mut target, &end(bias.as_deref()));
            }
            (Kind::Depthwise(_), Numbers::Depthwise { forward, bias, .. }, Some(sweep)) => {
                let sweep = sweep.only(self.seats.len(), runs);
                depthwise(isa, &sweep, forward, 1, source, &mut target, &end(bias.as_deref()));
            }
            (Kind::Affine(_, curve), Numbers::Affine { scale, shift }, _) => {
                for (seat, rect) in rects {
                    let own = of_seat(seat, layout.image());
                    let add = step.add.map_or(Add::Nothing, |v| Add::Tensor(&values[v][own.clone()]));
                    let only = layout.only(rect.rows.clone(), rect.columns.clone());
                    let (by, end) = (Affine { scale, shift, curve }, Epilogue { bias: None, add, rectify });
                    affine(isa, &only, 1, &source[own.clone()], by, &mut target[own], &end);
                }
            }
            (kind, ..) => unreachable!("{kind:?} is not taken again in part"),
        }
        self.values[step.target] = target;
    }

    /// The steps that are taken whole.
    fn finish(&self, way: &Way<'_>, steps: usize, rows: &[Row]) -> Vec<f32> {
        let Runner { program, plan, .. } = way.runner;
        let mut logits = vec![0.0; rows.len() * program.values.last().map_or(0, |logits| logits.channels)];
        let mut buffers = plan.buffers(Hold::Passing, rows.len());
        let mut values = buffers.whole(rows.len());
        for (v, kept) in self.values.iter().enumerate().filter(|(v, _)| read_later(program, steps, *v)) {
            let image = plan.layouts[v].image();
            let copies = values.slots[plan.slot(Hold::Passing, v)].chunks_exact_mut(image);
            rows.iter().zip(copies).for_each(|(row, to)| to.copy_from_slice(&kept[of_seat(row.seat, image)]));
        }
        way.runner.forward(steps..program.steps.len(), &mut values);
        way.runner.logits(&values, &mut logits);
        plan.give_back([buffers]);
        logits
    }
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
