//! AdaAD: the teacher is asked anew at every point of the attack, and its answer at x' is the target.
//!
//! Source: Huang et al., "Boosting Accuracy and Robustness of Student Models via Adaptive Adversarial
//! Distillation" (CVPR 2023) and `AT_helper.py` of its released code, whose attack ascends the
//! disagreement of the two networks, with the gradient through both. That code takes the mean over
//! batch and classes on CIFAR-10 (`kl_scale` = 1/10) and over the batch on CIFAR-100 (`kl_scale` = 1).

use super::{MethodEntry, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Over, Plan, Point, Terms, Who, forward};
use candle_core::Tensor;
use rslad_attacks::losses::kl;
use rslad_models::ClosureObjective;
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "adaad",
    about: "adaptive adversarial distillation (Huang et al. 2023)",
    outer: "(1-alpha) KL(T(x) || S(x)) + alpha KL(T(x') || S(x'))",
    inner: "KL(T(x') || S(x')), through both networks",
    keys: "alpha (1), kl_scale (1; released: 0.1 on CIFAR-10, 1 on CIFAR-100)",
    build: |keys| {
        let method: AdaAd = read(keys)?;
        within("alpha", method.alpha, 0.0, 1.0)?;
        within("kl_scale", method.kl_scale, 1e-6, 1e6)?;
        Ok(Box::new(method))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AdaAd {
    alpha: f64,
    kl_scale: f64,
}

impl Method for AdaAd {
    fn plan(&self) -> Plan {
        Plan {
            labels: Labels::Unread,
            before: vec![forward("t_nat", Who::Teacher, Point::Nat)],
            after: vec![
                forward("s_nat", Who::Student, Point::Nat),
                forward("s_adv", Who::Student, Point::Adv),
                forward("t_adv", Who::Teacher, Point::Adv),
            ],
        }
    }

    fn inner<'a>(&self, _: &'a Forwards) -> Result<Inner<'a>> {
        let objective = Box::new(ClosureObjective(disagreement));
        Ok(Inner::Ascend { over: Over::StudentAndTeacher, objective })
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let adv = kl(f.logits("t_adv")?, f.logits("s_adv")?)?;
        let nat = kl(f.logits("t_nat")?, f.logits("s_nat")?)?;
        Ok(Terms::of("kl_adv", self.alpha * self.kl_scale, adv).plus(
            "kl_nat",
            (1.0 - self.alpha) * self.kl_scale,
            nat,
        ))
    }
}

/// KL(T(x') || S(x')) `[N]` of the logits of student and teacher side by side, `[N, 2K]`.
fn disagreement(_: &[u32], both: &Tensor) -> rslad_models::Result<Tensor> {
    let k = both.dim(1)? / 2;
    Ok(kl(&both.narrow(1, k, k)?, &both.narrow(1, 0, k)?)?)
}
