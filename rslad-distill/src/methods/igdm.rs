//! IGDM on RSLAD: the student also learns how the teacher's answer changes along the perturbation.
//!
//! Source: Lee et al., "Indirect Gradient Matching for Adversarial Robust Distillation" (ICLR 2025), and
//! its term as released with SAAD (`igdm.py`): logits at x + d minus logits at x - d, d = x' - x, whose
//! distributions are compared by KL with a weight that grows linearly over the epochs. x - d is not
//! brought back into [0, 1], there as here.

use super::rslad::Rslad;
use super::{MethodEntry, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Method, Plan, Point, Progress, Terms, Who, forward};
use rslad_attacks::losses::kl;
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "igdm",
    about: "RSLAD with indirect gradient matching (Lee et al. 2025)",
    outer: "RSLAD + igdm_weight epoch/epochs KL(T(x+d) - T(x-d) || S(x+d) - S(x-d)), d = x' - x",
    inner: "KL(T(x) || S(x'))",
    keys: "alpha (5/6), kl_scale (1; released RSLAD: 0.1), igdm_weight (1 on CIFAR-10, 10 to 20 on CIFAR-100)",
    build: |keys| {
        let Keys { alpha, kl_scale, igdm_weight } = read(keys)?;
        within("igdm_weight", igdm_weight, 0.0, 1e6)?;
        Ok(Box::new(Igdm { base: Rslad::new(alpha, kl_scale)?, weight: igdm_weight }))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Keys {
    alpha: f64,
    kl_scale: f64,
    igdm_weight: f64,
}

struct Igdm {
    base: Rslad,
    weight: f64,
}

impl Method for Igdm {
    fn plan(&self) -> Plan {
        let mut plan = self.base.plan();
        plan.after.push(forward("s_mirror", Who::Student, Point::Along(-1.0)));
        plan.after.push(forward("t_adv", Who::Teacher, Point::Adv));
        plan.after.push(forward("t_mirror", Who::Teacher, Point::Along(-1.0)));
        plan
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        self.base.inner(f)
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let Progress { epoch, epochs } = f.progress();
        let weight = self.weight * epoch as f64 / epochs as f64;
        let student = (f.logits("s_adv")? - f.logits("s_mirror")?)?; // [N, K]
        let teacher = (f.logits("t_adv")? - f.logits("t_mirror")?)?;
        Ok(self.base.outer(f)?.plus("kl_change", weight, kl(&teacher, &student)?))
    }
}
