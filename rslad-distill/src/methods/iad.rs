//! IAD: trust the teacher as far as it still knows the label at x', the student's own clean prediction
//! for the rest.
//!
//! Source: Zhu et al., "Reliable Adversarial Distillation with Unreliable Teachers" (ICLR 2022), its
//! first variant. The released code does not weight the teacher's term (`weighting = "released"`), and
//! runs each student forward twice (`forwards = "released"`), which moves the running statistics.

use super::{MethodEntry, ascend_cross_entropy, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use candle_core::Tensor;
use rslad_attacks::losses::{cross_entropy, kl};
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "iad",
    about: "introspective adversarial distillation, one teacher (Zhu et al. 2022)",
    outer: "A KL(T(x) || S(x')) + (1-A) KL(S(x) || S(x')), A = T_y(x')^beta",
    inner: "CE(S(x'), y)",
    keys: "alpha (1), beta (0.1), tau (1), kl_scale (1), begin (60: epochs before A counts), \
           weighting (\"paper\": A on the teacher's term; \"released\": 1), forwards (\"minimal\", \"released\")",
    build: |keys| {
        let method: Iad = read(keys)?;
        within("alpha", method.alpha, 0.0, 1.0)?;
        within("beta", method.beta, 0.0, 100.0)?;
        within("tau", method.tau, 1e-3, 1e3)?;
        within("kl_scale", method.kl_scale, 1e-6, 1e6)?;
        Ok(Box::new(method))
    },
};

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Weighting {
    Paper,
    Released,
}

#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Repeats {
    Minimal,
    Released,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Iad {
    alpha: f64,
    beta: f64,
    tau: f64,
    kl_scale: f64,
    begin: u64,
    weighting: Weighting,
    forwards: Repeats,
}

impl Method for Iad {
    fn plan(&self) -> Plan {
        let adv = |name| forward(name, Who::Student, Point::Adv);
        let nat = |name| forward(name, Who::Student, Point::Nat);
        let mut after = vec![forward("t_adv", Who::Teacher, Point::Adv)];
        after.extend(match self.forwards {
            Repeats::Minimal => vec![adv("s_adv"), nat("s_nat")],
            Repeats::Released => vec![adv("s_adv"), adv("s_adv_again"), nat("s_nat"), nat("s_nat_again")],
        });
        Plan { labels: Labels::Read, before: vec![forward("t_nat", Who::Teacher, Point::Nat)], after }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_cross_entropy(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let (t_nat, s_adv, s_nat) = (f.logits("t_nat")?, f.logits("s_adv")?, f.logits("s_nat")?);
        let tau = self.tau;
        let mut from_teacher = kl(&(t_nat / tau)?, &(s_adv / tau)?)?;
        let ce = cross_entropy(s_nat, f.labels()?)?;
        let scale = self.alpha * self.kl_scale;
        if f.progress().epoch <= self.begin {
            return Ok(Terms::of("kl_teacher", scale * tau * tau, from_teacher).plus(
                "ce_nat",
                1.0 - self.alpha,
                ce,
            ));
        }
        let trust = trust(f.logits("t_adv")?, f.labels()?, self.beta)?; // [N]: A
        let from_itself = (kl(s_nat, s_adv)? * (1.0 - &trust)?)?;
        if self.weighting == Weighting::Paper {
            from_teacher = (from_teacher * trust)?;
        }
        Ok(Terms::of("kl_teacher", scale * tau * tau, from_teacher).plus("kl_self", scale, from_itself).plus(
            "ce_nat",
            1.0 - self.alpha,
            ce,
        ))
    }
}

/// How far a teacher with these logits at x' is trusted: `A = T_y(x')^beta`, `[N]`.
pub(super) fn trust(t_adv: &Tensor, y: &Tensor, beta: f64) -> Result<Tensor> {
    let log_p = cross_entropy(t_adv, y)?.neg()?;
    Ok((log_p * beta)?.exp()?)
}
