//! A program for one image size: where every number lies and which pixels every step walks over.

use super::backward::{self, Move};
use super::program::{Kind, Mode, Program};
use crate::error::Result;
use crate::graph::{Graph, Pad};
use crate::kernels::conv::{Sweep, Tiles, phases, tile_border};
use crate::kernels::{Layout, Window};
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// A program with its places.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of each value.
    pub(super) layouts: Vec<Layout>,
    /// Of each step; empty for those that are no convolution.
    pub(super) sweeps: Vec<Sweeps>,
    pub(super) moves: Vec<Move>,
    /// How many images each step takes at a time, so that a value of them stays in the second-level cache.
    pub(super) strides: Vec<usize>,
    /// How many images' values and gradients, all of them, stay in that cache.
    pub(super) cached: usize,
    /// The buffer of each value when only the logits are wanted.
    passing: Slots,
    /// The buffer of each value when all of them are kept for a way back.
    values: Slots,
    /// The buffer of each gradient.
    gradients: Slots,
    /// Multiply-adds of a forward of one image.
    pub(super) multiply_adds: u64,
    spare: Mutex<Vec<Buffers>>,
    rooms: Mutex<Vec<Vec<f32>>>,
}

/// The walks of a convolution.
#[derive(Debug, Default)]
pub(super) struct Sweeps {
    pub(super) forward: Option<Sweep>,
    pub(super) backward: Vec<Sweep>,
    /// Forward and backward, where Winograd's algorithm runs.
    pub(super) tiles: [Option<Tiles>; 2],
}

impl Plan {
    pub(super) fn new(graph: &Graph, program: &Program, height: usize, width: usize) -> Result<Self> {
        let layouts = layouts(graph, program, height, width)?;
        let moves = backward::moves(program);
        let sweeps = program.steps.iter().map(|step| match step.kind {
            Kind::Conv(conv) => {
                let ends = [&layouts[step.source], &layouts[step.target]];
                Sweeps::new(&conv.window, ends[0], ends[1]).with_tiles(program.winograd(step), ends)
            }
            Kind::Depthwise(conv) => {
                Sweeps::new(&conv.window, &layouts[step.source], &layouts[step.target]).depthwise()
            }
            _ => Sweeps::default(),
        });
        Ok(Self {
            sweeps: sweeps.collect(),
            passing: Slots::assign(&layouts, &value_lives(program)),
            values: Slots::one_each(&layouts),
            gradients: Slots::assign(&layouts, &gradient_lives(program, &moves)),
            multiply_adds: graph.macs(height, width)?,
            strides: program.steps.iter().map(|step| cached_images(&layouts, step)).collect(),
            cached: CACHED_BYTES / (2 * size_of::<f32>() * layouts.iter().map(Layout::image).sum::<usize>()),
            layouts,
            moves,
            spare: Mutex::default(),
            rooms: Mutex::default(),
        })
    }

    /// Buffers for `images` images: a spare set, or a new one.
    pub(super) fn buffers(&self, hold: Hold, images: usize) -> Buffers {
        let mut spare = self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let fits = |b: &Buffers| b.hold == hold && b.images >= images;
        if let Some(i) = spare.iter().position(fits) {
            return spare.swap_remove(i);
        }
        spare.retain(|b| b.hold != hold || fits(b)); // batches have grown
        drop(spare);
        Buffers { hold, images, slots: self.slots(hold).buffers(images) }
    }

    /// Keeps buffers for the next call.
    pub(super) fn give_back(&self, buffers: impl IntoIterator<Item = Buffers>) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
    }

    /// Room for sums: what an earlier call has kept, or an empty one.
    pub(super) fn room(&self) -> Vec<f32> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps room for the next call: memory that is given back costs page faults when it is needed again.
    pub(super) fn keep_rooms(&self, rooms: impl IntoIterator<Item = Vec<f32>>) {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).extend(rooms);
    }

    fn slots(&self, hold: Hold) -> &Slots {
        match hold {
            Hold::Passing => &self.passing,
            Hold::Values => &self.values,
            Hold::Gradients => &self.gradients,
        }
    }

    /// The place of a value or gradient in buffers of its kind.
    pub(super) fn slot(&self, hold: Hold, tensor: usize) -> usize {
        self.slots(hold).of[tensor]
    }
}

/// What buffers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Values, each as long as a step still reads it.
    Passing,
    /// Values, all of them, for a way back.
    Values,
    /// Gradients.
    Gradients,
}

/// The buffers that some images go through the network in. Borders are zero from the start.
#[derive(Debug)]
pub(super) struct Buffers {
    hold: Hold,
    images: usize,
    slots: Vec<Vec<f32>>,
}

/// The buffers of some of the images, for one thread.
pub(super) struct Part<'b> {
    pub(super) hold: Hold,
    pub(super) images: usize,
    pub(super) slots: Vec<&'b mut [f32]>,
}

impl Buffers {
    /// The buffers of the first `images` images, `per_part` of them in each part.
    pub(super) fn parts(&mut self, images: usize, per_part: usize) -> Vec<Part<'_>> {
        let room = self.images;
        let slots = self.slots.iter_mut().map(|slot| (slot.len() / room, slot.as_mut_slice()));
        parts(self.hold, slots.collect(), images, per_part)
    }

    /// All images in one part.
    pub(super) fn whole(&mut self, images: usize) -> Part<'_> {
        let slots = self.slots.iter_mut().map(Vec::as_mut_slice).collect();
        Part { hold: self.hold, images, slots }
    }

    /// A value or a gradient of all images.
    pub(super) fn tensor(&self, plan: &Plan, i: usize) -> &[f32] {
        &self.slots[plan.slot(self.hold, i)]
    }
}

impl Part<'_> {
    /// Smaller parts of these images.
    pub(super) fn parts(&mut self, plan: &Plan, per_part: usize) -> Vec<Part<'_>> {
        let images = plan.slots(self.hold).images.iter();
        let slots = images.zip(&mut self.slots).map(|(&image, slot)| (image, &mut **slot));
        parts(self.hold, slots.collect(), self.images, per_part)
    }

    /// A value or a gradient.
    pub(super) fn tensor(&self, plan: &Plan, i: usize) -> &[f32] {
        self.slots[plan.slot(self.hold, i)]
    }
}

/// Cuts slots, each with the floats that an image takes in it.
fn parts<'b>(
    hold: Hold,
    mut slots: Vec<(usize, &'b mut [f32])>,
    images: usize,
    per_part: usize,
) -> Vec<Part<'b>> {
    fn cut<'b>((image, rest): &mut (usize, &'b mut [f32]), images: usize) -> &'b mut [f32] {
        let (head, tail) = std::mem::take(rest).split_at_mut(images * *image);
        *rest = tail;
        head
    }
    let part = |first: usize| {
        let images = per_part.min(images - first);
        Part { hold, images, slots: slots.iter_mut().map(|slot| cut(slot, images)).collect() }
    };
    (0..images).step_by(per_part).map(part).collect()
}

/// Bytes that the images of a step may take, or those of a group: about the second-level cache.
const CACHED_BYTES: usize = 2 << 20;

fn cached_images(layouts: &[Layout], step: &super::program::Step) -> usize {
    let image = layouts[step.source].image().max(layouts[step.target].image());
    (CACHED_BYTES / (4 * image)).max(1)
}

impl Sweeps {
    fn new(window: &Window, source: &Layout, target: &Layout) -> Self {
        let backward =
            phases(window).into_iter().map(|phase| Sweep::backward(window, &phase, target, source));
        Self {
            forward: Some(Sweep::forward(window, source, target)),
            backward: backward.collect(),
            ..Self::default()
        }
    }

    fn with_tiles(mut self, pads: Option<[Pad; 2]>, [source, target]: [&Layout; 2]) -> Self {
        let Some(pads) = pads else { return self };
        let tiles = |pad, from: &Layout, to| {
            tile_border(pad, (from.height, from.width)).map(|_| Tiles::new(pad, from, to))
        };
        self.tiles = [tiles(pads[0], source, target), tiles(pads[1], target, source)];
        self
    }

    /// Whole pixels are read, not only the channels that mean something.
    fn depthwise(mut self) -> Self {
        for sweep in self.forward.iter_mut().chain(&mut self.backward) {
            sweep.depth = sweep.target_stride;
        }
        self
    }
}

/// The layout of every value. Values of one size get one border, the widest that any step needs there,
/// so tensors that are added or compared lie alike.
fn layouts(graph: &Graph, program: &Program, height: usize, width: usize) -> Result<Vec<Layout>> {
    let shapes = graph.shapes(height, width)?;
    let size = |value: usize| {
        let [_, h, w] = shapes[program.values[value].node];
        (h, w)
    };
    let mut borders: HashMap<(usize, usize), Pad> = HashMap::new();
    let mut need = |size, pad| {
        let border = borders.entry(size).or_insert(Pad::all(0));
        *border = Window::widest(*border, pad);
    };
    for step in &program.steps {
        if let Kind::Conv(conv) | Kind::Depthwise(conv) = step.kind {
            let (source, target) = (size(step.source), size(step.target));
            need(source, conv.window.pad);
            need(target, conv.window.backward_border(source, target));
            let [forward, backward] = program
                .winograd(step)
                .map_or([None; 2], |pads| [tile_border(pads[0], source), tile_border(pads[1], target)]);
            forward.into_iter().for_each(|border| need(source, border));
            backward.into_iter().for_each(|border| need(target, border));
        }
    }
    let layout = |(i, value): (usize, &super::program::Value)| {
        let (height, width) = size(i);
        let border = borders.get(&(height, width)).copied().unwrap_or(Pad::all(0));
        Layout { height, width, channels: value.channels, border }
    };
    Ok(program.values.iter().enumerate().map(layout).collect())
}

/// Buffers shared by tensors that are never alive together. Only tensors of one shape share, so a
/// border stays zero for good.
#[derive(Debug)]
struct Slots {
    /// The buffer of each tensor.
    of: Vec<usize>,
    images: Vec<usize>, // floats an image takes in each buffer
}

/// First and last moment at which a tensor is needed; none for a tensor that never is.
type Life = Option<(usize, usize)>;

impl Slots {
    fn one_each(layouts: &[Layout]) -> Self {
        Self { of: (0..layouts.len()).collect(), images: layouts.iter().map(Layout::image).collect() }
    }

    fn assign(layouts: &[Layout], lives: &[Life]) -> Self {
        let mut order: Vec<usize> = (0..lives.len()).filter(|&i| lives[i].is_some()).collect();
        order.sort_by_key(|&i| lives[i]);
        let mut slots: Vec<(Layout, usize)> = Vec::new(); // shape, last moment in use
        let mut of = vec![0; lives.len()];
        for i in order {
            let Some((first, last)) = lives[i] else { continue };
            let alike = |l: &Layout| Layout { channels: l.stride(), ..*l };
            let free = slots.iter().position(|(shape, busy)| *shape == alike(&layouts[i]) && *busy < first);
            of[i] = free.unwrap_or(slots.len());
            match free {
                Some(slot) => slots[slot].1 = last,
                None => slots.push((alike(&layouts[i]), last)),
            }
        }
        Self { of, images: slots.iter().map(|(shape, _)| shape.image()).collect() }
    }

    fn buffers(&self, images: usize) -> Vec<Vec<f32>> {
        self.images.iter().map(|image| vec![0.0; image * images]).collect()
    }
}

/// From the step that writes a value to the last that reads it.
fn value_lives(program: &Program) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![None; program.values.len()];
    lives[0] = Some((0, 0));
    for (i, step) in program.steps.iter().enumerate() {
        lives[step.target] = Some((i, i));
        for read in std::iter::once(step.source).chain(step.add) {
            lives[read] = lives[read].map(|(first, _)| (first, i));
        }
    }
    let end = program.steps.len();
    if let Some(Some((_, last))) = lives.last_mut() {
        *last = end;
    }
    lives
}

/// From the move that first writes a gradient to the last that touches it. The logits' gradient comes
/// before all moves and the images' is read after them.
fn gradient_lives(program: &Program, moves: &[Move]) -> Vec<Life> {
    let mut lives: Vec<Life> = vec![None; program.values.len()];
    let last = lives.len() - 1;
    let mut touch = |gradient: usize, now: usize| {
        let life = lives[gradient].get_or_insert((now, now));
        life.1 = now;
    };
    touch(last, 0);
    for (i, go) in moves.iter().enumerate() {
        go.reads().into_iter().for_each(|g| touch(g, i + 1));
        touch(go.target(program), i + 1);
    }
    touch(0, moves.len() + 1);
    lives
}

/// Plans of a program by image size, made when a size is first seen.
#[derive(Debug)]
pub(super) struct Plans {
    pub(super) program: Program,
    plans: Mutex<HashMap<(usize, usize), std::sync::Arc<Plan>>>,
}

impl Plans {
    /// `None` when the graph has an op without a kernel.
    pub(super) fn new(graph: &Graph, mode: Mode) -> Option<Self> {
        Some(Self { program: Program::lower(graph, mode)?, plans: Mutex::default() })
    }

    /// The plan for images of this size.
    pub(super) fn get(&self, graph: &Graph, height: usize, width: usize) -> Result<std::sync::Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&(height, width)) {
            return Ok(plan.clone());
        }
        let plan = std::sync::Arc::new(Plan::new(graph, &self.program, height, width)?);
        plans.insert((height, width), plan.clone());
        Ok(plan)
    }
}
