//! IAD-II: as IAD, with a second, natural teacher beside the robust one, and all of them asked at x'.
//!
//! Source: Zhu et al., "Reliable Adversarial Distillation with Unreliable Teachers" (ICLR 2022), its
//! second variant, as in `IAD-II.py` of its released code, which this follows to the digit. That code
//! runs S(x) only once the student counts (`begin`); here it always runs, which moves the running
//! statistics of the epochs before.

use super::iad::trust;
use super::{MethodEntry, ascend_cross_entropy, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use candle_core::Tensor;
use rslad_attacks::losses::{cross_entropy, kl};
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "iad2",
    about: "introspective adversarial distillation, robust and natural teacher (Zhu et al. 2022)",
    outer: "(1-a1-a2) CE(S(x'), y) + a1 [A KL(T(x') || S(x')) + (1-A) KL(S(x) || S(x'))] + a2 KL(N(x') || S(x')), \
            A = T_y(x')^beta, N the second teacher",
    inner: "CE(S(x'), y)",
    keys: "alpha1 (0.5), alpha2 (0.25), beta (0.1), tau (1), kl_scale (1), begin (40: epochs before A counts)",
    build: |keys| {
        let method: Iad2 = read(keys)?;
        within("alpha1", method.alpha1, 0.0, 1.0)?;
        within("alpha2", method.alpha2, 0.0, 1.0 - method.alpha1)?;
        within("beta", method.beta, 0.0, 100.0)?;
        within("tau", method.tau, 1e-3, 1e3)?;
        within("kl_scale", method.kl_scale, 1e-6, 1e6)?;
        Ok(Box::new(method))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Iad2 {
    alpha1: f64,
    alpha2: f64,
    beta: f64,
    tau: f64,
    kl_scale: f64,
    begin: u64,
}

impl Method for Iad2 {
    fn plan(&self) -> Plan {
        Plan {
            labels: Labels::Read,
            before: vec![],
            after: vec![
                forward("t_adv", Who::Teacher, Point::Adv),
                forward("st_adv", Who::SecondTeacher, Point::Adv),
                forward("s_adv", Who::Student, Point::Adv),
                forward("s_nat", Who::Student, Point::Nat),
            ],
        }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_cross_entropy(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let Self { alpha1, alpha2, tau, kl_scale, .. } = *self;
        let (t_adv, s_adv, s_nat) = (f.logits("t_adv")?, f.logits("s_adv")?, f.logits("s_nat")?);
        let tempered = |target: &Tensor| -> Result<Tensor> { Ok(kl(&(target / tau)?, &(s_adv / tau)?)?) };
        let mut from_teacher = tempered(t_adv)?;
        let mut from_itself = None;
        if f.progress().epoch > self.begin {
            let trust = trust(t_adv, f.labels()?, self.beta)?; // [N]: A
            from_itself = Some((kl(s_nat, s_adv)? * (1.0 - &trust)?)?);
            from_teacher = (from_teacher * trust)?;
        }
        let scale = tau * tau * kl_scale;
        let terms = Terms::of("kl_teacher", alpha1 * scale, from_teacher)
            .plus("kl_natural_teacher", alpha2 * scale, tempered(f.logits("st_adv")?)?)
            .plus("ce_adv", 1.0 - alpha1 - alpha2, cross_entropy(s_adv, f.labels()?)?);
        Ok(match from_itself {
            Some(term) => terms.plus("kl_self", alpha1 * scale, term),
            None => terms,
        })
    }
}
