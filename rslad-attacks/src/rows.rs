//! Rows of a tensor by index.

use candle_core::{Result, Tensor};

/// These rows of a tensor's first dimension: a view when they are consecutive, else a copy.
///
/// Plans may ask an objective about consecutive groups of a batch, so the common case must not copy.
pub(crate) fn take(t: &Tensor, rows: &[u32]) -> Result<Tensor> {
    let consecutive = rows.windows(2).all(|w| w[1] == w[0] + 1);
    match rows.first() {
        Some(&first) if consecutive => t.narrow(0, first as usize, rows.len()),
        _ => t.index_select(&Tensor::new(rows, t.device())?, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::Device;

    #[test]
    fn both_paths_pick_the_named_rows() -> Result<()> {
        let t = Tensor::arange(0f32, 8., &Device::Cpu)?.reshape((4, 2))?;
        assert_eq!(take(&t, &[1, 2])?.to_vec2::<f32>()?, [[2., 3.], [4., 5.]]);
        assert_eq!(take(&t, &[3, 0, 3])?.to_vec2::<f32>()?, [[6., 7.], [0., 1.], [6., 7.]]);
        assert!(take(&t, &[4]).is_err() && take(&t, &[0, 9]).is_err());
        Ok(())
    }
}
