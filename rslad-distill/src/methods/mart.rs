//! MART: boosted cross-entropy at x', and consistency weighted by how unsure the clean prediction is.
//!
//! Source: Wang et al., "Improving Adversarial Robustness Requires Revisiting Misclassified Examples"
//! (ICLR 2020), with the constants 1e-4, 1e-7 and 1e-12 of its released code. In the paper's Table 1
//! only; no results of it are published there.

use super::{MethodEntry, ascend_cross_entropy, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use candle_core::{D, Tensor};
use rslad_attacks::losses::{cross_entropy, log_softmax};
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "mart",
    about: "misclassification-aware adversarial training (Wang et al. 2020)",
    outer: "BCE(S(x'), y) + beta (1 - S_y(x)) KL(S(x) || S(x'))",
    inner: "CE(S(x'), y)",
    keys: "beta (6)",
    build: |keys| {
        let method: Mart = read(keys)?;
        within("beta", method.beta, 0.0, 1000.0)?;
        Ok(Box::new(method))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Mart {
    beta: f64,
}

impl Method for Mart {
    fn plan(&self) -> Plan {
        Plan {
            labels: Labels::Read,
            before: vec![],
            after: vec![
                forward("s_nat", Who::Student, Point::Nat),
                forward("s_adv", Who::Student, Point::Adv),
            ],
        }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_cross_entropy(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let (s_nat, s_adv, y) = (f.logits("s_nat")?, f.logits("s_adv")?, f.labels()?);
        let p_label = cross_entropy(s_nat, y)?.neg()?.exp()?; // [N]: S_y(x)
        let unsure = (1.000_000_1 - p_label)?;
        let consistency = (released_kl(s_nat, s_adv)? * unsure)?;
        Ok(Terms::one("bce_adv", boosted_cross_entropy(s_adv, y)?).plus("kl_adv", self.beta, consistency))
    }
}

/// `-log p_y - log(1 - max_{j != y} p_j)`, with the released code's 1.0001 in place of 1.
fn boosted_cross_entropy(logits: &Tensor, y: &Tensor) -> Result<Tensor> {
    let log_probs = log_softmax(logits)?; // [N, K]
    let classes = Tensor::arange(0, logits.dim(1)? as u32, logits.device())?;
    let is_label = y.unsqueeze(1)?.broadcast_eq(&classes.unsqueeze(0)?)?; // [N, K]
    let others =
        is_label.where_cond(&log_probs.ones_like()?.affine(0.0, f64::NEG_INFINITY)?, &log_probs.detach())?;
    let rival = others.argmax_keepdim(D::Minus1)?; // [N, 1]: found outside the graph, gathered inside
    let p_rival = log_probs.gather(&rival, 1)?.squeeze(1)?.exp()?;
    Ok((cross_entropy(logits, y)? - (1.0001 - p_rival)?.log()?)?)
}

/// KL(softmax `p_logits` || softmax `q_logits`) `[N]` with the released code's `log(q + 1e-12)`, which
/// bounds it where q underflows.
fn released_kl(p_logits: &Tensor, q_logits: &Tensor) -> Result<Tensor> {
    let log_p = log_softmax(p_logits)?; // [N, K]
    let log_q = (log_softmax(q_logits)?.exp()? + 1e-12)?.log()?;
    Ok((log_p.exp()? * (log_p - log_q)?)?.sum(D::Minus1)?)
}
