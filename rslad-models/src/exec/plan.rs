//! A program for one image size: where every number lies and which pixels every step walks over.

mod slots;

use super::backward::{self, Act, GradientId};
use super::program::{Kind, Mode, Program, Step};
use crate::error::Result;
use crate::graph::{Graph, Pad};
use crate::kernels::conv::{Sweep, Tiles, phases, tile_border};
use crate::kernels::{Layout, Window};
use slots::{Lives, Slots};
use std::collections::HashMap;
use std::mem::take;
use std::sync::{Mutex, PoisonError};

pub(super) use slots::{of_act, of_step};

/// A program with its places.
#[derive(Debug)]
pub(super) struct Plan {
    /// Of each value.
    pub(super) layouts: Vec<Layout>,
    /// Of each gradient.
    pub(super) gradients: Vec<Layout>,
    /// Of each step; empty for those that are no convolution.
    pub(super) sweeps: Vec<Sweeps>,
    pub(super) acts: Vec<Act>,
    /// Of each step: whether the gradient of its weights is summed on the way back, while the images are at hand.
    alongside: Vec<bool>,
    /// How many images each step takes at a time, so that a value of them stays in the second-level cache.
    pub(super) strides: Vec<usize>,
    /// How many images' values and gradients, all of them, stay in that cache.
    pub(super) cached: usize,
    /// The buffer of each value when only the logits are wanted.
    passing: Slots,
    /// The buffers of values and gradients when there is a way back.
    way_back: Slots,
    /// When there may be several.
    ways_back: Slots,
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
    /// The walk forward over values and gradients, for the gradient of the weights.
    pub(super) of_weights: Option<Sweep>,
    pub(super) tiles_of_weights: Option<Tiles>,
}

impl Plan {
    pub(super) fn new(graph: &Graph, program: &Program, height: usize, width: usize) -> Result<Self> {
        let gradients = layouts(graph, program, height, width)?;
        let flat = |(layout, flat): (&Layout, bool)| {
            if flat { Layout { border: Pad::all(0), ..*layout } } else { *layout }
        };
        let layouts: Vec<Layout> = gradients.iter().zip(flat_values(program)).map(flat).collect();
        let alongside: Vec<bool> =
            program.steps.iter().map(|step| is_alongside(program, step, &gradients)).collect();
        let acts = backward::acts(program, &alongside);
        let sweeps = program.steps.iter().map(|step| match step.kind {
            Kind::Conv(conv) => {
                let ends = [step.source, step.target].map(|v| [&layouts[v], &gradients[v]]);
                Sweeps::new(&conv.window, ends).with_tiles(program.winograd(step), ends)
            }
            Kind::Depthwise(conv) => {
                let ends = [step.source, step.target].map(|v| [&layouts[v], &gradients[v]]);
                Sweeps::new(&conv.window, ends).depthwise()
            }
            _ => Sweeps::default(),
        });
        let tensors = [layouts.as_slice(), &gradients].concat();
        let way_back = Lives::of_way_back(program, &acts, |act| meets(program, &alongside, act));
        Ok(Self {
            sweeps: sweeps.collect(),
            passing: Slots::assign(&layouts, &Lives::of_values(program, layouts.len(), false)),
            way_back: Slots::assign(&tensors, &way_back),
            ways_back: Slots::assign(&tensors, &way_back.with_all_values(program)),
            multiply_adds: graph.macs(height, width)?,
            strides: images_at_a_time(program, &layouts),
            cached: CACHED_BYTES / (2 * size_of::<f32>() * layouts.iter().map(Layout::image).sum::<usize>()),
            layouts,
            gradients,
            acts,
            alongside,
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
        // Batches have grown, or other questions are asked now.
        spare.retain(|b| (b.hold == Hold::Passing) != (hold == Hold::Passing));
        drop(spare);
        let slots = self.slots(hold).buffers(images);
        Buffers { hold, images, clean: vec![None; slots.len()], slots }
    }

    /// Keeps buffers for the next call.
    pub(super) fn give_back(&self, buffers: impl IntoIterator<Item = Buffers>) {
        self.spare.lock().unwrap_or_else(PoisonError::into_inner).extend(buffers);
    }

    /// So many zeros, in the tightest room that an earlier call has kept, or a new one.
    pub(super) fn room(&self, floats: usize) -> Vec<f32> {
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let fitting = (0..rooms.len()).filter(|&i| rooms[i].capacity() >= floats);
        let mut room = match fitting.min_by_key(|&i| rooms[i].capacity()) {
            Some(i) => rooms.swap_remove(i),
            None => Vec::with_capacity(floats),
        };
        drop(rooms);
        room.clear();
        room.resize(floats, 0.0);
        room
    }

    /// Keeps room for the next call: memory that is given back costs page faults when it is needed again.
    pub(super) fn keep_rooms(&self, rooms: impl IntoIterator<Item = Vec<f32>>) {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner).extend(rooms);
    }

    /// A gradient among the tensors of a way back.
    pub(super) fn gradient(&self, of: GradientId) -> usize {
        self.layouts.len() + of
    }

    /// The walk for the gradient of a convolution's weights.
    pub(super) fn sweep_of_weights(&self, step: usize) -> &Sweep {
        self.sweeps[step].of_weights.as_ref().expect("a convolution has a sweep")
    }

    /// Whether threads meet before an act: it takes sums over all images.
    pub(super) fn meets(&self, program: &Program, act: &Act) -> bool {
        meets(program, &self.alongside, act)
    }

    fn slots(&self, hold: Hold) -> &Slots {
        match hold {
            Hold::Passing => &self.passing,
            Hold::WayBack => &self.way_back,
            Hold::WaysBack => &self.ways_back,
        }
    }

    /// The place of a tensor in buffers.
    pub(super) fn slot(&self, hold: Hold, tensor: usize) -> usize {
        self.slots(hold).of[tensor]
    }
}

/// What buffers hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hold {
    /// Values, each as long as a step still reads it.
    Passing,
    /// What a way back needs, as long as it does, and its gradients.
    WayBack,
    /// All values, for several ways back after one forward, and the gradients.
    WaysBack,
}

/// The buffers that some images go through the network in. Borders are zero from the start.
#[derive(Debug)]
pub(super) struct Buffers {
    hold: Hold,
    images: usize,
    slots: Vec<Vec<f32>>,
    /// Of each slot: the shape whose borders are zero, and for how many images; none while all of it is zero.
    clean: Vec<Option<(Layout, usize)>>,
}

/// The buffers of some of the images, for one thread, in a phase.
pub(super) struct Part<'b> {
    pub(super) hold: Hold,
    pub(super) images: usize,
    pub(super) slots: Vec<&'b mut [f32]>,
    shapes: &'b [Option<Layout>],
    unclean: Vec<usize>,
}

impl Buffers {
    /// The buffers of the first `images` images in a phase, `per_part` of them in each part.
    pub(super) fn parts<'b>(
        &'b mut self,
        plan: &'b Plan,
        phase: usize,
        images: usize,
        per_part: usize,
    ) -> Vec<Part<'b>> {
        let shapes = plan.slots(self.hold).shapes(phase);
        let unclean = self.enter(shapes, images);
        let slots = self.slots.iter_mut().map(Vec::as_mut_slice).collect();
        let mut parts = Part { hold: self.hold, images, slots, shapes, unclean: Vec::new() }.cut(per_part);
        parts.iter_mut().for_each(|part| part.unclean.clone_from(&unclean));
        parts
    }

    /// All images in one part, in the first phase.
    pub(super) fn whole<'b>(&'b mut self, plan: &'b Plan, images: usize) -> Part<'b> {
        let slots = self.slots.iter_mut().map(Vec::as_mut_slice).collect();
        Part { hold: self.hold, images, slots, shapes: plan.slots(self.hold).shapes(0), unclean: Vec::new() }
    }

    /// A value or a gradient of all images.
    pub(super) fn tensor(&self, plan: &Plan, i: usize) -> &[f32] {
        &self.slots[plan.slot(self.hold, i)]
    }

    /// The slots that take on another shape, whose borders are not zero yet.
    fn enter(&mut self, shapes: &[Option<Layout>], images: usize) -> Vec<usize> {
        let mut unclean = Vec::new();
        for (i, (clean, shape)) in self.clean.iter_mut().zip(shapes).enumerate() {
            let Some(shape) = *shape else { continue };
            match *clean {
                None => *clean = Some((shape, self.images)),
                Some((layout, upto)) if layout == shape && upto >= images => {}
                _ => {
                    *clean = Some((shape, images));
                    unclean.push(i);
                }
            }
        }
        unclean
    }
}

impl<'b> Part<'b> {
    /// At most `most` of these images, for work between two moments. What is written and read for the last time in
    /// between lies where the first images lie, whichever these are: so it stays in the cache.
    pub(super) fn only(&mut self, plan: &Plan, first: usize, most: usize, moments: [usize; 2]) -> Part<'_> {
        let Self { hold, images, shapes, .. } = *self;
        let (images, busy) = (most.min(images - first), &plan.slots(hold).busy);
        let mut slots = Vec::with_capacity(self.slots.len());
        for ((slot, shape), busy) in self.slots.iter_mut().zip(shapes).zip(busy) {
            let image = shape.map_or(0, |shape| shape.image());
            let first = if passes(busy, moments) { 0 } else { first };
            slots.push(&mut slot[first * image..(first + images) * image]);
        }
        Part { hold, images, slots, shapes, unclean: Vec::new() }
    }

    fn cut(mut self, per_part: usize) -> Vec<Part<'b>> {
        let part = |first: usize| {
            let images = per_part.min(self.images - first);
            let slots = self.slots.iter_mut().zip(self.shapes).map(|(rest, shape)| {
                let (head, tail) = take(rest).split_at_mut(images * shape.map_or(0, |shape| shape.image()));
                *rest = tail;
                head
            });
            Part { hold: self.hold, images, slots: slots.collect(), shapes: self.shapes, unclean: Vec::new() }
        };
        (0..self.images).step_by(per_part).map(part).collect()
    }

    /// Sets the borders of the slots that have taken on another shape to zero.
    pub(super) fn clean(&mut self) {
        for slot in take(&mut self.unclean) {
            if let Some(shape) = self.shapes[slot] {
                shape.clear_border(self.slots[slot]);
            }
        }
    }

    /// A value or a gradient.
    pub(super) fn tensor(&self, plan: &Plan, i: usize) -> &[f32] {
        self.slots[plan.slot(self.hold, i)]
    }
}

/// Whether all that a slot holds between two moments is written and read for the last time there.
fn passes(busy: &[[usize; 2]], [first, last]: [usize; 2]) -> bool {
    let mut there = busy.iter().filter(|span| span[0] <= last && first <= span[1]).peekable();
    there.peek().is_some() && there.all(|span| first <= span[0] && span[1] <= last)
}

/// A gradient of weights is summed alongside where its sums are no more numbers than an image is to the step: then each
/// group of images has its own, and no image is read from memory again for them.
fn is_alongside(program: &Program, step: &Step, layouts: &[Layout]) -> bool {
    let [source, target] = [step.source, step.target].map(|value| &layouts[value]);
    match step.kind {
        _ if program.mode == Mode::Eval => false,
        Kind::Depthwise(_) => true,
        Kind::Conv(conv) => {
            let weights = conv.window.kernel.pow(2) * source.channels * target.stride();
            conv.bias.is_none()
                && weights <= source.pixels() * source.stride() + target.pixels() * target.stride()
        }
        _ => false,
    }
}

/// In train mode the statistics of a batch take all images, on both ways, and so do the gradients of parameters that are
/// not summed alongside.
fn meets(program: &Program, alongside: &[bool], act: &Act) -> bool {
    program.mode == Mode::Train && act.through(program).is_some_and(|step| !alongside[step])
}

/// Bytes that the values and gradients of a group may take.
const CACHED_BYTES: usize = 2 << 20;

/// Bytes that a value of the images of a step may take, so that it is still in the second-level cache when the next step
/// reads it; and the fewest pixels that make up for reading the weights. Winograd's algorithm makes its weights on the
/// way, and takes more.
const STEP_BYTES: usize = if cfg!(test) { 1 << 10 } else { 512 << 10 }; // in tests an image or two
const STEP_PIXELS: usize = if cfg!(test) { 1 } else { 256 };
const WINOGRAD_BYTES: usize = 4 * STEP_BYTES;

/// How many images each step takes at a time. What has no weights goes with the step that reads it: the two share a turn.
fn images_at_a_time(program: &Program, layouts: &[Layout]) -> Vec<usize> {
    let mut images = vec![1; program.steps.len()];
    for (i, step) in program.steps.iter().enumerate().rev() {
        let [source, target] = [step.source, step.target].map(|value| &layouts[value]);
        let fit = |bytes: usize| (bytes / (4 * source.image().max(target.image()))).max(1);
        images[i] = match step.kind {
            Kind::Conv(_) if program.winograd(step).is_some() => fit(WINOGRAD_BYTES),
            Kind::Conv(_) => fit(STEP_BYTES).max(STEP_PIXELS.div_ceil(target.pixels().max(1))),
            _ => {
                let reader = program.steps.iter().position(|other| other.source == step.target);
                reader.map_or(fit(STEP_BYTES), |reader| images[reader])
            }
        };
    }
    images
}

impl Sweeps {
    /// The source's layouts and the target's, each of the value and of its gradient.
    fn new(window: &Window, [source, target]: [[&Layout; 2]; 2]) -> Self {
        let backward =
            phases(window).into_iter().map(|phase| Sweep::backward(window, &phase, target[1], source[1]));
        Self {
            forward: Some(Sweep::forward(window, source[0], target[0])),
            backward: backward.collect(),
            of_weights: Some(Sweep::forward(window, source[0], target[1])),
            ..Self::default()
        }
    }

    fn with_tiles(mut self, pads: Option<[Pad; 2]>, [source, target]: [[&Layout; 2]; 2]) -> Self {
        let Some(pads) = pads else { return self };
        let tiles = |pad, from: &Layout, to| {
            tile_border(pad, (from.height, from.width)).map(|_| Tiles::new(pad, from, to))
        };
        self.tiles = [tiles(pads[0], source[0], target[0]), tiles(pads[1], target[1], source[1])];
        self.tiles_of_weights = tiles(pads[0], source[0], target[1]);
        self
    }

    /// Whole pixels are read, not only the channels that mean something.
    fn depthwise(mut self) -> Self {
        for sweep in self.forward.iter_mut().chain(&mut self.backward).chain(&mut self.of_weights) {
            sweep.depth = sweep.target_stride;
        }
        self
    }
}

/// What a convolution writes and only normalizations read: it needs no border, for only its gradient is walked over.
fn flat_values(program: &Program) -> Vec<bool> {
    let mut flat = vec![false; program.values.len()];
    for step in &program.steps {
        let plain = step.add.is_none() && !program.values[step.target].rectified;
        flat[step.target] = plain && matches!(step.kind, Kind::Conv(_) | Kind::Depthwise(_));
        flat[step.source] &= matches!(step.kind, Kind::Norm(_));
        step.add.into_iter().for_each(|add| flat[add] = false);
    }
    if let Some(logits) = flat.last_mut() {
        *logits = false;
    }
    flat
}

/// The layout of every gradient, and of every value that is walked over. Those of one size get one border, the widest that
/// any step needs there, so tensors that are added or compared lie alike.
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
