//! Losses of single examples, as differentiable expressions of logits.
//!
//! Every function maps logits `[N, K]` to `[N]`: a reduction is visible where it happens, in the code of
//! the caller. All work in f32 and f64 and stay finite, with finite gradients, for logits of any usual
//! size (tested to +-100): probabilities are never formed and then taken the logarithm of.
//!
//! They return candle's own result, so that they fit into any closure. The closed forms that attacks
//! ascend are in [`objectives`](crate::objectives).

use candle_core::{D, Result, Tensor, bail};

/// The logarithm of the softmax.
///
/// # Shapes
/// `logits`: `[N, K]`; returns `[N, K]`.
///
/// # Errors
/// When a tensor operation fails.
pub fn log_softmax(logits: &Tensor) -> Result<Tensor> {
    // The maximum is a constant of the computation: its derivative cancels.
    let shifted = logits.broadcast_sub(&logits.detach().max_keepdim(D::Minus1)?)?;
    shifted.broadcast_sub(&shifted.exp()?.sum_keepdim(D::Minus1)?.log()?)
}

/// The cross-entropy of the labels, `-log p_y`.
///
/// # Shapes
/// `logits`: `[N, K]`; `y`: `[N]`, u32 below K; returns `[N]`.
///
/// # Errors
/// When a tensor operation fails, such as for a label out of range.
pub fn cross_entropy(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    log_softmax(logits)?.gather(&y.unsqueeze(1)?, 1)?.squeeze(1)?.neg()
}

/// KL(softmax `p_logits` || softmax `q_logits`), differentiable in both.
///
/// The teacher is the first argument in every distillation loss of the field, whatever order the paper
/// prints (PyTorch's `KLDivLoss(log q, p)`).
///
/// # Shapes
/// both `[N, K]`; returns `[N]`.
///
/// # Errors
/// When a tensor operation fails.
pub fn kl(p_logits: &Tensor, q_logits: &Tensor) -> Result<Tensor> {
    let log_p = log_softmax(p_logits)?;
    let log_q = log_softmax(q_logits)?;
    let (p, q) = (log_p.exp()?, log_q.exp()?);
    // Where p underflows to 0 the difference of the logarithms is still finite, so 0 log 0 is 0. The
    // sums of q and p are both 1; with them, rounding of the normalizers cancels to first order, which
    // matters for flat distributions (ten times less error at ARD's temperature of 30).
    let terms = ((&p * (log_p - log_q)?)? + (q - p)?)?;
    terms.sum(D::Minus1)
}

/// `z_y - max_{j != y} z_j`: positive where the label wins. Attacks descend it.
///
/// Of equal other classes the first is the one that gets the gradient.
///
/// # Shapes
/// `logits`: `[N, K]` with K >= 2; `y`: `[N]`, u32 below K; returns `[N]`.
///
/// # Errors
/// When there is one class only, or a tensor operation fails.
pub fn margin(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y = y.unsqueeze(1)?; // [N, 1]
    let other = best_other(logits, &y)?; // [N, 1]
    (logits.gather(&y, 1)? - logits.gather(&other, 1)?)?.squeeze(1)
}

/// The difference-of-logits ratio, ascended by an attack.
///
/// # Shapes
/// `logits`: `[N, K]` with K >= 3; `y`: `[N]`, u32 below K; returns `[N]`.
///
/// # Errors
/// When there are fewer than three classes, or a tensor operation fails.
///
/// # Source
/// Croce and Hein 2020, "Reliable evaluation of adversarial robustness", eq. 6; the 1e-12 is in the
/// released code only.
pub fn dlr(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let y = y.unsqueeze(1)?;
    let other = best_other(logits, &y)?;
    let ranked = ranked_logits(logits, 3)?; // [N, 3]
    let gap = (logits.gather(&y, 1)? - logits.gather(&other, 1)?)?;
    let scale = ((ranked.narrow(1, 0, 1)? - ranked.narrow(1, 2, 1)?)? + 1e-12)?;
    (gap / scale)?.neg()?.squeeze(1)
}

/// The targeted difference-of-logits ratio, ascended by an attack toward `target`.
///
/// # Shapes
/// `logits`: `[N, K]` with K >= 4; `y`, `target`: `[N]`, u32 below K; returns `[N]`.
///
/// # Errors
/// When there are fewer than four classes, or a tensor operation fails.
///
/// # Source
/// Croce and Hein 2020, eq. 7; the 1e-12 is in the released code only.
pub fn dlr_targeted(logits: &Tensor, y: &Tensor, target: &Tensor) -> Result<Tensor> {
    let at = |classes: &Tensor| logits.gather(&classes.unsqueeze(1)?, 1);
    let ranked = ranked_logits(logits, 4)?; // [N, 4]
    let rank = |k: usize| ranked.narrow(1, k, 1);
    let middle = ((rank(2)? + rank(3)?)? * 0.5)?;
    let scale = ((rank(0)? - middle)? + 1e-12)?;
    ((at(y)? - at(target)?)? / scale)?.neg()?.squeeze(1)
}

/// One where the class is the row's own, else zero, in u8.
pub(crate) fn one_hot(classes: &Tensor, n_classes: usize) -> Result<Tensor> {
    let all = Tensor::arange(0u32, n_classes as u32, classes.device())?;
    classes.broadcast_eq(&all.unsqueeze(0)?)
}

/// The class of the largest logit but the label's, the first of equals: `y` and the result are `[N, 1]`.
pub(crate) fn best_other(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let (n, k) = logits.dims2()?;
    if k < 2 {
        bail!("a margin needs another class than the label's, expected at least 2 classes, got {k}");
    }
    let never = Tensor::full(f32::NEG_INFINITY, (n, k), logits.device())?.to_dtype(logits.dtype())?;
    one_hot(y, k)?.where_cond(&never, &logits.detach())?.argmax_keepdim(1)
}

/// The `n` largest logits of each row in descending order, inside the graph; their places are found
/// outside it, the first of equals first (candle's sort is not stable).
fn ranked_logits(logits: &Tensor, n: usize) -> Result<Tensor> {
    let (_, k) = logits.dims2()?;
    if k < n {
        bail!("this loss compares the {n} largest logits, expected at least {n} classes, got {k}");
    }
    let (mut rest, mut places) = (logits.detach(), Vec::with_capacity(n));
    let never = Tensor::full(f32::NEG_INFINITY, rest.dims(), rest.device())?.to_dtype(rest.dtype())?;
    for _ in 0..n {
        let place = rest.argmax_keepdim(1)?; // [N, 1]
        rest = one_hot(&place, k)?.where_cond(&never, &rest)?;
        places.push(place);
    }
    logits.gather(&Tensor::cat(&places, 1)?, 1)
}
