//! Weights in the order in which the kernels read them.

use crate::kernels::Isa;

/// Weights as `[panel][tap][depth][width]`: a panel is as many output channels as a block of
/// registers holds, and the last panels are narrower.
#[derive(Clone, Debug, Default)]
pub(crate) struct Panels {
    pub(super) widths: Vec<usize>,
    pub(super) taps: usize,
    pub(super) depth: usize,
    pub(super) data: Vec<f32>,
}

/// How `stride` stored channels are cut into panels.
pub(super) fn panel_widths(isa: Isa, stride: usize) -> Vec<usize> {
    let mut widths = Vec::new();
    let mut rest = stride;
    for width in [2 * isa.lanes(), isa.lanes(), 8] {
        widths.extend(std::iter::repeat_n(width, rest / width));
        rest %= width;
    }
    widths
}

impl Panels {
    /// Room for `taps` taps of `depth` channels each, written to `stride` stored channels.
    pub(crate) fn new(isa: Isa, taps: usize, depth: usize, stride: usize) -> Self {
        Self::within(isa, [taps, depth, stride], |floats| vec![0.0; floats])
    }

    /// The same in given room: that many floats, all of them zero.
    pub(crate) fn within(
        isa: Isa,
        [taps, depth, stride]: [usize; 3],
        room: impl FnOnce(usize) -> Vec<f32>,
    ) -> Self {
        Self { widths: panel_widths(isa, stride), taps, depth, data: room(taps * depth * stride) }
    }

    /// Its room, to be used again.
    pub(crate) fn into_room(self) -> Vec<f32> {
        self.data
    }

    /// The weight at an output channel, a tap and an input channel.
    pub(crate) fn reader(&self) -> impl Fn(usize, usize, usize) -> f32 + '_ {
        let (mut lanes, mut first) = (Vec::new(), 0);
        for &width in &self.widths {
            lanes.extend((0..width).map(|lane| (first + lane, width)));
            first += self.taps * self.depth * width;
        }
        move |channel, tap, d| {
            let (lane, width) = lanes[channel];
            self.data[lane + (tap * self.depth + d) * width]
        }
    }

    /// The panels, to be filled by [`Panel::fill`].
    pub(crate) fn panels(&mut self) -> Vec<Panel<'_>> {
        let (taps, depth) = (self.taps, self.depth);
        let (mut rest, mut first) = (self.data.as_mut_slice(), 0);
        let cut = |&width: &usize| {
            let (data, after) = std::mem::take(&mut rest).split_at_mut(taps * depth * width);
            rest = after;
            first += width;
            Panel { first: first - width, width, taps, depth, data }
        };
        self.widths.iter().map(cut).collect()
    }

    /// How many numbers they are.
    pub(crate) fn floats(&self) -> usize {
        self.data.len()
    }
}

/// One panel of weights.
pub(crate) struct Panel<'a> {
    first: usize,
    width: usize,
    taps: usize,
    depth: usize,
    data: &'a mut [f32],
}

impl Panel<'_> {
    /// Sets the weights of its output channels below `channels`; the lanes beyond stay zero.
    pub(crate) fn fill(&mut self, channels: usize, weight: impl Fn(usize, usize, usize) -> f32) {
        const RUN: usize = 8; // the rows that these channels are read from and written to stay in the cache
        for first in (0..self.depth).step_by(RUN) {
            for lane in 0..self.width.min(channels.saturating_sub(self.first)) {
                for d in first..self.depth.min(first + RUN) {
                    for tap in 0..self.taps {
                        let at = (tap * self.depth + d) * self.width + lane;
                        self.data[at] = weight(self.first + lane, tap, d);
                    }
                }
            }
        }
    }
}
