//! TRADES: natural cross-entropy plus the divergence between clean and adversarial predictions.
//!
//! Source: Zhang et al., "Theoretically Principled Trade-off between Robustness and Accuracy" (ICML
//! 2019) and its released code: the gradient flows through both arguments of the divergence, whose
//! target is a third train-mode forward, and the attack's target is the eval-mode prediction.

use super::{MethodEntry, ascend_kl, read, within};
use crate::error::Result;
use crate::method::{Forwards, Inner, Labels, Method, Plan, Point, Terms, Who, forward};
use rslad_attacks::losses::{cross_entropy, kl};
use serde::Deserialize;

pub(super) const ENTRY: MethodEntry = MethodEntry {
    name: "trades",
    about: "natural accuracy traded against consistency (Zhang et al. 2019)",
    outer: "CE(S(x), y) + beta KL(S(x) || S(x'))",
    inner: "KL(S(x) || S(x'))",
    keys: "beta (6)",
    build: |keys| {
        let method: Trades = read(keys)?;
        within("beta", method.beta, 0.0, 1000.0)?;
        Ok(Box::new(method))
    },
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Trades {
    beta: f64,
}

impl Method for Trades {
    fn plan(&self) -> Plan {
        Plan {
            labels: Labels::Read,
            before: vec![forward("s_eval", Who::FrozenStudent, Point::Nat)],
            after: vec![
                forward("s_nat", Who::Student, Point::Nat),
                forward("s_adv", Who::Student, Point::Adv),
                forward("s_target", Who::Student, Point::Nat),
            ],
        }
    }

    fn inner<'a>(&self, f: &'a Forwards) -> Result<Inner<'a>> {
        ascend_kl(f, "s_eval")
    }

    fn outer(&self, f: &Forwards) -> Result<Terms> {
        let ce = cross_entropy(f.logits("s_nat")?, f.labels()?)?;
        let divergence = kl(f.logits("s_target")?, f.logits("s_adv")?)?;
        Ok(Terms::one("ce_nat", ce).plus("kl_adv", self.beta, divergence))
    }
}
