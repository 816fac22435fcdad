//! RSLAD: the robust teacher's soft labels in every term, inner and outer. No hard label anywhere.
//!
//! Source: Zi et al., "Revisiting Adversarial Robustness Distillation: Robust Soft Labels Make Student
//! Better" (ICCV 2021), Table 1 and the released code. Their eq. 3 prints S(x) as the target of the
//! attack; Table 1 and the code have T(x), as here. The code takes the mean over batch and classes for
//! CIFAR-10 and ten times that for CIFAR-100: both are `kl_scale = 0.1`. It runs x' before x.

use super::{MethodEntry, ascend_kl, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, TermsRead, Who, forward};
use candle_core::{D, Tensor};
use rslad_attacks::losses::log_softmax;
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "rslad",
    about: "robust soft labels in every term, no hard label (Zi et al. 2021)",
    outer: "(1-alpha) KL(T(x) || S(x)) + alpha KL(T(x) || S(x'))",
    inner: "KL(T(x) || S(x'))",
    keys: "alpha (5/6), kl_scale (1; released: 0.1)",
    build: |keys| {
        let Rslad { alpha, kl_scale } = read(keys)?;
        Ok(Box::new(Rslad::new(alpha, kl_scale)?))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rslad {
    alpha: f64,
    kl_scale: f64,
}

impl Rslad {
    /// The method with these constants, or what is wrong with them.
    pub(super) fn new(alpha: f64, kl_scale: f64) -> std::result::Result<Self, String> {
        within("alpha", alpha, 0.0, 1.0)?;
        within("kl_scale", kl_scale, 1e-6, 1e6)?;
        Ok(Self { alpha, kl_scale })
    }
}

impl Method for Rslad {
    fn plan(&self) -> Plan {
        Plan {
            labels: Labels::Unread,
            before: vec![forward("t_nat", Who::Teacher, Point::Nat)],
            after: vec![
                forward("s_adv", Who::Student, Point::Adv),
                forward("s_nat", Who::Student, Point::Nat),
            ],
        }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_kl(f, "t_nat")
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let t_nat = f.logits("t_nat")?;
        let adv = released_kl(t_nat, f.logits("s_adv")?)?;
        let nat = released_kl(t_nat, f.logits("s_nat")?)?;
        Ok(Terms::of("kl_adv", self.alpha * self.kl_scale, adv).plus(
            "kl_nat",
            (1.0 - self.alpha) * self.kl_scale,
            nat,
        ))
    }

    fn terms_read(&self) -> TermsRead {
        TermsRead::OneForward
    }
}

/// KL(softmax `target` || softmax `logits`) `[N]` with the released code's `log(p + 1e-5)` for the
/// target: a constant of the student, so it moves the printed loss (by 3e-5 of it) and no gradient.
fn released_kl(target: &Tensor, logits: &Tensor) -> Result<Tensor> {
    let p = log_softmax(&target.detach())?.exp()?; // [N, K]
    let log_p = (&p + 1e-5)?.log()?;
    Ok((p * (log_p - log_softmax(logits)?)?)?.sum(D::Minus1)?)
}
