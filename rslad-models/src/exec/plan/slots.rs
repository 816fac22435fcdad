//! Which buffer every tensor has: when each is needed, and which are never needed together.

use crate::exec::backward::Act;
use crate::exec::program::{Kind, Mode, Program, Step};
use crate::kernels::Layout;
use std::cmp::Reverse;

/// Buffers shared by tensors that are never alive together. Tensors of one shape may follow each other at once,
/// for the border stays zero; one of another shape only when all threads have met in between, for the images lie in
/// other places then.
#[derive(Debug)]
pub(super) struct Slots {
    /// The buffer of each tensor: the values, and after them the gradients.
    pub(super) of: Vec<usize>,
    images: Vec<usize>, // floats an image takes in each buffer
    /// From when to when each buffer holds something, in moments.
    pub(super) busy: Vec<Vec<[usize; 2]>>,
    /// In each phase, between two meetings of the threads, the shape that each buffer has.
    shapes: Vec<Vec<Option<Layout>>>,
}

/// From when to when a tensor is needed, in moments and in phases.
#[derive(Clone, Copy, Debug)]
struct Span {
    moments: [usize; 2],
    phases: [usize; 2],
}

impl Span {
    fn allows(&self, other: &Self, alike: bool) -> bool {
        let apart = |a: [usize; 2], b: [usize; 2]| a[1] < b[0] || b[1] < a[0];
        if alike { apart(self.moments, other.moments) } else { apart(self.phases, other.phases) }
    }
}

impl Slots {
    /// Large tensors first; a smaller one takes the tightest buffer that is free while it is needed.
    pub(super) fn assign(layouts: &[Layout], lives: &Lives) -> Self {
        let shape = |i: usize| {
            let layout = layouts[i];
            Layout { channels: layout.stride(), ..layout }
        };
        let mut order: Vec<usize> = (0..lives.spans.len()).filter(|&i| !lives.spans[i].is_empty()).collect();
        order.sort_by_key(|&i| (Reverse(shape(i).image()), lives.spans[i][0].moments));
        let mut slots: Vec<Vec<(Layout, Span)>> = Vec::new();
        let mut of = vec![0; lives.spans.len()];
        for i in order {
            let own = || lives.spans[i].iter().map(|span| (shape(i), *span));
            let free = |slot: &Vec<(Layout, Span)>| {
                own().all(|(shape, span)| slot.iter().all(|(other, busy)| span.allows(busy, shape == *other)))
            };
            of[i] = slots.iter().rposition(free).unwrap_or(slots.len());
            if of[i] == slots.len() {
                slots.push(Vec::new());
            }
            slots[of[i]].extend(own());
        }
        let in_phase = |phase: usize| {
            let here = |(_, span): &&(Layout, Span)| (span.phases[0]..=span.phases[1]).contains(&phase);
            slots.iter().map(|slot| slot.iter().find(here).map(|(shape, _)| *shape)).collect()
        };
        let shapes = (0..=lives.phase).map(in_phase).collect();
        let image = |slot: &Vec<(Layout, Span)>| slot.iter().map(|(shape, _)| shape.image()).max();
        let busy = |slot: &Vec<(Layout, Span)>| slot.iter().map(|(_, span)| span.moments).collect();
        Self {
            of,
            images: slots.iter().filter_map(image).collect(),
            busy: slots.iter().map(busy).collect(),
            shapes,
        }
    }

    pub(super) fn shapes(&self, phase: usize) -> &[Option<Layout>] {
        &self.shapes[phase.min(self.shapes.len() - 1)]
    }

    pub(super) fn buffers(&self, images: usize) -> Vec<Vec<f32>> {
        self.images.iter().map(|image| vec![0.0; image * images]).collect()
    }
}

/// The moment of a step on the way forward.
pub(in crate::exec) fn of_step(step: usize) -> usize {
    step + 1
}

/// The moment of an act on the way back.
pub(in crate::exec) fn of_act(program: &Program, act: usize) -> usize {
    of_step(program.steps.len()) + 2 + act
}

/// When tensors are needed.
#[derive(Debug)]
pub(super) struct Lives {
    spans: Vec<Vec<Span>>, // of each tensor: more than one where it is made again
    moment: usize,
    phase: usize,
}

impl Lives {
    /// From the step that writes a value to the last that reads it. Threads meet before every normalization.
    pub(super) fn of_values(program: &Program, tensors: usize, meetings: bool) -> Self {
        let mut lives = Self { spans: vec![Vec::new(); tensors], moment: 0, phase: 0 };
        lives.begin(0);
        for step in &program.steps {
            lives.moment += 1;
            lives.phase += usize::from(meetings && matches!(step.kind, Kind::Norm(_)));
            std::iter::once(step.source).chain(step.add).for_each(|read| lives.touch(read));
            lives.begin(step.target);
        }
        lives.moment += 1;
        lives.touch(program.values.len() - 1);
        lives
    }

    /// From there on, the way back: the logits' gradient comes before it and the images' is read after it.
    pub(super) fn of_way_back(program: &Program, acts: &[Act], meets: impl Fn(&Act) -> bool) -> Self {
        let n = program.values.len();
        let meetings = program.mode == Mode::Train;
        let mut lives = Self::of_values(program, 2 * n, meetings);
        lives.moment += 1;
        lives.phase += usize::from(meetings);
        lives.begin(2 * n - 1);
        debug_assert_eq!(lives.moment + 1, of_act(program, 0));
        for act in acts {
            lives.moment += 1;
            match act {
                Act::Again(step) => {
                    let Step { source, add, target, .. } = program.steps[*step];
                    std::iter::once(source).chain(add).for_each(|v| lives.touch(v));
                    lives.begin(target);
                }
                Act::Weights { from, .. } => {
                    act.value(program).into_iter().for_each(|v| lives.touch(v));
                    lives.touch(n + from);
                }
                Act::Go(go) => {
                    lives.phase += usize::from(meets(act));
                    act.value(program).into_iter().for_each(|v| lives.touch(v));
                    go.reads().into_iter().for_each(|g| lives.touch(n + g));
                    lives.touch(n + go.target(program));
                }
            }
        }
        lives.moment += 1;
        lives.touch(n);
        lives
    }

    /// All values until the end, in eval mode: other ways back may follow.
    pub(super) fn with_all_values(mut self, program: &Program) -> Self {
        (0..program.values.len()).for_each(|v| self.touch(v));
        self
    }

    fn begin(&mut self, tensor: usize) {
        let Self { moment, phase, .. } = *self;
        self.spans[tensor].push(Span { moments: [moment; 2], phases: [phase; 2] });
    }

    /// It is needed until now; begins if it has not yet.
    fn touch(&mut self, tensor: usize) {
        if self.spans[tensor].is_empty() {
            self.begin(tensor);
        }
        let Self { moment, phase, .. } = *self;
        if let Some(span) = self.spans[tensor].last_mut() {
            (span.moments[1], span.phases[1]) = (moment, phase);
        }
    }
}
