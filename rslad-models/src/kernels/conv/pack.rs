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
        let widths = panel_widths(isa, stride);
        Self { widths, taps, depth, data: vec![0.0; taps * depth * stride] }
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

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.data.as_slice())
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
