//! What a batch ascends: the losses of [`aim`](crate::aim), by tensor operations.

use crate::aim::{Aim, Loss};
use crate::error::Result;
use crate::losses;
use crate::rows;
use candle_core::{DType, Tensor};
use rslad_models::{ClosureObjective, Objective};

/// A loss of every example, in double precision as the walks' own.
pub(super) struct Together {
    pub(super) loss: Loss,
    /// `[n]`, u32.
    pub(super) y: Tensor,
    /// The class of each example that the loss is about, where there is one. It stands for that of `loss`.
    pub(super) class: Option<Tensor>,
}

impl Objective for Together {
    fn value_and_grad(&self, rows: &[u32], logits: &Tensor) -> rslad_models::Result<(Tensor, Tensor)> {
        let y = rows::take(&self.y, rows)?;
        let class = self.class.as_ref().map(|class| rows::take(class, rows)).transpose()?;
        let class = class.as_ref().unwrap_or(&y);
        let loss = |_: &[u32], z: &Tensor| {
            Ok(match self.loss {
                Loss::CrossEntropy => losses::cross_entropy(z, &y)?,
                Loss::Margin => losses::margin(z, &y)?.neg()?,
                Loss::Dlr => losses::dlr(z, &y)?,
                Loss::DlrTargeted(_) => losses::dlr_targeted(z, &y, class)?,
                Loss::Lead(_) => {
                    let of = |class: &Tensor| z.gather(&class.unsqueeze(1)?, 1)?.squeeze(1);
                    (of(class)? - of(&y)?)?
                }
            })
        };
        let (value, grad) = ClosureObjective(loss).value_and_grad(rows, &logits.to_dtype(DType::F64)?)?;
        Ok((value.to_dtype(logits.dtype())?, grad.to_dtype(logits.dtype())?))
    }
}

/// Refuses labels, and numbers of classes, that a loss has no meaning for.
pub(super) fn check(loss: Loss, y: &Tensor, n_classes: usize) -> Result<()> {
    let labels = y.to_vec1::<u32>()?;
    labels.into_iter().try_for_each(|y| Aim { y, loss }.check(n_classes))
}
