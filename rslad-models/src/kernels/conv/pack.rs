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
pub(crate) fn panel_widths(isa: Isa, stride: usize) -> Vec<usize> {
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

    /// Sets the weights of the first `channels` output channels; the lanes beyond stay zero.
    /// `weight(channel, tap, depth)` is read channel by channel.
    pub(crate) fn fill(&mut self, channels: usize, weight: impl Fn(usize, usize, usize) -> f32) {
        let mut first = 0;
        let mut rest = self.data.as_mut_slice();
        for &width in &self.widths {
            let (panel, next) = rest.split_at_mut(self.taps * self.depth * width);
            for lane in 0..width.min(channels.saturating_sub(first)) {
                for tap in 0..self.taps {
                    let rows = &mut panel[tap * self.depth * width..];
                    for d in 0..self.depth {
                        rows[d * width + lane] = weight(first + lane, tap, d);
                    }
                }
            }
            (first, rest) = (first + width, next);
        }
    }

    /// Bytes of the weights.
    pub(super) fn bytes(&self) -> usize {
        size_of_val(self.data.as_slice())
    }
}
