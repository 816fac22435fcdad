//! ARD: the teacher's tempered clean prediction as the target at x'.
//!
//! Source: Goldblum et al., "Adversarially Robust Distillation" (AAAI 2020). Its released code takes the
//! mean over batch and classes (`kl_scale` = 1/C), attacks in train mode, and runs the clean forward,
//! which moves the running statistics, even at alpha = 1 where its loss has weight 0.

use super::{MethodEntry, ascend_cross_entropy, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, TermsRead, Who, forward};
use rslad_attacks::losses::{cross_entropy, kl};
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "ard",
    about: "adversarially robust distillation (Goldblum et al. 2020)",
    outer: "(1-alpha) CE(S(x), y) + alpha tau^2 KL(T(x)/tau || S(x')/tau)",
    inner: "CE(S(x'), y)",
    keys: "alpha (1), tau (30), kl_scale (1; released: 1/classes)",
    build: |keys| {
        let method: Ard = read(keys)?;
        within("alpha", method.alpha, 0.0, 1.0)?;
        within("tau", method.tau, 1e-3, 1e3)?;
        within("kl_scale", method.kl_scale, 1e-6, 1e6)?;
        Ok(Box::new(method))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Ard {
    alpha: f64,
    tau: f64,
    kl_scale: f64,
}

impl Method for Ard {
    fn plan(&self) -> Plan {
        Plan {
            labels: Labels::Read,
            before: vec![forward("t_nat", Who::Teacher, Point::Nat)],
            after: vec![
                forward("s_adv", Who::Student, Point::Adv),
                forward("s_nat", Who::Student, Point::Nat),
            ],
        }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_cross_entropy(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let Self { alpha, tau, kl_scale } = *self;
        let distillation = kl(&(f.logits("t_nat")? / tau)?, &(f.logits("s_adv")? / tau)?)?;
        let ce = cross_entropy(f.logits("s_nat")?, f.labels()?)?;
        let weight = alpha * tau * tau * kl_scale;
        Ok(Terms::of("kl_adv", weight, distillation).plus("ce_nat", 1.0 - alpha, ce))
    }

    fn terms_read(&self) -> TermsRead {
        TermsRead::OneForward
    }
}
